"""What ``required`` answers: the bandwidth, or the other quantity that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.output.effort import foresee
from sim.output.errors import naming
from sim.output.requirement_report import check_link, report

if TYPE_CHECKING:
    from sim.output.tables import Report
    from sim.questions.quantities import Quantity
    from sim.records.scenario import Scenario


def answer(
    scenario: Scenario,
    targets: Sequence[float],
    quantity: Quantity | None,
    link: str | None,
    option: str,
) -> Report:
    """Search a quantity for each target and report it.

    Parameters
    ----------
    scenario, targets
        What runs, and the compute utilizations to reach.
    quantity
        What to find; None is the bandwidth.
    link
        The link whose bandwidth it is; None is all in proportion.
    option
        What the user calls ``link``, for messages.

    Raises
    ------
    UserError
        If there is no such link, the search does not fit into memory, or the scenario has no
        such quantity.
    """
    if quantity is not None:
        from sim.output.quantity_report import report as report_of
        from sim.questions.quantity_search import search

        foresee([scenario], runs=quantity.range_in(scenario).runs * len(targets))
        with naming(scenario.method.name):
            found = search(scenario, targets, quantity)
        return report_of(scenario, found, quantity)
    from sim.questions.target_search import SEARCHED, required

    check_link(scenario, link, option)
    foresee([scenario], runs=SEARCHED * len(targets))
    with naming(scenario.method.name):
        answers = required(scenario, targets, link)
    return report(scenario, answers, link)
