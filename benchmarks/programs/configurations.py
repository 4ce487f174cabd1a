"""What the study predicts and runs: programs of libraries, on networks drawn by seed."""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Program(NamedTuple):
    """A program of the study."""

    #: The script, and its arguments.
    script: str
    arguments: tuple[str, ...] = ()
    #: Passes forward in an optimizer step.
    passes: int = 1
    #: Optimizer steps until what it does repeats, as steps are found in a recording.
    period: int = 1

    @property
    def torchft(self) -> bool:
        """Whether it is started as a replica group of torchft's."""
        return self.script.startswith("torchft")


PROGRAMS = {
    "ddp": Program("ddp"),
    "ddp_no_sync": Program("ddp_no_sync", passes=2),
    "ddp_fp16": Program("ddp_fp16"),
    "zero": Program("zero"),
    "post_local_sgd": Program("post_local_sgd", period=4),
    "fully_shard": Program("fully_shard"),
    "torchft_local_sgd": Program("torchft_local_sgd", period=4),
    "torchft_diloco": Program("torchft_diloco", ("1", "0"), period=4),
    "torchft_diloco_delay": Program("torchft_diloco", ("1", "1"), period=4),
    "torchft_diloco_fragments": Program("torchft_diloco", ("2", "0"), period=2),
    "torchft_diloco_fragments_delay": Program("torchft_diloco", ("2", "1"), period=2),
}
BANDWIDTHS = ("20 Mbit/s", "50 Mbit/s", "100 Mbit/s", "200 Mbit/s", "500 Mbit/s", "1 Gbit/s")
ROUND_TRIPS = ("0 ms", "10 ms", "20 ms", "40 ms", "80 ms")
ON_A_NETWORK = 4  # programs, so that their order can be compared
# What is drawn of each six networks: workers, whether one is unequal, paced or real computation.
# Real ones have two workers: more would share the cores, which a prediction warns of.
KINDS = (
    (2, False, "paced"),
    (4, False, "paced"),
    (2, False, "real"),
    (2, True, "paced"),
    (4, True, "paced"),
    (2, False, "paced"),
)


class Configuration(NamedTuple):
    """What is predicted and run."""

    program: str
    workers: int
    bandwidth: str
    rtt: str
    #: Whether the last site's links have half the bandwidth.
    unequal: bool
    #: "paced", where computation is sleep, or "real".
    computation: str

    @property
    def slow_link(self) -> str:
        """Bandwidth of the slow site's links."""
        number, unit = self.bandwidth.split()
        return f"{float(number) / 2:g} {unit}"

    @property
    def network(self) -> tuple[object, ...]:
        """All but the program."""
        return self[1:]

    @property
    def diloco(self) -> bool:
        """Whether our own DiLoCo can take the program's place."""
        return self.program.startswith("torchft_diloco")

    @classmethod
    def read(cls, row: dict[str, str]) -> Configuration:
        """Return that of a row of a file."""
        workers, unequal = int(row["workers"]), row["unequal"] == "True"
        program, bandwidth, rtt = row["program"], row["bandwidth"], row["rtt"]
        return cls(program, workers, bandwidth, rtt, unequal, row["computation"])


def drawn(count: int, seed: int) -> list[Configuration]:
    """Draw networks, and for each of them four different programs; all come up equally often.

    Examples
    --------
    >>> len({each.program for each in drawn(12, 1)})
    11
    >>> drawn(8, 1) == drawn(20, 1)[:8]
    True
    """
    chance, found = Random(seed), []
    deck: list[str] = []
    networks: set[tuple[object, ...]] = set()
    while len(found) < count:
        workers, unequal, computation = KINDS[len(networks) % len(KINDS)]
        network = (workers, chance.choice(BANDWIDTHS), chance.choice(ROUND_TRIPS), unequal)
        if (*network, computation) in networks:
            continue
        networks.add((*network, computation))
        taken: list[str] = []
        while len(taken) < ON_A_NETWORK:
            if not deck:
                deck = chance.sample(list(PROGRAMS), len(PROGRAMS))
            one = next((each for each in deck if each not in taken), None)
            if one is None:
                deck = []
                continue
            deck.remove(one)
            taken.append(one)
        found += [Configuration(program, *network, computation) for program in taken]
    return found[:count]
