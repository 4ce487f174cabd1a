from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from plain_scenario import machine, plain

from sim import trace_files as traces
from sim.figures import figures
from sim.methods import METHODS
from sim.runtime import simulate
from sim.scenario.resolved import Jitter

GOLDEN = Path(__file__).parent / "golden" / "timelines"
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
    before, after = figures(trace, scenario), figures(again, scenario)
    assert after.breakdown == pytest.approx(before.breakdown, rel=1e-12, abs=1e-12)
    assert after.updates == before.updates


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
