"""What `bandwise simulate` takes for thousands of workers, all rounds simulated.

    python benchmarks/large.py [TREE ...]

DiLoCo with sites of unequal speed, jitter and links of their own, on a ring (one worker a site) and
hierarchically (eight workers a site). Of each tree with sources, by default this one, in turn:
seconds of the processor and peak memory of a new process, from its start to the output as JSON,
loading included. Nothing is extrapolated: every round of the horizon is simulated, and the table
says how many. Figures are in HISTORY.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from sites import taken

#: Workers and rounds: growth in the one and in the other.
CASES = ((1_000, 100), (3_000, 25), (3_000, 100), (10_000, 25), (10_000, 100))


def scenario(workers: int, rounds: int, algorithm: str) -> str:
    """Sites with a speed, jitter and links of their own."""
    each = 8 if algorithm == "hierarchical" else 1
    head = (
        'model.parameters = "10B"\nmethod.name = "diloco"\n'
        f'network.collective.algorithm = "{algorithm}"\n'
        f"run = {{ rounds = {rounds}, skip_rounds = 1, measured_rounds = {rounds - 1}, "
        "replications = 1 }\n"
    )
    return head + "".join(
        f'[[site]]\nname = "place {n}"\nworkers = {each}\njitter = "lognormal:0.05"\n'
        f'step_time = "{1 + n * 7919 % 4001 / 10_000} s"\n'
        f'uplink = "{1 + n % 97} Gbit/s"\ndownlink = "{2 + n % 13} Gbit/s"\n'
        for n in range(workers // each)
    )


def main(trees: list[str]) -> None:
    print("| tree | collective | workers | rounds simulated | s | MiB |\n|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for algorithm in ("ring", "hierarchical"):
            for workers, rounds in CASES:
                file = Path(folder) / "large.toml"
                file.write_text(scenario(workers, rounds, algorithm))
                for tree in trees:
                    seconds, mebibytes = taken(tree, file)
                    print(
                        f"| {tree} | {algorithm} | {workers:,} | {rounds} | {seconds:.1f} | "
                        f"{mebibytes:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main(sys.argv[1:] or [str(Path(__file__).parent.parent)])
