"""The program: finds a command, runs it, and turns what went wrong into one line."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import Annotated, ClassVar, NoReturn

import typer

from realrun.errors import AgreedError, RunError, of_rank
from realrun.processes.launch import end_with_parent, report
from sim.output.program import Group
from sim.processes.signals import end_when_asked

COMMANDS = {
    "train": "Train a scenario's model with its method, and measure.",
    "lab": "Train, or run any command, over the scenario's network, emulated on this machine.",
    "record": "Record any torch.distributed program, to replay it on any network.",
    "calibrate": "Measure a machine and its network for the simulator.",
    "validate": "Predict a study's runs, run them, and publish the error.",
    "doctor": "Look whether this machine or cluster is ready.",
    "bundle": "Doctor, calibrate and validate on a cluster; one archive of the results.",
}

WELCOME = """\
realrun: run on torch.distributed what bandwise simulates.

Train the quick start's model on this machine, two processes, a minute or two:
  realrun train quick_start

The same over its network, with limited bandwidth and added latency (Linux, root):
  realrun lab quick_start

A program of your own over that network, once per worker:
  realrun lab quick_start -- python train.py

Is this machine ready, and for this scenario?
  realrun doctor quick_start

On a cluster torchrun starts the processes:
  torchrun --nnodes 2 --nproc-per-node 8 ... -m realrun train SCENARIO

realrun COMMAND -h lists the options."""


class Realrun(Group):
    """The commands of realrun."""

    program: ClassVar[str] = "realrun"
    package: ClassVar[str] = "realrun.cli"
    summaries: ClassVar[dict[str, str]] = COMMANDS

    def tell(self, error: Exception, line: str) -> None:
        """Say what went wrong.

        A launcher chooses what one of its workers says. Under torchrun rank 0 speaks, each rank
        with a reason of its own, and the first of each machine, where something may be missing.
        """
        rank = os.environ.get("RANK")
        if rank is None:
            super().tell(error, line)
            return
        agreed = isinstance(error, AgreedError)
        own = isinstance(error, RunError) or os.environ.get("LOCAL_RANK") == "0"
        if not report(error, line, int(rank)) and (rank == "0" or (own and not agreed)):
            common = agreed or not isinstance(error, RunError)  # what rank 0 says of all
            super().tell(error, line if rank == "0" and common else of_rank(int(rank), line))
        sys.stderr.flush()
        os._exit(2)  # at once: a thread may be in a collective that never ends


app = typer.Typer(
    cls=Realrun,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def _realrun(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Measure: the programs that bandwise simulates, run on torch.distributed."""
    if version:
        from sim import __version__

        typer.echo(f"realrun {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(WELCOME)


def main() -> NoReturn:
    """Run ``realrun`` with the arguments of the command line."""
    if find_spec("torch") is None and sys.argv[1:2] != ["doctor"]:  # it says what else is missing
        sys.exit('realrun: error: torch is not installed; pip install "bandwise[realrun]"')
    # What its C++ half logs when a peer is lost is forty lines; we say it in one.
    if "--" not in sys.argv:  # what follows is a program of the user's, which may say what it likes
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    end_with_parent()
    if "RANK" in os.environ:
        _work()
    end_when_asked("realrun")  # a worker is ended by who started it
    app()
    raise AssertionError("Group.main exits")


def _work() -> NoReturn:
    """Run a worker's command, and end the process without taking the interpreter apart.

    gloo's threads outlive ``destroy_process_group`` where anything still refers to a group, and
    the one that carried out the last collective may have tensors of Python's to let go of. A
    thread that asks for the interpreter while that is being taken apart is ended inside C++,
    which ends the process by SIGABRT.
    """
    status = 1  # of an error that prints a traceback

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
        os._exit(status)

    atexit.register(leave)  # the first to be registered is the last to be called
    try:
        app()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        raise
    raise AssertionError("Group.main exits")
