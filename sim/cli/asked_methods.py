"""``--methods``: one scenario per method, as several commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sim.output.errors import UserError, chosen
from sim.output.options import Asked

if TYPE_CHECKING:
    from sim.scenario import Scenario
    from sim.scenario.document import Document

METHODS_OPTION = typer.Option(
    "--methods",
    metavar="A,B,C",
    help="Methods to compare; bandwise methods lists them.",
    rich_help_panel="Method",
)


def document_asked(asked: Asked) -> Document:
    """Return the scenario with options and settings laid over it, read once.

    Raises
    ------
    ScenarioError
        If it cannot be read, or is a study.
    """
    from sim.scenario.loading import document_of, refuse_study

    document = document_of(asked.source, asked.options, asked.settings)
    refuse_study(document, asked.source)
    return document


def cases_of(document: Document, methods: str) -> dict[str, Scenario]:
    """Return a scenario for each method; arguments are for those methods that take them.

    Parameters
    ----------
    document
        What :func:`document_asked` returns.
    methods
        Names, separated by commas.

    Raises
    ------
    UserError, ScenarioError
        If there is no such method, or the scenario cannot be.
    """
    from sim.methods import METHODS
    from sim.scenario import ScenarioError
    from sim.scenario.study import by_method

    names = list(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        if ":" not in name:
            chosen("--methods", name, METHODS)
    try:
        return by_method(document, names, again=False)
    except ScenarioError as error:
        raise UserError(str(error).replace("method: ", "--methods: ", 1)) from error
