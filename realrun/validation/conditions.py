"""What a report says of how it was measured: machine, versions, date, links."""

from __future__ import annotations

from collections.abc import Sequence

from realrun.validation.archive import Archive
from realrun.validation.plan import Planned
from sim.scenario import Study
from sim.units import format_seconds


def links(study: Study, plan: Sequence[Planned], archive: Archive) -> str:
    """Say on which links was calibrated, and how many configurations ran on such."""
    assert study.validation is not None
    asked = study.validation.calibrate
    emulated = any(record["checks"] for record in archive.records.values())
    if not emulated or asked.bandwidth is None or asked.rtt is None:
        return "calibrated on the links as they are, and run on them"
    rates = ", ".join(f"{rate * 8e-6:g}" for rate in asked.bandwidth)
    trips = ", ".join(format_seconds(rtt) for rtt in asked.rtt)
    known = [
        each
        for each in plan
        if each.scenario.bandwidth in asked.bandwidth
        and 2 * each.scenario.network.latency[0][1] in asked.rtt
    ]
    return (
        f"calibrated at {rates} Mbit/s and round trips of {trips}, where no method ran; "
        f"{len(known)} of {len(plan)} configurations ran at one of these"
    )


def measured_with(plan: Sequence[Planned], archive: Archive) -> dict[str, str]:
    """Read off the calibrations on which machine, with what and when was measured."""
    found: dict[str, set[str]] = {"machine": set(), "versions": set(), "date": set()}
    counts = sorted({each.workers for each in plan})
    for launch in (launch for count in counts for launch in archive.launches(count)):
        told = launch.conditions
        found["machine"].add(f"{told.device}, {told.cores} cores, {told.system}, {told.backend}")
        found["versions"].add(", ".join(f"{k} {v}" for k, v in told.versions.items()))
        found["date"].add(told.time.partition("T")[0])
    return {key: "; ".join(sorted(texts)) for key, texts in found.items()}
