"""FSDP on H100 nodes, predicted and published: ``python benchmarks/published_fsdp.py``.

The rows are MosaicML's (llm-foundry, scripts/train/benchmarking/README.md at 061f2c7, Apache-2.0):
every row of sequences of 2048 tokens in bf16 whose model was run on several numbers of GPUs. Of
each model the row with the fewest GPUs calibrates the share of the peak that the kernels reach;
all others are predicted. The layers are those of the models' configurations there.

Assumed, since the source is silent: 8 GPUs per node, NVLink at 450 GB/s each way per GPU, a node's
network at 400 GB/s (8 x 400 Gbit/s), round trips of 6 us inside a node and 20 us between nodes,
gathering in bf16 and reducing in fp32 (Composer's mixed precision "DEFAULT").
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
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


def calibrated(row: Row) -> float:
    """Return the share of the peak with which the row comes out as published."""
    measured = float(row["tokens_per_s_per_gpu"])
    share = 6 * int(row["parameters"]) * measured / PEAK
    for _ in range(20):
        found = predicted(row, share)
        if abs(found / measured - 1) < 1e-4:
            return share
        share *= measured / found
    raise SystemExit(f"{row['model']}: no share of the peak gives {measured:g} tokens/s")


def main() -> None:
    """Print a row for each published one."""
    with ROWS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    print("| model | GPUs | sequences | published | predicted | error | without prefetch |")
    print("|---|---|---|---|---|---|---|")
    errors = [
        error
        for model in dict.fromkeys(row["model"] for row in rows)
        for error in _of([row for row in rows if row["model"] == model])
    ]
    errors.sort()
    beyond = sum(error > 0.1 for error in errors)
    print(
        f"\n{len(errors)} predicted rows: median error {100 * errors[len(errors) // 2]:.1f} %, "
        f"largest {100 * errors[-1]:.1f} %, {beyond} beyond 10 %"
    )


def _of(rows: Sequence[Row]) -> list[float]:
    """Print the rows of a model, and return the errors of those that calibrate nothing."""
    share = calibrated(rows[0])
    errors = []
    for number, row in enumerate(rows):
        measured = float(row["tokens_per_s_per_gpu"])
        found, in_turn = predicted(row, share), predicted(row, share, prefetch=False)
        error = found / measured - 1
        errors += [abs(error)] if number else []
        said = f"{100 * error:+.1f} %" if number else f"calibrates: {100 * share:.1f} %"
        batch = f"{row['micro_batch_sequences']} x {row['micro_batches']}"
        print(
            f"| {row['model']} | {row['gpus']} | {batch} | {measured:.0f} | {found:.0f} "
            f"| {said} | {in_turn:.0f} |",
            flush=True,
        )
    return errors


if __name__ == "__main__":
    main()
