"""Options of commands whose runs may be computed elsewhere, and what they do then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.output.effort import foresee
from sim.output.errors import Interrupted, UserError, chosen
from sim.output.html_option import PageFile
from sim.output.show import progress, tell
from sim.processes.cores import cores_allowed

if TYPE_CHECKING:
    from sim.processes.engines import Engine
    from sim.scenario import Study

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="local|dask|ray",
        help="Where the runs are computed: processes of this machine, or a Dask or Ray cluster. "
        "Results then go to part-*.parquet in --out as they come, and are not printed.",
        rich_help_panel="Cluster",
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Of Dask's scheduler, or of Ray's head; by default the Ray cluster of this machine.",
        rich_help_panel="Cluster",
        show_default=False,
    ),
]


EngineOfPlan = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="local|dask|ray",
        help="Where settings are simulated, several at a time: processes of this machine, or a "
        "Dask or Ray cluster. What is found is the same.",
        rich_help_panel="Cluster",
        show_default=False,
    ),
]


def check_engine(backend: str | None, address: str | None) -> None:
    """Refuse a backend that does not exist, and an address that does not go with it.

    Raises
    ------
    UserError
        Naming the option.
    """
    from sim.processes.engines import BACKENDS

    if backend is not None:
        chosen("--backend", backend, dict.fromkeys(BACKENDS))
    if backend in (None, "local") and address is not None:
        raise UserError("--address: goes with --backend dask or --backend ray")
    if backend == "dask" and address is None:
        raise UserError(
            "--backend dask: needs --address, that of the scheduler, like tcp://10.0.0.1:8786"
        )


def check_backend(
    backend: str | None, address: str | None, out: Path | None, html: PageFile | None
) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    UserError
        Naming the option.
    """
    check_engine(backend, address)
    if backend is None:
        return
    if out is None:
        raise UserError("--backend: needs --out, the folder that the results are streamed to")
    if html is not None:
        raise UserError("--html: goes without --backend, which prints no results")


@contextmanager
def opened(
    backend: str | None, address: str | None, again: str, jobs: int | None = None
) -> Iterator[Engine | None]:
    """Open an engine; None where no backend was asked for.

    Parameters
    ----------
    again
        What the same command does if the engine gives up.
    jobs
        Processes, for "local"; by default one per core.

    Raises
    ------
    UserError
        If the engine is not reached or gives up.
    """
    from sim.processes.engines import EngineError, EngineLostError, engine

    if backend is None:
        yield None
        return
    try:
        with engine(backend, address, jobs or cores_allowed()) as on:
            yield on
    except EngineLostError as error:
        raise UserError(f"--backend {backend}: {error}; {again}") from error
    except EngineError as error:
        raise UserError(f"--backend {backend}: {error}") from error


def streamed(
    study: Study, out: Path, backend: str, address: str | None, jobs: int | None, what: str
) -> None:
    """Run a study on an engine with a progress bar, and say where the parts are.

    Raises
    ------
    UserError
        If the engine is not reached or gives up.
    Interrupted
        After Ctrl-C.
    """
    from sim.questions.streamed_study import stream

    again = "the same command continues from here, on another --backend too"
    if backend == "local":
        total = len(study.combinations) * len(study.grid or (1,))
        foresee([study.base], runs=total, jobs=jobs or cores_allowed())
    try:
        with opened(backend, address, again, jobs) as on, progress(what) as step:
            assert on is not None
            total = stream(study, out, on, step, lambda line: tell(f"bandwise: {line}"))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {again}") from None
    tell(f"bandwise: {total} runs are in {out}, in part-*.parquet")
