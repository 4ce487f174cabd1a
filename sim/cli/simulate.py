"""``bandwise simulate``: one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.cli.sensitivity import Sensitivity, Tornado, draw
from sim.cli.sensitivity import asked as sensitivity_asked
from sim.output.effort import foresee
from sim.output.errors import UserError, naming
from sim.output.html_option import Html, write_page
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.run_report import report
from sim.output.show import checked_file, show, tell
from sim.output.tables import format_asked
from sim.output.traces import TRACES, logged, ranks_asked, written

_TRACE = typer.Option(
    "--trace",
    metavar="FILE",
    help="Write what happened: .parquet or .csv for plot and --replay, .json or .json.gz for "
    "Perfetto.",
    rich_help_panel="Output",
    show_default=False,
)
_TRACE_RANKS = typer.Option(
    "--trace-ranks",
    metavar="0,17",
    help="Write the rows of these workers only. Without it, --trace has a row for every operation "
    "of every worker, or, of a run whose workers are simulated one by one and are 512 or more, "
    "what the workers of each class did.",
    rich_help_panel="Output",
    show_default=False,
)
_REPLAY = typer.Option(
    "--replay",
    metavar="TRACE",
    help="Repeat the observations of a trace instead of looking at the virtual clock.",
    rich_help_panel="Run",
    show_default=False,
)


@takes_scenario()
def simulate(
    asked: Asked,
    replay: Annotated[Path | None, _REPLAY] = None,
    trace: Annotated[Path | None, _TRACE] = None,
    trace_ranks: Annotated[str | None, _TRACE_RANKS] = None,
    html: Html = None,
    sensitivity: Sensitivity = None,
    tornado: Tornado = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Predict one run: time, utilization, where the time goes.

    Nothing is trained. Every option sets one key of a scenario file; what is not given is
    assumed, and listed.
    """
    from sim.scenario import load

    form = format_asked(form, as_json)
    if trace is not None:
        checked_file("--trace", trace, TRACES)
    sensitivity = sensitivity_asked(sensitivity, tornado)
    if sensitivity and replay is not None:
        raise UserError(
            "--replay: repeats one run, of which nothing can be changed (--sensitivity)"
        )
    if trace is None and trace_ranks is not None:
        raise UserError("--trace-ranks: goes with --trace")
    scenario = load(asked.source, asked.options, asked.settings, single=True)
    ranks = None if trace_ranks is None else ranks_asked(trace_ranks, len(scenario.workers))

    from sim.output.html_pictures import of_run
    from sim.output.lever_lines import with_levers
    from sim.questions.in_step import runs, warned
    from sim.questions.levers import levers, within
    from sim.questions.replications import predicted
    from sim.questions.unasked import alternatives

    foresee(runs(scenario) if replay is None else [scenario])
    observed = None if replay is None else logged(replay)
    with naming(scenario.method.name):
        prediction = predicted(scenario, replay=observed)
    about = report(
        scenario if replay is not None else warned(scenario, prediction),
        prediction.figures,
        interval=prediction.interval,
        alternatives=[] if replay is not None else alternatives(scenario, prediction),
    )
    within_s = None if replay is not None else within(sensitivity)
    if within_s is not None:
        found = levers(scenario, base=prediction, within_s=within_s)
        about = with_levers(about, found, scenario.method.name)
    if trace is not None:
        try:
            what = written(prediction.trace, trace, ranks)
        except (OSError, UserError):
            show(about, form)  # which was computed, whatever became of the file
            raise
        tell(f"bandwise: wrote {trace}{what}")
    show(about, form)
    write_page(html, about, lambda: of_run(about.data, lambda: prediction.trace))
    if tornado is not None:
        draw(about, tornado)
