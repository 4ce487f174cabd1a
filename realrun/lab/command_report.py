"""What a command in a lab has come to, as a report: its ends, and what was sent."""

from __future__ import annotations

from signal import Signals
from typing import Any

from realrun.lab.devices import address
from realrun.lab.ends import Ended, Ran
from realrun.lab.topology import Topology
from sim.output.tables import Block, Column, Record, Report, Table, quantity

SCHEMA = 1
_FULL = 0.8  # of the cores; the rest is when ranks wait for each other
_SHOWN = 24  # pairs in the table for people

_WORKERS = (
    Column("rank", "rank", "count"),
    Column("worker", "worker"),
    Column("ended", "ended with"),
    Column("seconds", "after", "seconds"),
    Column("sent_bytes", "sent", "bytes"),
    Column("received_bytes", "received", "bytes"),
)
_PAIRS = (
    Column("sender", "from"),
    Column("receiver", "to"),
    Column("sent_bytes", "sent", "bytes"),
    Column("mean_bytes_per_s", "mean rate", "rate"),
    Column("most_bytes_per_s", "in the busiest second", "rate"),
    Column("bandwidth_bytes_per_s", "bandwidth", "rate"),
)
TRAFFIC = (
    Column("begin_s", "begin", "seconds"),
    Column("end_s", "end", "seconds"),
    Column("sender", "from"),
    Column("receiver", "to"),
    Column("sent_bytes", "sent", "bytes"),
)


def report(ran: Ran, found: Topology, command: list[str], cores: int) -> Report:
    """Return the report of a command; everything in it was measured.

    Parameters
    ----------
    ran
        What became of it.
    found
        The network, for names and bandwidths.
    command
        As it was typed.
    cores
        Of this machine.
    """
    traffic = ran.traffic
    workers = [_worker(end, ran, found) for end in ran.ends]
    pairs = [_pair(i, j, ran, found) for i, j in traffic.pairs()]
    seconds = [
        {
            "begin_s": part.begin_s,
            "end_s": part.end_s,
            "sender": found.names[part.sender],
            "receiver": found.names[part.receiver],
            "sent_bytes": part.sent_bytes,
        }
        for part in traffic.parts
    ]
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "prediction": "measured",
        "command": command,
        "seconds": traffic.seconds,
        "cores": cores,
        "busy_cores": ran.busy_cores,
        "workers": workers,
        "pairs": pairs,
        "traffic": seconds,
    }
    blocks: list[Block] = [
        f"Measured in a lab on this machine: {found.workers} workers, "
        f"{quantity(traffic.seconds, 'seconds')}. Bytes are payload, as delivered.",
        Table(_WORKERS, workers),
    ]
    if pairs:
        shown = sorted(pairs, key=lambda each: -each["sent_bytes"])[:_SHOWN]
        title = "Sent between workers" if len(pairs) <= _SHOWN else f"The {_SHOWN} busiest pairs"
        blocks.append(Table(_PAIRS, shown, title))
    said = remarks(ran, found, cores)
    data["remarks"] = said
    blocks += said
    return Report(blocks, data, Table(TRAFFIC, seconds))


def remarks(ran: Ran, found: Topology, cores: int) -> list[str]:
    """Return what should be known before the figures are used, a line each."""
    lines = []
    if found.workers > cores:
        lines.append(
            f"{found.workers} workers share {cores} cores: the network is emulated, the command's "
            "own computation is not, and takes longer here than on a machine each."
        )
    elif ran.busy_cores is not None and ran.busy_cores >= _FULL * cores:
        lines.append(
            f"{ran.busy_cores:.1f} of {cores} cores were busy: the command's computation, its "
            "communication and the emulation of the network took turns, and took longer than on a "
            "machine each."
        )
    for end in ran.ends:
        if end.left:
            names = ", ".join(sorted(set(end.left)))
            lines.append(
                f"Rank {end.rank} ended and left {len(end.left)} "
                f"process{'es' * (len(end.left) > 1)} ({names}), now ended, too: a command has to "
                "run in the foreground."
            )
    well = ran.trouble is None and not any(end.status for end in ran.ends)
    if well and not any(True for _ in ran.traffic.pairs()):
        lines.append(
            "Nothing was sent between workers: a command meets the others by RANK, WORLD_SIZE, "
            "MASTER_ADDR and MASTER_PORT, which torch.distributed.init_process_group reads."
        )
    return lines


def _worker(end: Ended, ran: Ran, found: Topology) -> Record:
    others = range(found.workers)
    return {
        "rank": end.rank,
        "worker": found.names[end.rank],
        "address": address(end.rank),
        "status": end.status,
        "ended": _how(end),
        "ended_by_lab": end.by_lab,
        "seconds": end.seconds,
        "sent_bytes": sum(ran.traffic.total(end.rank, other) for other in others),
        "received_bytes": sum(ran.traffic.total(other, end.rank) for other in others),
        "left": end.left,
    }


def _how(end: Ended) -> str:
    how = Signals(-end.status).name if end.status < 0 else str(end.status)
    return f"ended by the lab ({how})" if end.by_lab and end.status else how


def _pair(sender: int, receiver: int, ran: Ran, found: Topology) -> dict[str, Any]:
    sent = ran.traffic.total(sender, receiver)
    limited = sender != receiver and bool(found.paths[sender, receiver])
    return {
        "sender": found.names[sender],
        "receiver": found.names[receiver],
        "sent_bytes": sent,
        "mean_bytes_per_s": sent / ran.traffic.seconds if ran.traffic.seconds else None,
        "most_bytes_per_s": ran.traffic.most_per_second(sender, receiver),
        "bandwidth_bytes_per_s": found.rate(sender, receiver) if limited else None,
    }
