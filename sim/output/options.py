"""Options that commands share: a scenario's keys, what to print and in which format."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

SCENARIO = typer.Argument(
    metavar="SCENARIO",
    help="A scenario file, or the name of one that comes along (bandwise scenarios). "
    "Without it, the options say all.",
    show_default=False,
)
SETTING = typer.Option(
    "--set",
    metavar="KEY=VALUE",
    help="Set any key of a scenario file, like --set site.osaka.step_time=3s. Repeatable.",
    show_default=False,
)
ALLOW_CODE = typer.Option(
    "--allow-code",
    help="Import the modules that a scenario names (a method, a model) also where its file is not "
    "in or below this folder. They are programs: only for files that you trust.",
)
FORMAT = typer.Option(
    "--format",
    metavar="FORMAT",
    help="table, markdown, csv or json.",
    rich_help_panel="Output",
)
JSON = typer.Option("--json", help="Short for --format json.", rich_help_panel="Output")

Format = Annotated[str, FORMAT]
Json = Annotated[bool, JSON]
AllowCode = Annotated[bool, ALLOW_CODE]


@dataclass(frozen=True)
class Asked:
    """What the user gave to describe a scenario, as raw text; the arguments of ``load``."""

    source: str | None
    options: dict[str, str]
    settings: list[str]


def takes_scenario(
    *, leaving_out: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the scenario argument, an option per key, and ``--set``.

    The command's first parameter receives them as :class:`Asked`. Values stay raw text:
    the scenario package reads them and words the errors.

    Parameters
    ----------
    leaving_out
        Options that would make no sense for this command.
    """
    from sim.scenario import OPTIONS

    shown = {name: option for name, option in OPTIONS.items() if name not in leaving_out}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            options = {name: values.pop(_identifier(name)) for name in shown}
            given = {name: text for name, text in options.items() if text is not None}
            source = allowed(values.pop("scenario"), values.pop("allow_code"))
            settings = values.pop("settings") or []
            if values.get("html") is not None:  # before the work: files may be edited meanwhile
                values["html"] = values["html"].of(source, given, settings)
            command(Asked(source, given, settings), **values)

        hints = get_type_hints(command, include_extras=True)
        own = list(inspect.signature(command).parameters.values())[1:]
        parameters = [
            _parameter("scenario", Annotated[str | None, SCENARIO]),
            _parameter("settings", Annotated[list[str] | None, SETTING]),
            _parameter("allow_code", AllowCode).replace(default=False),
        ]
        for name, option in shown.items():
            info = typer.Option(
                name,
                metavar=option.hint,
                help=option.help,
                rich_help_panel=option.panel,
                show_default=False,
            )
            parameters.append(_parameter(_identifier(name), Annotated[str | None, info]))
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [p.replace(annotation=hints[p.name], kind=keyword) for p in own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate


def allowed(source: str | None, allow_code: bool) -> str | None:
    """Return a scenario's file or name, with leave to import what it names if that was given."""
    from sim.scenario import Allowed

    return Allowed(source) if allow_code and source is not None else source


def _identifier(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _parameter(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )
