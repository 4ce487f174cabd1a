"""The collective model in words: which algorithm, how many workers, bytes on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.cli.tables import quantity

if TYPE_CHECKING:
    from sim.scenario.resolved import Collectives, Scenario
    from sim.trace import Trace


@dataclass(frozen=True)
class Kind:
    """All collectives of one operation and type.

    ``smallest`` and ``largest`` are bytes of their buffers; ``sent`` has each worker's bytes
    on the wire for the largest.
    """

    operation: str
    dtype: str
    algorithm: str
    workers: int
    smallest: float
    largest: float
    sent: tuple[float, ...]
    priced_by: str

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "operation": self.operation,
            "dtype": self.dtype,
            "algorithm": self.algorithm,
            "workers": self.workers,
            "largest_buffer_bytes": self.largest,
            "sent_bytes_per_worker": sum(self.sent) / len(self.sent),
            "most_sent_bytes_by_a_worker": max(self.sent),
            "time": self.priced_by,
        }

    def words(self) -> str:
        """Return it as a sentence."""
        least, most = min(self.sent), max(self.sent)
        sent = quantity(most, "bytes")
        if least < most * (1 - 1e-6):
            sent = f"{quantity(least, 'bytes')} to {sent}"
        each = "each of" if self.smallest == self.largest else "at most"
        return (
            f"{self.operation} ({self.dtype}): {self.algorithm} over {self.workers} workers; "
            f"buffers of {each} {quantity(self.largest, 'bytes')}, for which a worker puts "
            f"{sent} on the wire; {self.priced_by}."
        ).replace("buffers of each of", "buffers of")


def kinds(trace: Trace, scenario: Scenario) -> list[Kind]:
    """Find which collectives a run used, and what they were taken to cost."""
    from sim.collectives import form_of

    sizes: dict[tuple[str, str], list[float]] = {}
    for row, _ in trace.on_wire():
        dtype = row.detail.rpartition(" ")[2]
        sizes.setdefault((row.operation, dtype), []).append(row.bytes)
    found = []
    collectives = scenario.network.collectives
    for (operation, dtype), buffers in sizes.items():
        share = trace.context.sent_share.get(f"{operation} {dtype}", (0.0,))
        algorithm = form_of(operation, collectives.algorithm, dtype)
        if algorithm != collectives.algorithm and collectives.algorithm not in algorithm:
            algorithm += f" ({collectives.algorithm} has no form for it)"
        largest = max(buffers)
        found.append(
            Kind(
                operation,
                dtype,
                algorithm,
                trace.workers,
                min(buffers),
                largest,
                tuple(part * largest for part in share),
                _priced_by(collectives, operation, dtype, min(buffers), largest),
            )
        )
    return found


def _priced_by(
    collectives: Collectives, operation: str, dtype: str, smallest: float, largest: float
) -> str:
    for table in collectives.tables:
        if (table.operation, table.dtype) == (operation, dtype):
            least, most = table.bytes[0], table.bytes[-1]
            if smallest < least or largest > most:
                measured = f"{quantity(least, 'bytes')} to {quantity(most, 'bytes')}"
                return f"time EXTRAPOLATED beyond the measured {measured}"
            return "time interpolated between measurements"
    return "time computed from the links"


def in_words(found: list[Kind]) -> str:
    """Return all kinds as sentences, one per line."""
    if not any(max(kind.sent) > 0 for kind in found):
        return "One worker, or nothing to exchange: no collective goes on the wire."
    return "\n".join(kind.words() for kind in found)
