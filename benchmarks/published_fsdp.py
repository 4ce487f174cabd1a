"""FSDP on H100 nodes, predicted and published: ``python benchmarks/published_fsdp.py``.

The rows are MosaicML's (llm-foundry, scripts/train/benchmarking/README.md at 061f2c7, Apache-2.0):
every row of sequences of 2048 tokens in bf16 whose model was run on several numbers of GPUs. Of
each model the row with the fewest GPUs calibrates the share of the peak that the kernels reach;
all others are predicted. The layers are those of the models' configurations there. Predicted and
calibrated twice: with gathering hidden behind computation at no cost (``prefetch``), and with
nothing gathered ahead. Composer, which ran them, prefetches neither in forward nor before a
gradient is computed, by default (FSDPConfig: forward_prefetch=False, backward_prefetch=
"BACKWARD_POST"); torch gathers ahead in forward all the same, as far as the CPU runs ahead.

Assumed, since the source is silent: 8 GPUs per node, NVLink at 450 GB/s each way per GPU, a node's
network at 400 GB/s (8 x 400 Gbit/s), round trips of 6 us inside a node and 20 us between nodes,
gathering in bf16 and reducing in fp32 (Composer's mixed precision "DEFAULT").
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import sim
from sim.methods.inside import fsdp

ROWS = Path(__file__).parent.parent / "validation" / "fsdp" / "published.csv"
SEQUENCE, PER_NODE, PEAK = 2048, 8, 989e12
Row = dict[str, str]


def predicted(row: Row, share: float, **arguments: Any) -> float:
    """Return tokens per second and GPU where kernels reach that share of the peak."""
    micro_batches = int(row["micro_batches"])
    tokens = SEQUENCE * int(row["micro_batch_sequences"]) * micro_batches
    scenario = sim.make_scenario(
        parameters=int(row["parameters"]),
        layers=int(row["layers"]),
        method=fsdp,
        comm_dtype="fp32",
        sites=int(row["gpus"]) // PER_NODE,
        workers=PER_NODE,
        batch_tokens=tokens,
        step_time=f"{6 * int(row['parameters']) * tokens / (PEAK * share):.9g} s",
        bandwidth="400 GB/s",
        rtt="20 us",
        settings={
            "site.n_grad_accumulation": micro_batches,
            "network.within.bandwidth": "450 GB/s",
            "network.within.rtt": "6 us",
            **{f"method.{name}": value for name, value in arguments.items()},
        },
    )
    figures = sim.simulate(scenario, sensitivity=False).figures
    return float(figures["tokens_per_s"]) / int(row["gpus"])


def calibrated(row: Row, *, prefetch: bool) -> float:
    """Return the share of the peak with which the row comes out as published."""
    measured = _published(row)
    share = 6 * int(row["parameters"]) * measured / PEAK
    for _ in range(20):
        found = predicted(row, share, prefetch=prefetch)
        if abs(found / measured - 1) < 1e-4:
            return share
        share *= measured / found
    raise SystemExit(f"{row['model']}: no share of the peak gives {measured:g} tokens/s")


def main() -> None:
    """Print a row for each published one, and what of both variants is farthest off."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    print("| model | GPUs | sequences | published | prefetch | error | without | error |")
    print("|---|---|---|---|---|---|---|---|")
    errors: list[list[float]] = [[], []]
    points: list[list[float]] = [[], []]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        found = [_predicted(own, prefetch=prefetch) for prefetch in (True, False)]
        for number, row in enumerate(own):
            batch = f"{row['micro_batch_sequences']} x {row['micro_batches']}"
            cells = [row["model"], row["gpus"], batch, f"{_published(row):.0f}"]
            for variant, (share, speeds) in enumerate(found):
                error = speeds[number] / _published(row) - 1
                calibrates = f"calibrates: {100 * share:.1f} %"
                cells += [
                    f"{speeds[number]:.0f}",
                    f"{100 * error:+.1f} %" if number else calibrates,
                ]
                errors[variant] += [abs(error)] if number else []
            print(f"| {' | '.join(cells)} |", flush=True)
        for variant, (_, speeds) in enumerate(found):
            points[variant] += _scaling(own, speeds)
    for variant, name in enumerate(("prefetch", "without")):
        of = sorted(errors[variant])
        print(
            f"\n{name}: {len(of)} predicted rows, median error {100 * of[len(of) // 2]:.1f} %, "
            f"largest {100 * of[-1]:.1f} %, {sum(error > 0.1 for error in of)} beyond 10 %; weak "
            f"scaling off by at most {max(map(abs, points[variant])):.1f} points"
        )


def _published(row: Row) -> float:
    return float(row["tokens_per_s_per_gpu"])


def _predicted(rows: Sequence[Row], *, prefetch: bool) -> tuple[float, list[float]]:
    """Return the share of the peak that the first row calibrates, and the speed of every row."""
    share = calibrated(rows[0], prefetch=prefetch)
    return share, [predicted(row, share, prefetch=prefetch) for row in rows]


def _scaling(rows: Sequence[Row], speeds: Sequence[float]) -> list[float]:
    """Return by how many points weak scaling is off, between rows with the same micro-batches."""
    found = []
    for one, other in combinations(range(len(rows)), 2):
        keys = ("micro_batch_sequences", "micro_batches")
        if all(rows[one][key] == rows[other][key] for key in keys):
            published = _published(rows[other]) / _published(rows[one])
            found.append(100 * (speeds[other] / speeds[one] - published))
    return found


if __name__ == "__main__":
    main()
