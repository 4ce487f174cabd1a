"""Where steps begin, and what a process has left: from files made by hand."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from realrun.errors import RunError
from realrun.recording.join import join
from realrun.recording.parts import PartError, read_part
from realrun.recording.steps import period
from sim.recording.plan import Starts, plan_of

MS = 1_000_000  # nanoseconds


def lines(*records: Sequence[Any]) -> bytes:
    texts = [json.dumps(each) for each in records]
    return "".join(f"{zlib.crc32(text.encode()):08x} {text}\n" for text in texts).encode()


def about(rank: int, workers: int = 2) -> list[Any]:
    said = {"schema": 1, "rank": rank, "workers": workers, "clock": "here"}
    return ["begin", said | {"torch": "2", "backend": "gloo", "threads": 1}]


def program(
    rank: int,
    steps: int,
    *,
    workers: int = 2,
    computes: int = 10 * MS,
    sizes: Sequence[int] = (4000, 8000),
    marks: bool = False,
    more: Sequence[Sequence[Any]] = (),
) -> bytes:
    """A set-up, and steps that compute, send and wait; each call is awaited for 5 ms."""
    records: list[Sequence[Any]] = [about(rank, workers), ["group", 0, [*range(workers)], "gloo"]]
    now, number = 0, 0

    def send(size: int) -> None:
        nonlocal now, number
        records.append(["call", number, "all_reduce", size, "float32", 0, None, now, now])
        records.append(["wait", number, now, now + 5 * MS])
        now, number = now + 5 * MS, number + 1

    send(16)
    for step in range(steps):
        if marks:
            records.append(["step", now])
        now += computes + step * MS
        for size in sizes:
            send(size)
    return lines(*records, *more, ["exit", now])


def folder(tmp_path: Path, *parts: bytes) -> Path:
    for number, part in enumerate(parts):
        (tmp_path / f"{number}.part").write_bytes(part)
    return tmp_path


def test_what_repeats_is_a_step_and_the_set_up_is_none(tmp_path: Path) -> None:
    joined = join(folder(tmp_path, program(0, 6), program(1, 6)))
    plan = plan_of(joined.trace)
    assert (plan.workers, plan.steps, plan.unlike) == (2, 5, 0)  # without the first
    # The time spent waiting is no computation.
    assert plan.ranks[0].seconds[:, 0] == pytest.approx([0.011, 0.012, 0.013, 0.014, 0.015])
    assert joined.about["steps_by"] == "repetition"


def test_marks_say_where_steps_begin(tmp_path: Path) -> None:
    one = program(0, 4, marks=True), program(1, 4, marks=True)
    joined = join(folder(tmp_path, *one))
    assert joined.about["steps_by"] == "marks"
    # The last has no end, and the first is left out.
    assert plan_of(joined.trace).steps == 2


def test_equal_calls_are_told_apart_by_the_times_between_them() -> None:
    gaps = [5.0, 0.1, 0.1, 0.1] * 6
    assert period(["a"] * 24, gaps) == (0, 4, 6)
    assert period(["a"] * 24, [1.0, 1.1] * 12) == (0, 2, 12)
    assert period(["a"] * 24, [1.0] * 24) == (0, 1, 24)


def test_equal_buckets_are_told_apart_by_what_is_awaited_after_them(tmp_path: Path) -> None:
    """As in DDP with buckets of one size, of which the times say nothing."""

    def ddp(rank: int) -> bytes:
        records: list[Sequence[Any]] = [about(rank), ["group", 0, [0, 1], "gloo"]]
        now = 0
        for number in range(0, 24, 3):
            for call in range(number, number + 3):
                now += (10 + call * 7919 % 5) * MS
                records.append(["call", call, "all_reduce", 8, "float32", 0, None, now, now])
            records.append(["finish", [number, number + 1, number + 2], now, now + MS])
            now += MS
        return lines(*records, ["exit", now])

    plan = plan_of(join(folder(tmp_path, ddp(0), ddp(1))).trace)
    assert (plan.steps, sum(isinstance(item, Starts) for item in plan.ranks[0].items)) == (7, 3)


def test_what_repeats_less_than_three_times_is_no_step(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"do not repeat at least three times.*realrun\.step"):
        join(folder(tmp_path, program(0, 2), program(1, 2)))


def test_ranks_may_end_in_different_steps_only_where_one_was_killed(tmp_path: Path) -> None:
    there = folder(tmp_path, program(0, 9), program(1, 6))
    with pytest.raises(RunError, match=r"rank 1 issued 13 collectives over all ranks, rank 0 19"):
        join(there)
    assert plan_of(join(there, killed="rank 1 was killed").trace).steps == 4


def test_a_line_that_was_cut_off_does_not_count_and_a_damaged_one_is_refused(
    tmp_path: Path,
) -> None:
    whole = program(0, 6)
    path = tmp_path / "1.part"
    path.write_bytes(whole[:-7])
    cut, uncut = read_part(path), read_part(folder(tmp_path, whole) / "0.part")
    assert cut.events == uncut.events
    assert (cut.ended, uncut.ended) == (False, True)
    path.write_bytes(whole.replace(b"8000", b"9000", 1))
    with pytest.raises(PartError, match=r"1\.part: line \d+ is damaged"):
        read_part(path)


def test_the_end_of_a_backward_pass_is_waited_for_until_its_last_result(tmp_path: Path) -> None:
    def call(number: int, begin: int) -> list[Any]:
        return ["call", number, "all_reduce", 8, "float32", 0, None, begin * MS, begin * MS]

    path = tmp_path / "0.part"
    path.write_bytes(
        lines(
            about(0),
            ["group", 0, [0, 1], "gloo"],
            call(0, 10),
            call(1, 20),
            ["end", 0, 26 * MS],
            ["end", 1, 40 * MS],
            ["finish", [0, 1], 25 * MS, 47 * MS],
        )
    )
    waits = [(e.call, e.begin // MS, e.end // MS) for e in read_part(path).events if e.waits]
    assert waits == [(0, 25, 26), (1, 26, 40)]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "called no collective"),
        ([program(0, 6)], "of 2 processes rank 1 called no collective"),
        ([program(0, 6), program(0, 6)], "rank 0 began twice"),
        ([program(0, 6), program(1, 6, workers=3)], "two programs were recorded"),
        ([program(0, 6, more=[["device", "cuda"]]), program(1, 6)], "rank 0: .* on cuda; only"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_line(
    tmp_path: Path, parts: list[bytes], said: str
) -> None:
    with pytest.raises(RunError, match=said) as raised:
        join(folder(tmp_path, *parts))
    assert "\n" not in str(raised.value)


def test_no_more_steps_are_kept_than_were_asked_for(tmp_path: Path) -> None:
    assert join(folder(tmp_path, program(0, 9), program(1, 9)), most=3).about["steps"] == 3


def sends(rank: int, *peers: int | None, waits: bool = True) -> bytes:
    """Rank 0 sends to rank 1, rank 1 receives from these places of the group."""
    records: list[Sequence[Any]] = [about(rank), ["group", 0, [0, 1], "gloo"]]
    for number, peer in enumerate(peers):
        now = number * 10 * MS
        what = "recv" if rank else "send"
        records.append(["call", number, what, 8, "float32", 0, peer, now, now])
        if waits:
            records += [["wait", number, now, now + MS]]
            records += [["source", number, 0]] if peer is None else []
    return lines(*records, ["exit", len(peers) * 10 * MS])


def test_a_receiver_of_anything_learns_who_sent(tmp_path: Path) -> None:
    joined = join(folder(tmp_path, sends(0, *[1] * 6), sends(1, *[None] * 6)))
    rows = [row for row in joined.trace.rows if row.bytes]
    assert {(row.operation, row.group) for row in rows} == {("send", "main 0 to 1")}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([sends(0, *[1] * 6), sends(1, *[None] * 6, waits=False)], "rank 1 receives from any"),
        ([sends(0, *[1] * 6), sends(1, *[0] * 5)], "rank 0 sent 6 times to rank 1, which rec"),
    ],
)
def test_what_cannot_be_matched_is_said_in_a_line(
    tmp_path: Path, parts: list[bytes], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        join(folder(tmp_path, *parts))
