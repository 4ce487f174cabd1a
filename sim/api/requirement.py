"""``required``: the bandwidth, or another quantity, that a target utilization needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.api.calls import CallError, ValueRefusedError, called
from sim.api.results import Result, provenance, telling
from sim.api.scenarios import Scenario, checked
from sim.api.wording import told

if TYPE_CHECKING:
    from sim.output.html_blocks import Picture


@dataclass(frozen=True, repr=False, eq=False)
class RequirementResult(Result):
    """What each target needs: ``frame()`` has a row per target, of a bandwidth also per link."""

    def _pictures(self) -> Sequence[Picture]:
        from sim.output.html_pictures import of_targets

        return of_targets(self.figures)


@called
def required(
    scenario: Scenario,
    target: float | str | Iterable[float | str] = (0.5, 0.9, 0.95),
    *,
    link: str | None = None,
    of: str = "bandwidth",
) -> RequirementResult:
    """Find the bandwidth, or another quantity, that a target utilization needs.

    A bandwidth is found to 0.1 %. All links between sites are scaled together, or one by name. For
    acco, dpu and wp, which are busy at any bandwidth, the question is when a round's communication
    fits into its computation. Any other quantity is searched with the links as they are; what the
    scenario says of it is replaced.

    Parameters
    ----------
    scenario
        What :func:`make_scenario` or :func:`load` returns.
    target
        Compute utilizations to reach, as fractions or like "95 %": one, or several.
    link
        Size this link alone, like "paris-osaka" or "osaka.uplink".
    of
        "bandwidth"; "rtt", the longest round trip, to 0.1 %; "sync_every", the fewest inner steps;
        "delay", the shortest ``outer_sync_delay`` or ``fragment_sync_delay``; "comm_dtype", the
        widest type; "batch_tokens", the smallest batch of a worker.

    Raises
    ------
    CallError
        If ``scenario`` is none.
    ValueRefusedError
        If a target is no fraction, the scenario has one site, no link of that name, or
        ``of`` is none of these.
    ArgumentError
        If the method does not have that quantity, or is busy at any value of it.

    Examples
    --------
    >>> from sim import make_scenario
    >>> scenario = make_scenario(model="10B", method="diloco", bandwidth="1 Gbit/s")
    >>> found = required(scenario, 0.95).frame()
    >>> [round(rate * 8e-9, 1) for rate in found["bandwidth_bytes_per_s"]]  # Gbit/s, by link
    [38.3, 38.3, 38.3, 38.3]
    >>> found = required(scenario, 0.5, of="sync_every").frame()
    >>> int(found["sync_every"][0])
    201
    """
    from sim.output.errors import UserError, chosen
    from sim.output.required_answer import answer
    from sim.questions.quantities import OF, QUANTITIES

    resolved = checked("required", scenario).resolved
    targets = [fraction("required", each) for each in _several(target)]
    with told():
        row = QUANTITIES.get(chosen("of", str(of), OF))
        if row is not None and link is not None:
            raise UserError(f'link sizes a bandwidth: leave it out with of="{of}"')
        about = answer(resolved, targets, row, link, "link")
    return RequirementResult(
        provenance(resolved, document=scenario._document), telling(about, scenario)
    )


def _several(target: Any) -> list[Any]:
    if isinstance(target, str | int | float) or not isinstance(target, Iterable):
        return [target]
    found = list(target)
    if not found:
        raise CallError("required: name at least one target, like 0.95")
    return found


def fraction(function: str, value: Any) -> float:
    """Return a utilization to reach, of a call of ``function``.

    Raises
    ------
    ValueRefusedError
        If it is none between 0 and 1.
    """
    from numbers import Real

    from sim.units import UnitError, parse_fraction

    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
    try:
        fraction = parse_fraction(number)
    except UnitError as error:
        raise ValueRefusedError(f"{function}: target {value!r}: {error}") from None
    if not 0 < fraction < 1:
        side = "above 0" if fraction <= 0 else "below 1"
        raise ValueRefusedError(f"{function}: target {value!r}: must be {side}")
    return fraction
