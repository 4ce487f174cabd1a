"""What `bandwise simulate` takes for hundreds to thousands of sites.

    python benchmarks/sites.py [TREE ...]

Of each tree with sources, by default this one, in turn: seconds of the processor and peak memory
of a new process, from its start to the output as JSON. Figures are in HISTORY.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SITES = (100, 1_000, 10_000)
ROUNDS = 3

_HEAD = 'model.parameters = "1B"\nmethod.name = "diloco"\nnetwork.collective.algorithm = "tree"\n'


def alike(sites: int) -> str:
    return f'{_HEAD}site = [{{ count = {sites}, step_time = "1 s" }}]\n'


def by_pair(sites: int) -> str:
    return f'{alike(sites)}network.per = "pair"\n'


def named(sites: int) -> str:
    """Sites with a name and lines of their own."""
    return _HEAD + "".join(
        f'[[site]]\nname = "place {n}"\nstep_time = "{1 + n % 3} s"\n'
        f'uplink = "{1 + n % 977} Gbit/s"\ndownlink = "{2 + n % 13} Gbit/s"\n'
        for n in range(sites)
    )


def taken(tree: str, file: Path) -> tuple[float, float]:
    """Seconds of the processor and MiB of one process; nan where it refuses."""
    command = [sys.executable, "-P", "-m", "sim.cli", "simulate", str(file), "--json"]
    ran = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": tree},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(ran.pid, 0)
    ran.returncode = os.waitstatus_to_exitcode(status)
    if ran.returncode:
        return float("nan"), float("nan")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(trees: list[str]) -> None:
    print("| tree | links | sites | s | MiB |\n|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for links in (alike, by_pair, named):
            for sites in SITES:
                file = Path(folder) / "sites.toml"
                file.write_text(links(sites))
                found = [[taken(tree, file) for tree in trees] for _ in range(ROUNDS)]
                for tree, runs in zip(trees, zip(*found, strict=True), strict=True):
                    seconds, mebibytes = map(min, zip(*runs, strict=True))
                    name = links.__name__.replace("_", " ")
                    print(f"| {tree} | {name} | {sites:,} | {seconds:.2f} | {mebibytes:.0f} |")


if __name__ == "__main__":
    main(sys.argv[1:] or [str(Path(__file__).parent.parent)])
