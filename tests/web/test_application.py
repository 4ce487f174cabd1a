"""The what-if page without a browser: what it answers, what it refuses, and whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from support.asgi import Reply, get

import sim
from sim.web import answers
from sim.web.inputs import Point, read
from sim.web.work import Work

pytest.importorskip("starlette", reason="the extra web is not installed")

QUERY = "model=1B&method=diloco&sites=2&bandwidth=1+Gbit%2Fs&tokens=2B&methods=diloco&methods=ddp"


@pytest.fixture(scope="module")
def work() -> Work:
    return Work()


@pytest.fixture(scope="module")
def app(work: Work) -> Any:
    from sim.web.application import application

    return application(work)


def scenario() -> sim.Scenario:
    return sim.make_scenario(model="1B", method="diloco", sites=2, bandwidth="1 Gbit/s", tokens=2e9)


def test_figures_are_those_of_the_python_api(app: Any) -> None:
    found = get(app, f"/answer?{QUERY}").json
    assert found["figures"] == sim.simulate(scenario(), sensitivity=False).figures


def test_a_curve_has_the_utilization_of_each_bandwidth(app: Any) -> None:
    points = get(app, f"/curve?{QUERY}&of=streaming_diloco").json["points"]
    assert [rate * 8e-9 for rate, _ in points] == pytest.approx(answers.bandwidths())
    shares = [share for _, share in points]
    assert shares == sorted(shares)
    base = scenario().replace(method="streaming_diloco")
    for number in (0, 12, 24):
        figures = sim.simulate(base.replace(bandwidth=points[number][0])).figures
        assert figures["compute_utilization"] == pytest.approx(shares[number], rel=1e-9)


def test_parts_of_a_curve_are_the_whole_curve(app: Any) -> None:
    numbers = range(len(answers.PARTS))
    parts = [get(app, f"/curve?{QUERY}&of=diloco&part={n}").json["points"] for n in numbers]
    whole = get(app, f"/curve?{QUERY}&of=diloco").json["points"]
    assert sorted(pair for part in parts for pair in part) == whole
    assert [len(part) for part in parts] == [5, 4, 8, 8]


def test_required_bandwidths_are_those_of_the_python_api(app: Any) -> None:
    found = get(app, f"/required?{QUERY}").json["figures"]
    assert found == sim.required(scenario(), answers.TARGETS).figures


def test_memory_is_that_of_the_python_api(app: Any) -> None:
    found = get(app, f"/memory?{QUERY}")
    assert found.json["figures"] == sim.memory(scenario(), ["diloco"]).figures
    assert "<table" in found.json["html"]


def test_a_message_has_the_name_of_the_control(app: Any) -> None:
    said = get(app, f"/answer?{QUERY}&price=cheap&accelerators=8+x+H100").json["error"]
    assert "price" in said
    assert "settings" not in said


def test_python_has_numbers_where_the_page_asks_for_whole_numbers() -> None:
    assert "sites=2" in read([("sites", "2"), ("model", "1B")]).python


def test_where_nothing_is_answered_no_heading_stands_above_nothing(app: Any) -> None:
    assert '<main class="refused">' in get(app, "/?bandwidth=none").text
    assert "<main>" in get(app, f"/?{QUERY}").text


def test_the_page_is_filled_in_without_its_script(app: Any) -> None:
    reply = get(app, f"/?{QUERY}")
    assert reply.status == 200
    assert 'value="1 Gbit/s"' in reply.text
    assert '<option value="diloco" selected>' in reply.text
    figures = sim.simulate(scenario(), sensitivity=False)
    assert figures._report.answer in reply.text
    assert "model.layers" in reply.text  # what was assumed


def test_every_input_has_a_label(app: Any) -> None:
    import re

    text = get(app, "/").text
    named = set(re.findall(r'<(?:input|select) id="(\w+)"', text))
    assert named
    assert named == set(re.findall(r'<label for="(\w+)"', text))


def test_the_report_is_the_page_that_the_command_writes(app: Any) -> None:
    reply = get(app, f"/report?{QUERY}")
    assert reply.headers["content-disposition"] == 'attachment; filename="bandwise.html"'
    assert reply.text.startswith("<!DOCTYPE html>")
    assert "bandwise simulate --model 1B" in reply.text
    assert "<script" not in reply.text


def test_pictures_show_the_timeline(app: Any) -> None:
    assert "<svg" in get(app, f"/pictures?{QUERY}").json["html"]


MALFORMED = [
    *[("model", v) for v in ("foo", "10Q", "-1B", "my.module:net", "/etc/passwd", "../net", "0")],
    *[("tokens", v) for v in ("many", "-2B", "0", "1e999", "2 GB", "nan")],
    *[("batch_tokens", v) for v in ("x", "-1", "0")],
    *[("method", v) for v in ("dilco", "os:system", "DDP!", "module.name")],
    *[("sync_every", v) for v in ("0", "-5", "1.5", "often", "[1, 2, 3]")],
    *[("fragment_sync_delay", v) for v in ("-1", "late")],
    *[("num_fragments", v) for v in ("0", "all")],
    *[("comm_dtype", v) for v in ("fp5", "int")],
    *[("overlap", v) for v in ("layers", "yes")],
    *[("sites", v) for v in ("0", "33", "1e9", "a,b", "-2", "²")],
    *[("workers", v) for v in ("0", "9", "two")],
    *[("accelerators", v) for v in ("8 x H1000", "H100 x", "0 x H100")],
    *[("mfu", v) for v in ("3", "-0.1", "half", "0")],
    *[("price", v) for v in ("free", "-2 USD/h", "2 USD/kg")],
    *[("bandwidth", v) for v in ("1 Gbitt/s", "1", "-1 Gbit/s", "0 Gbit/s", "fast", "1\n2")],
    *[("rtt", v) for v in ("30 mss", "-1 ms", "30 Gbit/s")],
    *[("algorithm", v) for v in ("rings", "none")],
    *[("methods", v) for v in ("dlico", "a:b")],
    ("modle", "10B"),
    ("hardware", "file.json"),
    ("scenario", "/etc/passwd"),
    ("model", "1" * 500),
    ("<script>", "1"),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_address_gets_one_message(app: Any, name: str, value: str) -> None:
    method = "streaming_diloco"
    given = {"model": "1B", "method": method, "mfu": "", "bandwidth": "1 Gbit/s"} | {name: value}
    if name == "mfu":
        given["accelerators"] = "8 x H100"
    if name == "accelerators":
        given["mfu"] = "0.4"
    reply = get(app, f"/answer?{urlencode(given)}")
    assert reply.status == 400, reply.text[:300]
    line = reply.json["error"]
    assert name in line
    assert "\n" not in line
    assert "Traceback" not in line
    whole = get(app, f"/?{urlencode(given)}")
    assert whole.status == 400
    assert "Not answered." in whole.text
    assert "<script>" not in whole.text.replace('<script src="/page.js" defer>', "")


def test_a_near_match_is_named(app: Any) -> None:
    assert 'did you mean "diloco"?' in get(app, "/answer?method=dilco").json["error"]
    assert 'did you mean "method"?' in get(app, "/answer?metod=ddp").json["error"]
    assert "given twice" in get(app, "/answer?model=1B&model=10B").json["error"]
    assert get(app, f"/curve?{QUERY}&of=dilco").json["error"].startswith('of: "dilco"')
    assert get(app, f"/curve?{QUERY}&part=9").json["error"].startswith('part: "9"')


@pytest.mark.parametrize("host", ["example.org", "example.org:8765", "127.0.0.1.example.org", ""])
def test_another_host_is_refused(app: Any, host: str) -> None:
    assert get(app, "/", host=host).status == 400


def test_another_site_may_link_but_not_ask(app: Any) -> None:
    assert get(app, "/?model=1B", sec_fetch_site="cross-site").status == 200
    assert get(app, "/answer?model=1B", sec_fetch_site="cross-site").status == 403


def test_an_address_that_is_too_long_is_refused(app: Any) -> None:
    assert get(app, "/answer?" + "&".join(["model=1B"] * 1000)).status == 400


def test_the_page_may_load_nothing_from_elsewhere(app: Any) -> None:
    reply: Reply = get(app, "/")
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    folder = Path(answers.__file__).parent
    for text in (reply.text, *((folder / name).read_text() for name in ("page.js", "page.css"))):
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


def test_an_answer_is_computed_once(app: Any, work: Work) -> None:
    address = "/answer?model=1B&method=diloco&bandwidth=3+Gbit%2Fs"
    found = get(app, address).json
    before = work.computed
    assert get(app, address).json == found
    assert work.computed == before


@pytest.mark.parametrize("algorithm", ["ring", "gloo"])
def test_figures_pictures_and_report_of_a_point_are_of_one_run(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    from sim.questions import replications
    from sim.web.work import part_of

    given = [("model", "1B"), ("method", "diloco"), ("rtt", "7 ms"), ("algorithm", algorithm)]
    chosen = read(given)
    asked = [answers.point, answers.pictures, answers.report]
    first_part = "pictures" if algorithm == "gloo" else "figures"
    assert [part_of(each, chosen) for each in asked] == [first_part, "pictures", "pictures"]
    simulated = replications.simulate
    runs: list[Any] = []
    monkeypatch.setattr(
        replications, "simulate", lambda *a, **k: (runs.append(a), simulated(*a, **k))[1]
    )
    for each in asked:
        each(chosen)
    first = len(runs)
    assert first
    for each in asked:
        each(read([*given, ("methods", "ddp")]))  # another curve is the same point
    assert len(runs) == first
    answers.point(read([*given[:2], ("rtt", "8 ms")]))
    assert len(runs) > first


def test_answers_that_nobody_asks_for_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.web.work.KEPT", 2)
    work = Work()

    def same(point: Point) -> dict[str, Any]:
        return {"address": point.address}

    async def ask() -> int:
        for rate in (1, 2, 1, 3, 1):
            point = read([("bandwidth", f"{rate} Gbit/s")])
            await work.answer(same, point)
        return work.computed

    assert asyncio.run(ask()) == 3
    assert asyncio.run(work.answer(same, read([("bandwidth", "2 Gbit/s")])))
    assert work.computed == 4


def test_what_nobody_waits_for_is_not_computed() -> None:
    work = Work()

    async def left() -> bool:
        return True

    point = read([("model", "1B")])
    asyncio.run(work.answer(answers.curve, point, "ddp", left=left))
    assert work.computed == 0


def test_a_process_that_was_killed_is_replaced() -> None:
    import os
    import signal

    from sim.web.work import in_processes

    work = in_processes()
    point = read([("model", "1B"), ("method", "diloco")])
    executor: Any = work._executors["figures"]

    async def ask() -> tuple[Any, Any]:
        await asyncio.get_running_loop().run_in_executor(executor, os.getpid)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)
        lost = await work.answer(answers.point, point)
        return lost, await work.answer(answers.point, point)

    lost, found = asyncio.run(ask())
    work.close()
    assert "was killed" in lost["error"]
    assert found["figures"]["method"] == "diloco"


def test_several_curves_are_computed_at_a_time_and_points_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work(at_once=2)
    running, most = [0], [0]

    async def computed(part: str, function: Any, *args: Any) -> dict[str, Any]:
        running[0] += 1
        most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running[0] -= 1
        return {"points": args}

    monkeypatch.setattr(work, "_computed", computed)

    async def ask() -> None:
        points = [read([("bandwidth", f"{rate} Gbit/s")]) for rate in range(1, 6)]
        await asyncio.gather(*(work.answer(answers.curve, each, "ddp") for each in points))

    asyncio.run(ask())
    assert most == [2]
