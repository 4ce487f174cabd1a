"""A point of a study in two versions, in turn: ratios that hold on a busy machine too.

    git worktree add --detach /tmp/before COMMIT
    python benchmarks/pairs.py /tmp/before [TIMES]

One process per version stays alive, and each in turn computes a point as
``test_one_point_of_a_study_at_10b`` has it: simulation, figures and the row of results. Prints the
least seconds of processor time of TIMES (20) each, and the ratio of this tree to the other.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMES = 20
CASES = {
    "ddp, buckets": ("ddp", []),
    "acco": ("acco", []),
    "streaming_diloco, layers": ("streaming_diloco", ["method.overlap=layer"]),
    "diloco": ("diloco", []),
}
#: In each process: computes the point once for every line that it is sent. The modules had other
#: names before they became packages.
ANSWERS = """
import sys
from time import process_time
from sim.scenario import load
try:
    from sim.questions.replications import predicted
    from sim.questions.study import row
except ImportError:
    from sim.replications import predicted
    from sim.study import row
method, *arguments = sys.argv[1:]
scenario = load(None, {"--model": "10B", "--method": method}, arguments)
for _ in sys.stdin:
    begin = process_time()
    row({}, scenario, predicted(scenario))
    print(process_time() - begin, flush=True)
"""


class Version:
    """A process that computes a point in one version's tree."""

    def __init__(self, tree: Path, method: str, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANSWERS, method, *arguments],
            cwd=tree,
            env={"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self) -> float:
        """Compute the point once; seconds of processor time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()


def compared(before: Path, method: str, arguments: list[str], times: int) -> tuple[float, float]:
    """Return the least seconds of the other version and of this one."""
    versions = [Version(tree, method, arguments) for tree in (before, ROOT)]
    for version in versions * 2:  # imports and caches
        version.seconds()
    seconds = [[version.seconds() for version in versions] for _ in range(times)]
    for version in versions:
        version.end()
    first, second = (min(each) for each in zip(*seconds, strict=True))
    return first, second


def main() -> None:
    """Print a line per case; see the module's docstring."""
    before = Path(sys.argv[1]).resolve()
    times = int(sys.argv[2]) if len(sys.argv) > 2 else TIMES
    for name, (method, arguments) in CASES.items():
        first, second = compared(before, method, arguments, times)
        ratio = second / first
        print(f"{name}: {first * 1e3:.2f} ms, {second * 1e3:.2f} ms, {ratio:.3f}", flush=True)


if __name__ == "__main__":
    main()
