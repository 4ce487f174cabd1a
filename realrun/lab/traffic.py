"""What workers of a lab have sent to each other, second by second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SAMPLE_S = 1.0
_LEAST_S = 0.5 * SAMPLE_S  # the last sample may be short


@dataclass(frozen=True)
class Sent:
    """Bytes of payload from one rank to another between two instants, in seconds of the run."""

    begin_s: float
    end_s: float
    sender: int
    receiver: int
    sent_bytes: int


class Traffic:
    """Grows by a sample now and then.

    Parameters
    ----------
    workers
        How many there are.
    counts
        Bytes delivered from each rank to each other until the begin, row by row.
    begin
        The begin, in seconds of the monotonic clock.
    """

    def __init__(self, workers: int, counts: Sequence[int], begin: float) -> None:
        self.workers, self._begin, self.last = workers, begin, begin
        self._first, self._counts = list(counts), list(counts)
        self._parts: list[Sent] = []

    def sample(self, counts: Sequence[int], now: float) -> None:
        """Note what was delivered since the last sample."""
        begin_s, end_s = self.last - self._begin, now - self._begin
        for place, (before, after) in enumerate(zip(self._counts, counts, strict=True)):
            if after > before:
                sender, receiver = divmod(place, self.workers)
                self._parts.append(Sent(begin_s, end_s, sender, receiver, after - before))
        self._counts, self.last = list(counts), now

    @property
    def seconds(self) -> float:
        """From the begin to the last sample."""
        return self.last - self._begin

    @property
    def parts(self) -> Sequence[Sent]:
        """All that was sent, in order of time; pairs that sent nothing are left out."""
        return self._parts

    def total(self, sender: int, receiver: int) -> int:
        """Bytes from one rank to another."""
        place = sender * self.workers + receiver
        return self._counts[place] - self._first[place]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the ordered pairs of ranks that have sent anything."""
        for sender in range(self.workers):
            for receiver in range(self.workers):
                if self.total(sender, receiver):
                    yield sender, receiver

    def most_per_second(self, sender: int, receiver: int) -> float:
        """Bytes/s of the sample in which most was sent: of about a second, never of an instant."""
        return max(
            (
                part.sent_bytes / max(part.end_s - part.begin_s, _LEAST_S)
                for part in self._parts
                if (part.sender, part.receiver) == (sender, receiver)
            ),
            default=0.0,
        )
