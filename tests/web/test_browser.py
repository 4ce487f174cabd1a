"""The what-if page in headless Chromium: moved sliders, permalinks, the report, where it asks."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.serving import served

pytest.importorskip("starlette", reason="the extra web is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

START = "model=1B&method=diloco&sites=2&bandwidth=1+Gbit%2Fs&rtt=30+ms&sync_every=100&tokens=2B"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served() as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of which every request and message of the console is kept."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    page.asked, page.said = [], []
    page.on("request", lambda request: page.asked.append(urlsplit(request.url)))
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    yield page
    hosts = {asked.hostname for asked in page.asked if asked.scheme in ("http", "https")}
    assert hosts == {"127.0.0.1"}
    assert not [text for text in page.said if "400" not in text]
    page.close()


def printed(command: str) -> Any:
    """Return what a command line of the page prints as JSON."""
    program, *words = shlex.split(command)
    assert program == "bandwise"
    run = [sys.executable, "-m", "sim", *words, "--json"]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


def test_figures_after_three_sliders_are_the_command_lines(page: Any, address: str) -> None:
    page.goto(f"{address}?{START}&methods=diloco")
    for name, power in (("bandwidth", "0.5"), ("rtt", "2"), ("sync_every", "1.7")):
        page.locator(f"input[data-for={name}]").fill(power)
    page.locator("#command", has_text="--sync-every 50").wait_for()
    command = page.locator("#command").inner_text()
    assert "--bandwidth '3.16 Gbit/s'" in command
    assert "--rtt '100 ms'" in command
    figures = printed(command)
    share = f"{100 * figures['compute_utilization']:.1f} %"
    assert share in page.locator("#status").inner_text()
    assert share in page.locator("#figures").inner_text()
    assert "bandwidth=3.16+Gbit" in page.url


def test_a_permalink_shows_the_same_answer_and_whole_curves(page: Any, address: str) -> None:
    page.goto(f"{address}?{START}&methods=diloco&methods=streaming_diloco")
    page.locator("#pictures svg").wait_for()
    said = page.locator("#status").inner_text()
    lines = page.locator("#chart polyline").evaluate_all("l => l.map(e => e.points.length)")
    assert lines == [25, 25]
    link = page.get_by_role("link", name="Permalink").get_attribute("href")
    page.goto(address.rstrip("/") + link)
    page.locator("#pictures svg").wait_for()
    assert page.locator("#status").inner_text() == said
    page.locator("#required table").wait_for()
    page.locator("#memory table").first.wait_for()


def test_the_report_is_downloaded(page: Any, address: str) -> None:
    page.goto(f"{address}?{START}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the HTML report").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert download.value.suggested_filename == "bandwise.html"
    assert "bandwise simulate --model 1B" in text


def test_a_value_that_cannot_be_meant_is_explained_and_put_right(page: Any, address: str) -> None:
    page.goto(f"{address}?{START}")
    page.get_by_label("Bandwidth", exact=True).fill("1 Gbitt/s")
    page.locator("#status .error", has_text="bandwidth").wait_for()
    page.get_by_label("Bandwidth", exact=True).fill("2 Gbit/s")
    page.locator("#status .sentence").wait_for()


def test_a_late_answer_is_discarded(page: Any, address: str) -> None:
    page.goto(f"{address}?{START}")
    page.locator("#pictures svg").wait_for()
    held: list[Any] = []
    page.route("**/answer?*Gbit*", lambda route: held.append(route), times=1)
    bandwidth = page.get_by_label("Bandwidth", exact=True)
    bandwidth.fill("5 Gbit/s")
    with page.expect_response("**/answer?*"):
        page.wait_for_timeout(300)
        assert len(held) == 1
        bandwidth.fill("7 Gbit/s")
    page.locator("#command", has_text="7 Gbit/s").wait_for()
    with suppress(playwright.Error):  # the script may have given it up already
        held[0].continue_()
    page.wait_for_timeout(300)
    assert "7 Gbit/s" in page.locator("#command").inner_text()


def test_all_can_be_reached_by_keyboard_on_a_telephone(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}?{START}")
    page.locator("#status .sentence").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    below = "document.querySelector('#inputs').getBoundingClientRect().top"
    assert page.locator("#status").bounding_box()["y"] < page.evaluate(below)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert {"model", "method", "bandwidth", "rtt", "algorithm", "wp", "command"} <= reached
