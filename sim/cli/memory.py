"""``bandwise memory``: bytes per accelerator, by part."""

from __future__ import annotations

from typing import Annotated

from sim.cli.asked_methods import METHODS_OPTION, cases_of, document_asked
from sim.methods import METHODS
from sim.output.errors import naming_one_of
from sim.output.html_option import Html, write_page
from sim.output.html_pictures import of_memory
from sim.output.memory_report import report
from sim.output.options import Asked, Format, Json, takes_scenario
from sim.output.show import show
from sim.output.tables import format_asked

DEFAULT = ",".join(METHODS)


@takes_scenario(leaving_out=["--method"])
def memory(
    asked: Asked,
    methods: Annotated[str, METHODS_OPTION] = DEFAULT,
    html: Html = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Count the bytes that each method needs on an accelerator.

    Weights, gradients, optimizer, outer state, buffers in flight and an estimate of activations,
    for a worker of each kind of site, and in all under ZeRO-1, ZeRO-2 and ZeRO-3. Nothing is
    simulated.
    """
    form = format_asked(form, as_json)
    cases = cases_of(document_asked(asked), methods)
    with naming_one_of(cases):
        about = report(cases)
    show(about, form)
    write_page(html, about, lambda: of_memory(about.data))
