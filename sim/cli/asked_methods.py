"""``--methods``: one scenario per method, as several commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from sim.output.errors import UserError, chosen
from sim.output.options import Asked

if TYPE_CHECKING:
    from sim.scenario import Scenario

METHODS_OPTION = typer.Option(
    "--methods",
    metavar="A,B,C",
    help="Methods to compare; bandwise methods lists them.",
    rich_help_panel="Method",
)


def cases_of(asked: Asked, methods: str) -> dict[str, Scenario]:
    """Return a scenario for each method; arguments are for those methods that take them.

    Parameters
    ----------
    asked
        The scenario, and options and settings laid over it.
    methods
        Names, separated by commas.

    Raises
    ------
    UserError, ScenarioError
        If there is no such method, or the scenario cannot be.
    """
    from sim.methods import METHODS
    from sim.scenario import ScenarioError, sweep

    names = list(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        if ":" not in name:
            chosen("--methods", name, METHODS)
    over = f"method.name={','.join(names)}"
    try:
        study = sweep(asked.source, asked.options, asked.settings, over=[over], single=True)
    except ScenarioError as error:
        raise UserError(str(error).replace("--over method.name", "--methods")) from error
    return {case.scenario.method.name: case.scenario for case in study.cases()}
