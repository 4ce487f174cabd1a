from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import Bandwise
from support.plain_scenario import machine, plain

from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.records.scenario import Jitter, Run
from sim.runtime import simulate
from sim.runtime.context import context_of, sent_shares
from sim.storage.files import DamagedError
from sim.storage.journal import sealed
from sim.trace import files as traces
from sim.trace.table import COLUMNS

GOLDEN = Path(__file__).parents[1] / "golden" / "timelines"
NOISY = [machine(jitter=Jitter("lognormal", 0.1)), machine(1.5, jitter=Jitter("gamma", 0.1))]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("method", ["acco", "streaming_diloco", "ddp"])
def test_a_saved_trace_reads_back_with_the_same_figures(
    tmp_path: Path, suffix: str, method: str
) -> None:
    scenario = plain(method, machines=NOISY, latency=0.01)
    trace = simulate(scenario, rounds=3)
    path = tmp_path / f"trace{suffix}"
    traces.save(trace, path)
    again = traces.load(path)
    assert again.sequence() == trace.sequence()
    assert again.observations() == trace.observations()
    before, after = figures(trace), figures(again)
    assert after.breakdown == pytest.approx(before.breakdown, rel=1e-12, abs=1e-12)
    assert after.updates == before.updates


@pytest.mark.parametrize(
    "run", [Run(rounds=50), Run(tokens=5e4), Run(steps=900)], ids=["rounds", "tokens", "steps"]
)
def test_a_saved_trace_knows_its_horizon_and_its_accelerators(tmp_path: Path, run: Run) -> None:
    known = [
        machine(accelerators=2, peak_flops=1e15),
        machine(1.5, accelerators=1, peak_flops=2e15),
    ]
    trace = simulate(plain("diloco", {"sync_every": 3}, machines=known, run=run))
    traces.save(trace, tmp_path / "t.parquet")
    result = figures(trace)
    assert result.extrapolated
    assert result.throughput is not None
    assert result.throughput.accelerators == 3
    assert figures(traces.load(tmp_path / "t.parquet")) == result


def test_an_earlier_versions_trace_ends_with_what_was_simulated(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    trace = simulate(plain("diloco", {"sync_every": 3}, run=Run(rounds=50)))
    traces.save(trace, path)
    about, *rest = path.read_text().splitlines()
    note = json.loads(about.removeprefix("# bandwise trace: "))
    for key in (
        "horizon_rounds",
        "horizon_tokens",
        "flops_per_token",
        "accelerators",
        "peak_flops",
    ):
        del note["context"][key]
    kept = {key: note[key] for key in ("schema", "total_s", "context", "rows", "columns")}
    path.write_text("\n".join(["# bandwise trace: " + sealed(kept), *rest]) + "\n")
    now, earlier = figures(trace), figures(traces.load(path))
    assert earlier.wall_clock_s == now.wall_clock_s
    assert earlier.breakdown == now.breakdown
    assert (earlier.extrapolated, earlier.total_wall_clock_s) == (False, trace.total_s)
    assert earlier.rounds < now.rounds == 50
    assert earlier.throughput is None


@pytest.mark.parametrize("method", ["acco", "streaming_diloco", "ddp"])
def test_a_context_is_read_off_the_scenario_and_the_rows(method: str) -> None:
    asked = plain(method, {"comm_dtype": "int8"}, machines=NOISY, latency=0.01)
    trace = simulate(asked, rounds=3)
    rows = [row for row in trace.rows if row.rank == 0]
    assert trace.context.sent_share
    assert context_of(asked, sent_shares(asked, rows)) == trace.context


def test_a_trace_of_merged_workers_holds_every_rank(tmp_path: Path) -> None:
    trace = simulate(plain("diloco", {"sync_every": 3}, workers=3), rounds=2)
    traces.save(trace, tmp_path / "t.csv")
    again = traces.load(tmp_path / "t.csv")
    assert {row.rank for row in again.rows} == {0, 1, 2}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".json.gz"])
