"""What a program of ours is: finds a command, runs it, and turns what went wrong into one line.

``bandwise`` and ``realrun`` are two of them.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any, ClassVar, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from sim.output.errors import Interrupted, UserError, as_line, did_you_mean
from sim.processes.signals import status_when_asked
from sim.text.visible import visible

INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended
COMMAND = "command"  # the parameter that takes what follows --
SETTINGS = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """A command whose help and errors read as the rest of ours do."""

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; a flag has no type to show."""
        return _without_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse; click forgets to say in which command a value was missing.

        Where a command has a parameter of the name COMMAND, that is what follows ``--``, as it was
        typed; None where there is no ``--``.
        """
        given, after = list(args), None
        takes = any(parameter.name == COMMAND for parameter in self.params)
        if takes and "--" in given:
            at = given.index("--")
            args, after = given[:at], given[at + 1 :]
            if not after:
                raise UserError(
                    "there is no command after --; write it like: "
                    f"{ctx.command_path} ... -- python train.py"
                )
        try:
            rest = super().parse_args(ctx, args)
        except Exception as error:
            error.given = given  # type: ignore[attr-defined]
            if getattr(error, "ctx", ctx) is None:
                error.ctx = ctx  # type: ignore[attr-defined]
            two = [word for word in given[:2] if not word.startswith("-")]
            if takes and after is None and len(two) == 2 and hasattr(error, "option_name"):
                raise UserError(_without_dashes(two[1], ctx)) from None
            raise
        if takes:
            if ctx.params[COMMAND]:
                raise UserError(_without_dashes(ctx.params[COMMAND][0], ctx))
            ctx.params[COMMAND] = after
        return rest


def _without_dashes(word: str, ctx: Any) -> str:
    return f'unexpected "{word}"; a program to run goes after --: {ctx.command_path} ... -- {word}'


def _without_types(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Group(TyperGroup):
    """Commands that are imported only when they are called; each program extends it."""

    program: ClassVar[str]
    package: ClassVar[str]
    #: Command -> its summary; each is a function of that name in the module of that name.
    summaries: ClassVar[dict[str, str]]
    panel_of: ClassVar[dict[str, str]] = {}

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters; a flag has no type to show."""
        return _without_types(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names, in the order of the help."""
        return list(self.summaries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command's outside: what a list of commands shows."""
        if cmd_name not in self.summaries:
            return None
        return TyperCommand(
            name=cmd_name,
            help=self.summaries[cmd_name],
            rich_help_panel=self.panel_of.get(cmd_name),
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that is called."""
        name = args[0]
        known = self.summaries
        if name not in known:
            listed = f"; the commands are {', '.join(known)}"
            raise UserError(f'no such command "{name}"{did_you_mean(name, known, listed)}')
        return name, _load(self.package, name), args[1:]

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C is an error that says so."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> NoReturn:
        """Run and exit; silently when nobody reads the output any more."""
        try:
            sys.exit(self._status(args, **options))
        except BrokenPipeError:
            _leave_pipe()
        except SystemExit as end:
            # rich and Typer end with a status of their own where nobody reads.
            if isinstance(end.__context__, BrokenPipeError):
                _leave_pipe()
            raise

    def _status(self, args: Sequence[str] | None, **options: Any) -> int:
        """Run; a mistake of the user's is one line on standard error."""
        _open_streams(self.program)
        options.update(args=args, prog_name=self.program, standalone_mode=False)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that cannot show a sign shows "?"
                stream.reconfigure(errors="replace")
        try:
            status = super().main(**options)
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except (KeyboardInterrupt, typer.Abort):
            status = INTERRUPTED
        except Interrupted as error:
            typer.echo(visible(f"{self.program}: {error}"), err=True)
            return INTERRUPTED
        except Exception as error:
            line = as_line(error)
            if line is not None:
                self.tell(error, line)
                return 2
            status = _status_when_asked(error)
            if status is None:
                raise
        if status == INTERRUPTED:
            typer.echo(f"{self.program}: interrupted", err=True)
        return status if isinstance(status, int) else 0

    def tell(self, error: Exception, line: str) -> None:
        """Say what the user did wrong."""
        typer.echo(visible(f"{self.program}: error: {line}"), err=True)


def _status_when_asked(error: BaseException) -> Any:
    """Return the status of Ctrl-C or a signal that came before an error; None without.

    Cleaning up may fail where it came: matplotlib does in the middle of drawing, and its code in C
    loses what came before.
    """
    before = error.__context__
    while before is not None and not isinstance(before, KeyboardInterrupt | SystemExit):
        before = before.__context__
    if before is None:
        return status_when_asked()
    return INTERRUPTED if isinstance(before, KeyboardInterrupt) else before.code


def _open_streams(program: str) -> None:
    """Refuse to run without a standard output; what is said without standard error is lost.

    A number that is closed would be given to the next file that is opened, which would then get
    what is printed.
    """
    if sys.stdin is None:
        _take_over(0)
    if sys.stderr is None:
        _take_over(2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if sys.stdout is None:
        typer.echo(f"{program}: error: standard output is closed; add > /dev/null", err=True)
        sys.exit(2)


def _take_over(number: int) -> None:
    handle = os.open(os.devnull, os.O_RDWR)
    if handle != number:
        os.dup2(handle, number)
        os.close(handle)


def _leave_pipe() -> NoReturn:
    """End silently: nobody reads the output any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            # What is still buffered goes nowhere, or the interpreter complains when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(BROKEN_PIPE)


def _load(package: str, name: str) -> Any:
    module = importlib.import_module(f"{package}.{name}")
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=SETTINGS)
    function = getattr(module, name)
    # Lines of a docstring are not lines of the help, paragraphs are.
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    alone.command(name, cls=Command, help=text)(function)
    return typer.main.get_command(alone)
