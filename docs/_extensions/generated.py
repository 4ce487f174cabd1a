"""Pages of the reference that follow from the code: a line ``<!-- generated: NAME -->`` is filled.

Each part is a function that returns Markdown. One that finds something without a sentence ends the
build, so nothing can be added to the code that the reference does not explain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import typer
from pydantic import BaseModel, PlainValidator
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from sim.cli.app import app as bandwise
from sim.cli.methods import described
from sim.methods import METHODS
from sim.output import columns
from sim.scenario import hardware
from sim.scenario.fields import RefusedError
from sim.scenario.nodes import NODES
from sim.scenario.options import OPTIONS
from sim.scenario.schema import OF_A_SITE, SECTIONS
from sim.scenario.signatures import arguments
from sim.scenario.study_section import StudySection
from sim.trace import table as trace
from sim.units import UnitError

MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)


def explained(name: str, text: str | None) -> str:
    """Return a text that the reference needs.

    Raises
    ------
    ExtensionError
        If it is empty.
    """
    if not text or not text.strip():
        raise ExtensionError(f"{name} has no sentence that says what it means")
    return " ".join(text.split())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def code(text: str) -> str:
    """Return a text in the font of code."""
    return f"`{text}`" if text else ""


def readers(annotation: Any) -> Iterable[Callable[[object], Any]]:
    """Yield the readers inside an annotation."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, PlainValidator):
            yield extra.func  # type: ignore[misc]
    for part in getattr(annotation, "__args__", ()):
        yield from readers(part)


# How a quantity is written -> the unit in which it is kept.
UNITS = {
    '"30 ms"': "seconds",
    '"1 Gbit/s"': "bytes/s",
    '"25 MiB"': "bytes",
    '"95 %"': "a fraction of 1",
    '"989 TFLOP/s"': "FLOP/s",
}


def written(section: type[BaseModel], name: str) -> str:
    """Say how a key is written: what its own error message says of another value."""
    field = section.model_fields[name]
    found = [*readers(field.annotation)]
    found += [each.func for each in field.metadata if isinstance(each, PlainValidator)]
    for read in found:
        try:
            read(None)
        except (RefusedError, UnitError) as error:
            text = str(error).removeprefix("must be ").removeprefix("written ")
            unit = UNITS.get(text.removeprefix("like "))
            text += f"; kept in {unit}" if unit and unit[0] != "a" else ""
            text += f"; kept as {unit}" if unit and unit[0] == "a" else ""
            return f"{text}; or a matrix" if "Matrix" in str(field.annotation) else text
    return "true or false" if field.annotation in (bool, bool | None) else "a table"


def keys_of(path: tuple[str, ...], section: type[BaseModel]) -> str:
    """Return a table of the keys of a section."""
    rows = []
    for name, field in section.model_fields.items():
        if (*path, name) in SECTIONS and (*path, name) not in OF_A_SITE:
            continue  # a section of its own
        key = ".".join((*path, name))
        extra = field.json_schema_extra
        default = str(extra["default"]) if isinstance(extra, Mapping) else ""
        meaning = explained(key, field.description)
        rows.append((code(key), written(section, name), explained(key, default), meaning))
    return table(("key", "written", "default", "meaning"), rows)


def scenario_keys() -> str:
    """Return a table of keys for every section of a scenario file."""
    parts = []
    for path, section in SECTIONS.items():
        title = f"[{'.'.join(path)}]" if path else "Outside of all sections"
        title = "[[site]]" if path == ("site",) else title
        title = f"{path[1]}, a table in [[site]]" if path in OF_A_SITE else title
        said = explained(title, section.__doc__)
        said = said.rpartition("]: ")[2].rpartition(" }: ")[2]
        parts.append(f"## {title}\n\n{said[:1].upper()}{said[1:]}\n\n{keys_of(path, section)}")
    return "\n\n".join([*parts, data_keys(), study_keys()])


def nodes() -> str:
    """Return a table of the nodes that are known by name."""
    rows = [
        (
            code(name),
            f"{node.accelerators} x {node.kind}" if node.kind else str(node.accelerators),
            node.within,
            node.between,
            explained(name, node.source),
        )
        for name, node in NODES.items()
    ]
    return table(("node", "per_node", "within_node", "between_nodes", "source"), rows)


def data_keys() -> str:
    """Return the further keys of [data], by kind."""
    from realrun.data.keys import COMMON, DEFAULTS, KEYS, MEANINGS, READERS

    rows = []
    for name, read in READERS.items():
        takes = "all" if name in COMMON else ", ".join(kind for kind in KEYS if name in KEYS[kind])
        default = DEFAULTS.get(name, "needed")
        try:
            read(None)
            text = ""
        except (RefusedError, UnitError) as error:
            text = str(error).removeprefix("must be ").removeprefix("written ")
        meaning = explained(f"data.{name}", MEANINGS.get(name))
        shown = "16 x model.context + 1" if name == "block_tokens" else str(default).lower()
        rows.append((code(f"data.{name}"), takes, text, code(shown), meaning))
    return "## Keys of the kinds of data\n\n" + table(
        ("key", "kinds", "written", "default", "meaning"), rows
    )


def study_keys() -> str:
    """Return a table of the keys of [study]."""
    return (
        "## [study]\n\nWhat is asked of many runs, in a study file. `bandwise study` and "
        "`realrun validate` read it.\n\n" + keys_of(("study",), StudySection)
    )


