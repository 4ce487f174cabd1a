"""How long the what-if page takes, in headless Chromium: ``python benchmarks/page.py [REPEATS]``.

From a change of a control to the new figures, and to the whole curve of 25 points, for the methods
of the page at 10B parameters. It needs the extra web, playwright and Debian's chromium. Nothing is
kept from an earlier answer: each repeat asks for another round trip.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.serving import served

FAMILY_MS, DDP_MS, ACCO_MS, FIGURES_MS = 300, 2000, 4000, 300
CASES = {
    "diloco": ({}, FAMILY_MS),
    "eager_diloco": ({}, FAMILY_MS),
    "streaming_diloco": ({}, FAMILY_MS),
    "streaming_diloco by layers": ({"overlap": "layer"}, FAMILY_MS),
    "ddp": ({}, DDP_MS),
    "acco": ({}, ACCO_MS),
}
"""Method, and what is asked of it -> further inputs, and the time that its curve may take."""

_CHANGE = """async (text) => {
  const until = async (holds) => { while (!holds()) await new Promise((on) => setTimeout(on, 2)); };
  const at = (name) => document.getElementById(name);
  await until(() => !document.body.hasAttribute("aria-busy"));
  at("chart").replaceChildren();
  const field = at("rtt"), begun = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await until(() => at("command") && at("command").textContent.includes(text));
  const figures = performance.now() - begun;
  const line = () => document.querySelector("#chart polyline");
  await until(() => line() && line().points.length === 25);
  return [figures, performance.now() - begun];
}"""


def measured(page: Any, address: str, case: str, repeats: int) -> list[tuple[float, float]]:
    """Return milliseconds to the figures and to the curve, for each repeat."""
    method, more = case.split(" ")[0], CASES[case][0]
    given = {"model": "10B", "method": method, "sites": "2", "bandwidth": "1 Gbit/s"}
    given |= {"rtt": "30 ms", "tokens": "2B", "methods": method, **more}
    page.goto(f"{address}?{urlencode(given)}")
    page.locator("#status .sentence").wait_for()
    return [page.evaluate(_CHANGE, f"{31 + number} ms") for number in range(repeats)]


def main() -> None:
    """Print the medians, and what takes longer than it may."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, medians of {repeats}, in ms")
    print(f"{'curve of':28} {'figures':>8} {'curve':>8} {'target':>8}")
    with served() as (_, address), sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for case, (_, target) in CASES.items():
            figures, curve = zip(*measured(page, address, case, repeats), strict=True)
            missed = statistics.median(figures) > FIGURES_MS or statistics.median(curve) > target
            print(
                f"{case:28} {statistics.median(figures):8.0f} {statistics.median(curve):8.0f} "
                f"{target:8d}{'  missed' if missed else ''}"
            )
        browser.close()


if __name__ == "__main__":
    main()
