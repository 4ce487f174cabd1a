"""What is lost, what is left and what is said when something goes wrong: ``make faults``.

Every command that writes or measures meets full and read-only disks, folders with other content,
damaged files, a second command on its folder, and SIGTERM and SIGKILL at random moments. Needs
Linux and root (small file systems are mounted, a lab is built). Writes faults.md and faults.json
into the folder that is given; exit status 1 if anything was lost, left or said at length.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from time import monotonic

import disks
from commands import COMMANDS, Command
from faults import FAULTS, Bench, Met

from realrun.processes.namespaces import Namespace


def main() -> None:
    """Run what is asked for, write the table, and end with 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for faults.md and faults.json")
    parser.add_argument("--command", action="append", choices=sorted(COMMANDS), default=[])
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), default=[])
    parser.add_argument("--kills", type=int, help="in place of 20 for train and study, else 5")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.exit("faults: needs Linux and root: it mounts small file systems and builds a lab")
    try:
        Namespace().close()
    except OSError as error:
        sys.exit(f"faults: needs network namespaces: {error}")
    disks.alone()
    asked.out.mkdir(parents=True, exist_ok=True)
    began, met = monotonic(), []
    for name in asked.command or COMMANDS:
        command = COMMANDS[name]
        if asked.kills is not None:
            command = Command(**{**vars(command), "kills": asked.kills})
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            bench = Bench(command, Path(folder), random.Random(f"{asked.seed} {name}"))
            bench.undisturbed()
            told(f"{name}: undisturbed in {bench.seconds:.1f} s")
            for fault in asked.fault or FAULTS:
                for row in FAULTS[fault](bench):
                    met.append(row)
                    told(f"  {row}")
                write(met, asked.out, monotonic() - began)
    failed = [row for row in met if row.wrong]
    told(f"{len(met)} faults in {(monotonic() - began) / 60:.1f} min, {len(failed)} not met well")
    sys.exit(1 if failed else 0)


def told(line: str) -> None:
    """Say how far it has come."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def write(met: list[Met], folder: Path, seconds: float) -> None:
    """Write the table so far."""
    (folder / "faults.json").write_text(json.dumps([vars(row) for row in met], indent=1) + "\n")
    head = ["command", "fault", "times", "exit status", "lost", "left", "wrong", "said"]
    lines = [
        "# Faults",
        f"{len(met)} rows, {sum(row.times for row in met)} faults, {seconds / 60:.0f} minutes. "
        "Lost and left are what could not be had back, and what stayed behind.",
        "",
        f"| {' | '.join(head)} |",
        "|" + " --- |" * len(head),
    ]
    lines += [
        f"| {' | '.join(str(cell).replace('|', '/') for cell in row.cells())} |" for row in met
    ]
    (folder / "faults.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