HARDWARE: dict[str, type[BaseModel]] = {
    "[calibration]": hardware.Calibration,
    "[machine.NAME]": hardware.MachineRecord,
    "[link.NAME]": hardware.LinkRecord,
    "[[link.NAME.collective]]": hardware.CollectiveRecord,
}


def hardware_keys() -> str:
    """Return a table of keys for every section of a hardware file."""
    parts = []
    for title, record in HARDWARE.items():
        rows = []
        for name, field in record.model_fields.items():
            if name == "collective":
                continue  # a section of its own
            shown = field.alias or name
            needed = "yes" if field.is_required() else ""
            meaning = explained(f"{title} {shown}", field.description)
            rows.append((code(shown), needed, meaning))
        parts.append(f"## {title}\n\n" + table(("key", "needed", "meaning"), rows))
    return "\n\n".join(parts)


def method_arguments() -> str:
    """Return a table of arguments for every method."""
    parts = []
    for name, program in METHODS.items():
        found = described(name, program)
        rows = [
            (
                code(each.name),
                each.default,
                each.allowed,
                explained(f"{name}: {each.name}", each.meaning),
            )
            for each in arguments(program)
        ]
        source = "; ".join(
            f"{who}, [arXiv:{number}](https://arxiv.org/abs/{number})"
            for who, number in found.papers
        )
        parts.append(
            f"## {name}\n\n{explained(name, found.summary)} Source: {explained(name, source)}.\n\n"
            + table(("argument", "default", "may be", "meaning"), rows)
        )
    return "\n\n".join(parts)


def listed(meanings: Mapping[str, str]) -> str:
    """Return a table of columns."""
    return table(
        ("column", "holds"),
        [(code(name), explained(name, text)) for name, text in meanings.items()],
    )


def trace_columns() -> str:
    """Return the columns of a trace."""
    return listed(trace.MEANINGS)


def result_columns() -> str:
    """Return the columns that all results have."""
    return listed(columns.RUNS)


def study_columns() -> str:
    """Return those of results of a study alone."""
    return listed(columns.STUDY)


def plan_columns() -> str:
    """Return those of the tables of a plan."""
    return listed(columns.PLAN)


def one_run_columns() -> str:
    """Return those of one run alone."""
    return listed(columns.ONE_RUN)


def validation_columns() -> str:
    """Return those of a validation."""
    from realrun.validation.rows import MEANINGS

    return listed(MEANINGS)


SHARED = ("SCENARIO", "--set", "--allow-code", *OPTIONS)


def row_of(whose: str, parameter: Any) -> tuple[str, str, str]:
    """Return an option's or argument's names, what it takes and what it means."""
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = parameter.metavar or ""
    if parameter.param_type_name == "argument":
        names, value = value or names, ""
    said = explained(f"{whose} {names}", getattr(parameter, "help", ""))
    return names, value, said


def commands_of(app: typer.Typer) -> str:
    """Return a table of arguments and options for every command of a program."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name in group.summaries:
        _, command, _ = group.resolve_command(None, [name])
        rows = [row_of(f"{group.program} {name}", parameter) for parameter in command.params]
        names = {row[0] for row in rows}
        text = explained(name, command.help)
        if len(names.intersection(SHARED)) > len(SHARED) / 2:
            rows = [row for row in rows if row[0] not in SHARED]
            missing = [f"`{option}`" for option in SHARED if option not in names]
            text += " Takes the arguments and options that describe a scenario"
            text += f", without {', '.join(missing)}." if missing else "."
        options = [(code(option), code(value), said) for option, value, said in rows]
        shown = table(("option", "value", "meaning"), options) if options else ""
        parts.append(f"## {group.program} {name}\n\n{text}\n\n{shown}")
    return "\n\n".join(parts)


def scenario_options() -> str:
    """Return the arguments and options that describe a scenario, in every command that has them."""
    group: Any = typer.main.get_command(bandwise)
    _, command, _ = group.resolve_command(None, ["simulate"])
    rows = [row_of("bandwise simulate", parameter) for parameter in command.params]
    shared = [(code(names), code(value), said) for names, value, said in rows if names in SHARED]
    return table(("option", "value", "meaning"), shared)


def bandwise_commands() -> str:
    """Return the options of bandwise."""
    return commands_of(bandwise)


def realrun_commands() -> str:
    """Return the options of realrun."""
    from realrun.cli.app import app

    return commands_of(app)


PARTS: dict[str, Callable[[], str]] = {
    "scenario-keys": scenario_keys,
    "nodes": nodes,
    "hardware-keys": hardware_keys,
    "method-arguments": method_arguments,
    "trace-columns": trace_columns,
    "result-columns": result_columns,
    "study-columns": study_columns,
    "plan-columns": plan_columns,
    "one-run-columns": one_run_columns,
    "validation-columns": validation_columns,
    "scenario-options": scenario_options,
    "bandwise-commands": bandwise_commands,
    "realrun-commands": realrun_commands,
}


def fill(_: Sphinx, page: str, source: list[str]) -> None:
    """Put the generated parts into a page."""

    def part(match: re.Match[str]) -> str:
        if match[1] not in PARTS:
            raise ExtensionError(
                f"{page}: no generated part {match[1]}; there are {', '.join(PARTS)}"
            )
        return PARTS[match[1]]()

    source[0] = MARK.sub(part, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx to fill the pages."""
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
