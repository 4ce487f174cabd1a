"""What predictions take, next to what sim/questions/effort.py has estimated.

    python benchmarks/effort.py

One process per case; seconds of its processor, and the peak of its memory above loading.
"""

from __future__ import annotations

import subprocess
import sys

CASES = {
    "ddp, 2 sites": "--method ddp",
    "ddp by bucket, 4 sites": "--method ddp --overlap bucket --sites 4",
    "streaming, H = 500": "--method streaming_diloco --sync-every 500",
    "diloco by layer, jitter": "--method diloco --overlap layer --jitter lognormal:0.1",
    "streaming, jitter, 16 workers": "--workers 8 --jitter lognormal:0.1",
    "diloco, jitter, 200 workers": "--method diloco --workers 100 --jitter normal:0.1",
    "acco": "--method acco",
    "direct, 1,000 workers": "--method diloco --workers 500 --algorithm direct",
    "direct, 3,000 workers": "--method diloco --workers 1500 --algorithm direct",
    "ring, 5,000 workers": "--method diloco --workers 2500",
    "500 sites": "--method diloco --sites 500",
    "1,500 sites": "--method diloco --sites 1500",
    "gloo, 3 sites, ddp": "--method ddp --sites 3 --algorithm gloo --rounds 2",
    "gloo, 12 sites, diloco": "--method diloco --sites 12 --algorithm gloo",
}

_ONE = """
import resource, sys, time
from sim.questions.effort import effort
from sim.questions.replications import predicted
from sim.scenario import load
words = sys.argv[1].split()
scenario = load(None, {"--model": "1B", "--step-time": "1s", **dict(zip(words[::2], words[1::2]))})
estimate = effort(scenario)
before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
predicted(scenario)
took = time.process_time() - begun
size = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(estimate.seconds, took, estimate.bytes, size)
"""


def main() -> None:
    print("| case | estimated s | s | estimated MB | MB |\n|---|---|---|---|---|")
    for name, options in CASES.items():
        command = [sys.executable, "-c", _ONE, options]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        said, took, size, used = map(float, ran.stdout.split())
        print(f"| {name} | {said:.2f} | {took:.2f} | {size / 1e6:.0f} | {used / 1e6:.0f} |")


if __name__ == "__main__":
    main()
