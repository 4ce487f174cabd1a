"""``realrun bundle``: doctor, calibrate and validate on a cluster, and one archive to share."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from realrun.cli import options
from sim.output.errors import UserError
from sim.output.options import AllowCode, allowed
from sim.output.show import checked_file, checked_folder
from sim.scenario.errors import listed

if TYPE_CHECKING:
    from realrun.validation.plan import Planned

_OUT = typer.Option(
    "--out", metavar="FOLDER", help="Where results go; FOLDER.tar.gz is the archive."
)
_NODES = typer.Option("--nnodes", metavar="N", help="How many machines there are.")
_NODE = typer.Option(
    "--node-rank", metavar="N", help="Which of them this is: 0 is the first, which writes."
)
_FIRST = typer.Option("--master-addr", metavar="HOST", help="Name or address of the first one.")
_PORT = typer.Option("--master-port", metavar="PORT", help="Where the first one listens.")
_TOO_HIGH = 65536


@dataclass(frozen=True)
class Place:
    """Which of how many machines this is, and where the first one listens."""

    nodes: int
    node: int
    first: str
    port: int


def bundle(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study with ask = validate.")],
    out: Annotated[Path, _OUT],
    nnodes: Annotated[int | None, _NODES] = None,
    node_rank: Annotated[int | None, _NODE] = None,
    master_addr: Annotated[str | None, _FIRST] = None,
    master_port: Annotated[int, _PORT] = 29500,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    timeout: options.Timeout = "300 s",
    allow_code: AllowCode = False,
) -> None:
    """Look at a cluster, calibrate it, predict a study, run it, and leave one archive to share.

    The same command is started on every machine with its own --node-rank, or by torchrun without
    these options; the first machine writes. It runs realrun doctor, calibrate and validate one
    after the other, and ends with a line where doctor finds that training cannot run. The same
    command again continues: what was measured is kept. The archive names no machine.

    Ends with 1 if an error is beyond the study's tolerance.
    """
    from realrun.bundle.packing import archive_of
    from realrun.validation.plan import check_workers, planned
    from sim.scenario import load_study
    from sim.scenario.loading import find

    rank = os.environ.get("RANK")
    timeout_s = options.checked_run(device, backend, timeout)
    source = allowed(study, allow_code) or study
    if rank is None:
        place = _place(nnodes, node_rank, master_addr, master_port)
    loaded = load_study(source)
    plan = planned(loaded)
    if (rank or str(node_rank)) == "0":
        checked_folder("--out", out)
        checked_file("--out", archive_of(out), (".tar.gz",))
    if rank is None:
        raise typer.Exit(_launched(place, plan))

    from realrun.bundle.making import Asked, make

    check_workers(plan, int(os.environ["WORLD_SIZE"]))

    def tell(text: str) -> None:
        typer.echo(f"realrun: {text}", err=True)
        sys.stderr.flush()

    given = {"--device": (device, "auto"), "--backend": (backend, "auto")}
    given["--timeout"] = (timeout, "300 s")
    measuring = [w for key, (value, usual) in given.items() if value != usual for w in (key, value)]
    of_all = ["--allow-code"] if allow_code else []
    path = find(source)[0]
    asked = Asked(study, path, loaded, plan, out, of_all, measuring, timeout_s)
    if status := make(asked, tell):
        raise typer.Exit(status)


def _place(
    nnodes: int | None, node_rank: int | None, master_addr: str | None, master_port: int
) -> Place:
    """Check which of the machines this is, and where the first one is.

    Raises
    ------
    UserError
        One line about the first option that is missing or wrong.
    """
    given = {"--nnodes": nnodes, "--node-rank": node_rank, "--master-addr": master_addr}
    missing = [option for option, value in given.items() if value is None]
    if nnodes is None or node_rank is None or master_addr is None:
        raise UserError(
            f"{missing[0]}: missing; on each of two machines, N being 0 on the first: realrun "
            "bundle STUDY --out FOLDER --nnodes 2 --node-rank N --master-addr FIRST"
        )
    if nnodes < 1:
        raise UserError(f"--nnodes: {nnodes}: must be at least 1")
    if not 0 <= node_rank < nnodes:
        raise UserError(f"--node-rank: {node_rank}: must be 0 to {nnodes - 1}, of --nnodes")
    if not 0 < master_port < _TOO_HIGH:
        raise UserError(f"--master-port: {master_port}: must be 1 to {_TOO_HIGH - 1}")
    return Place(nnodes, node_rank, master_addr, master_port)


def _launched(place: Place, plan: Sequence[Planned]) -> int:
    """Start this machine's share of the workers; return the status.

    Raises
    ------
    UserError
        If the workers of the study cannot be shared out equally.
    """
    from realrun.processes.launch import launch

    counts = sorted({each.workers for each in plan})
    workers = counts[0]
    if len(counts) > 1 or workers % place.nodes:
        said = listed([str(count) for count in counts], "and")
        raise UserError(
            f"--nnodes: {place.nodes}: the study's configurations have {said} workers or "
            "accelerators, which are not shared out equally; change the study, or use torchrun"
        )
    here = workers // place.nodes
    environment = {
        "MASTER_ADDR": place.first,
        "MASTER_PORT": str(place.port),
        "GROUP_RANK": str(place.node),
    }
    first = here * place.node
    return launch(sys.argv[1:], here, environment=environment, first_rank=first, in_all=workers)