def test_same_seed_same_bytes(tmp_path: Path, suffix: str) -> None:
    def written(name: str) -> bytes:
        path = tmp_path / f"{name}{suffix}"
        traces.save(simulate(plain("acco", machines=NOISY), rounds=3), path)
        return path.read_bytes()

    assert written("one") == written("two")


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_timeline_events_are_complete(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace{suffix}"
    traces.save(simulate(plain("delayed_diloco", {"sync_every": 3}), rounds=2), path)
    raw = path.read_bytes()
    events = json.loads(gzip.decompress(raw) if suffix.endswith("gz") else raw)["traceEvents"]
    kinds = {event["ph"] for event in events}
    assert kinds == {"M", "X", "i", "s", "f", "C"}
    starts = {event["id"] for event in events if event["ph"] == "s"}
    ends = {event["id"] for event in events if event["ph"] == "f"}
    assert starts == ends
    names = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == {"predicted: s0", "predicted: s1"}


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x00\xff", b"# bandwise trace: {}\nx\n"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_no_trace_is_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a trace"):
        traces.load(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_flipped_bit_of_a_trace_is_seen_or_changes_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace{suffix}"
    trace = simulate(plain("acco", machines=NOISY, latency=0.01), rounds=1)
    traces.save(trace, path)
    whole = path.read_bytes()
    expected = [[getattr(row, name) for name in COLUMNS] for row in traces.load(path).rows]
    refused = 0
    for bit in range(0, 8 * len(whole), 8 * len(whole) // 120 | 1):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = traces.load(path)
        except ValueError:
            refused += 1
        else:
            rows = [[getattr(row, name) for name in COLUMNS] for row in found.rows]
            assert repr(rows) == repr(expected)
            assert found.total_s == trace.total_s
    assert refused > 60


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_changed_value_is_refused_with_its_column(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"trace{suffix}"
    traces.save(simulate(plain("acco", machines=NOISY), rounds=1), path)
    if suffix == ".csv":
        about, header, first, *rest = path.read_text().splitlines()
        values = dict(zip(header.split(","), first.split(","), strict=True))
        values["end_s"] = "0.125"
        path.write_text("\n".join([about, header, ",".join(values.values()), *rest]) + "\n")
    else:
        table = pq.read_table(path)
        frame = table.to_pandas()
        frame.loc[0, "end_s"] = 0.125
        changed = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(DamagedError, match="damaged: column end_s is not as it was written"):
        traces.load(path)


def earlier(path: Path, schema: int = 2, **changes: object) -> None:
    """Have a trace in CSV be of a schema without digests, its note or first row changed."""
    about, header, first, *rest = path.read_text().splitlines()
    note = json.loads(about.removeprefix("# bandwise trace: "))
    values = dict(zip(header.split(","), first.split(","), strict=True))
    context = {key: changes.pop(key, value) for key, value in note["context"].items()}
    values |= {key: str(value) for key, value in changes.items()}
    kept = {"schema": schema, "total_s": note["total_s"], "context": context}
    lines = ["# bandwise trace: " + json.dumps(kept), header, ",".join(values.values()), *rest]
    path.write_text("\n".join(lines) + "\n")


def test_a_trace_without_digests_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    trace = simulate(plain("diloco", {"sync_every": 3}), rounds=2)
    traces.save(trace, path)
    earlier(path)
    assert traces.load(path).sequence() == trace.sequence()
    earlier(path, schema=3)
    with pytest.raises(DamagedError, match="its digests are missing"):
        traces.load(path)
    earlier(path, schema=4)
    with pytest.raises(ValueError, match="schema 4, which a later bandwise wrote"):
        traces.load(path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rank": -1}, 'row 1, column rank is "-1"; it must be 0 to 1'),
        ({"rank": 2}, 'row 1, column rank is "2"; it must be 0 to 1'),
        ({"begin_s": "inf"}, 'row 1, column begin_s is "inf"; it must be finite and not negative'),
        ({"bytes": -5.0}, 'row 1, column bytes is "-5.0"; it must be finite and not negative'),
        ({"operation": ""}, 'row 1, column operation is ""; it must not be empty'),
        ({"site_of": [0, 2]}, "site_of puts rank 1 at site 2 of 2"),
        ({"step_s": [1.0]}, "step_s has 1 values for 2 workers"),
    ],
)
@pytest.mark.parametrize("command", ["plot", "simulate"])
def test_what_no_trace_can_hold_is_one_line(
    tmp_path: Path, bandwise: Bandwise, changes: dict[str, Any], text: str, command: str
) -> None:
    path = tmp_path / "trace.csv"
    traces.save(simulate(plain("diloco", {"sync_every": 3}), rounds=2), path)
    earlier(path, **changes)
    out = tmp_path / "out.png"
    plot = ("plot", path, "--kind", "timeline", "--out", out)
    replay = ("simulate", "--model", "1B", "--replay", path)
    ran = bandwise(*(plot if command == "plot" else replay))
    assert ran.status == 2
    assert f"{path}: {text}" in ran.err
    assert ran.err.count("\n") == 1


def test_a_trace_that_has_no_room_is_told_with_both_figures(
    tmp_path: Path, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "free_bytes", lambda path: 1000)
    path = tmp_path / "trace.csv"
    ran = bandwise("simulate", "--model", "1B", "--rounds", "5", "--trace", path)
    assert ran.status == 2
    assert re.search(r"trace\.csv: \d+ rows need at least .* MB, and 0\.001 MB are free", ran.err)
    assert "compute" in ran.out  # what was computed is printed
    assert not path.exists()


def _timeline(scenario: Any, rounds: int) -> str:
    lines = []
    for row in simulate(scenario, rounds=rounds).frame().itertuples():
        call = f" {row.group}.{row.call}" if row.group else ""
        size = f" {row.bytes:g} B" if row.bytes else ""
        times = f" x{row.times}" if row.times > 1 else ""
        lines.append(
            f"{row.rank} {row.begin_s:8.4f} {row.end_s:8.4f} {row.program}: "
            f"{row.operation} {row.detail}{call}{size}{times}".rstrip()
        )
    return "\n".join(lines) + "\n"


ARGUMENTS: dict[str, dict[str, Any]] = {
    "local_sgd": {"sync_every": 3},
    "diloco": {"sync_every": 3},
    "streaming_diloco": {"sync_every": 4, "num_fragments": 2, "comm_dtype": "fp4"},
    "delayed_diloco": {"sync_every": 3},
    "eager_diloco": {"sync_every": 3},
    "ddp": {"bucket_bytes": 100},
}


@pytest.mark.parametrize("method", METHODS)
def test_golden_timeline(method: str) -> None:
    """What one round of each method does, to be read and reviewed as a text."""
    machines = [machine(optimizer_seconds=0.25), machine(optimizer_seconds=0.25, speed=0.8)]
    scenario = plain(method, ARGUMENTS.get(method), machines=machines, latency=0.01)
    text = _timeline(scenario, rounds=2)
    path = GOLDEN / f"{method}.txt"
    if os.environ.get("BANDWISE_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
