"""Our fsdp and torch's fully_shard on the same batches over the same links: losses and times.

    python benchmarks/fully_shard.py [REPETITIONS]

Runs ``validation/islands/plain_fully_shard.py``, which is torch alone, and ``realrun lab`` with
``sim.methods.inside:fsdp``, with and without prefetch, by turns in a lab (Linux, root). Prints a
table of the medians.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent.parent / "validation" / "islands"
SCENARIO = HERE / "fully_shard.toml"
SKIPPED = 4  # steps at the beginning
LOSSES_AGREE = 1e-4  # relative

Run = tuple[float, list[list[float]], float]


def _lab(*arguments: str, **environment: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "realrun", "lab", str(SCENARIO), *arguments],
        cwd=HERE.parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(ran.stderr.strip().splitlines()[-1])
    return ran.stdout


def plain() -> Run:
    """Return seconds per step and losses by rank; how long torch waits is not known."""
    with tempfile.TemporaryDirectory() as out:
        script = str(HERE / "plain_fully_shard.py")
        _lab("--", sys.executable, script, OUT=out, SCENARIO=str(SCENARIO))
        found = [json.loads((Path(out) / f"{rank}.json").read_text()) for rank in range(2)]
    ends = [each["ends"][SKIPPED:] for each in found]
    seconds = max((own[-1] - own[0]) / (len(own) - 1) for own in ends)
    return seconds, [each["losses"] for each in found], float("nan")


def ours(*settings: str) -> Run:
    """Return the same of our fsdp, and the share of its time that communication took."""
    given = [text for setting in settings for text in ("--set", setting)]
    with tempfile.TemporaryDirectory() as out:
        path = Path(out) / "losses.csv"
        skipped = ["--set", f"run.skip_rounds={SKIPPED}"]
        text = _lab(*given, *skipped, "--losses", str(path), "--json")
        figures: dict[str, Any] = json.loads(text)["evaluated_rounds"]
        rows = list(csv.DictReader(path.open(encoding="utf-8")))
    losses = [
        [float(row["loss_nats_per_token"]) for row in rows if row["rank"] == str(rank)]
        for rank in range(2)
    ]
    spent = figures["breakdown"]
    return figures["inner_step_s"], losses, spent["exposed_communication"] + spent["waiting"]


def main() -> None:
    """Print the table; end with 1 where losses differ."""
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    programs = {
        "torch fully_shard": plain,
        "fsdp, prefetch": ours,
        "fsdp, without prefetch": lambda: ours("method.prefetch=false"),
    }
    found: dict[str, list[Run]] = {name: [] for name in programs}
    for _ in range(repetitions):
        for name, program in programs.items():
            found[name].append(program())
            print(name, f"{found[name][-1][0]:.4f} s", flush=True)
    reference = found["torch fully_shard"][0][1]
    differences = {
        name: max(
            abs(one / other - 1)
            for run in runs
            for own, others in zip(run[1], reference, strict=True)
            for one, other in zip(own, others, strict=True)
        )
        for name, runs in found.items()
    }
    print("\n| program | seconds per step | over fully_shard's | exposed | losses differ by |")
    print("|---|---|---|---|---|")
    base = median(run[0] for run in found["torch fully_shard"])
    for name, runs in found.items():
        seconds, exposed = median(run[0] for run in runs), median(run[2] for run in runs)
        shown = "-" if exposed != exposed else f"{100 * exposed:.0f} %"
        print(
            f"| {name} | {seconds:.4f} | {seconds / base:.3f} | {shown} | {differences[name]:.1e} |"
        )
    raise SystemExit(max(differences.values()) > LOSSES_AGREE)


if __name__ == "__main__":
    main()
