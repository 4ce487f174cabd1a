"""The page as HTML, filled in, usable without its script."""

from __future__ import annotations

from html import escape

from sim.web.answers import PARTS, Answer, error_html
from sim.web.inputs import CURVES, Input, Point, groups, inputs

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bandwise: what if?</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<a class="skip" href="#answer-title">Skip to the answer</a>
<header><h1>What if?</h1>
<p>Predicted by simulation: nothing is trained. Anything left empty gets a default, which the
answer lists.</p></header>
<main{refused}>
<form id="inputs" method="get" action="/">
{fields}
<fieldset class="curves"><legend>Curves</legend>{curves}</fieldset>
<p><button type="submit">Answer</button> <a href="/">Begin again</a></p>
</form>
<div class="answers">
<section class="answer" aria-labelledby="answer-title">
<h2 id="answer-title" tabindex="-1">Answer</h2>
<div id="status" role="status" aria-live="polite">{status}</div>
</section>
<section aria-labelledby="figures-title">
<h2 id="figures-title">Figures</h2>
<div id="figures" tabindex="-1">{figures}</div>
<details><summary>What was assumed</summary><div id="assumed">{assumed}</div></details>
</section>
<section aria-labelledby="chart-title">
<h2 id="chart-title">Compute utilization against bandwidth</h2>
<div id="chart" class="wide" data-parts="{parts}"></div>
<p id="chart-status" role="status"></p>
<button type="button" id="draw" hidden>Draw the curves: gloo's messages take long</button>
<details><summary>The curves as a table</summary><div id="chart-table" class="wide"></div></details>
<noscript><p>Without its script the page draws no curves;
<code>bandwise sweep --over bandwidth=0.1..1000Gbit/s:25</code> prints them.</p></noscript>
</section>
<section aria-labelledby="ask-title">
<h2 id="ask-title">Ask for the same elsewhere</h2>
<div id="elsewhere">{elsewhere}</div>
</section>
<section aria-labelledby="required-title">
<h2 id="required-title">Bandwidth that a utilization needs</h2>
<div id="required" aria-live="polite"></div>
<p><a id="required-link" href="/required?{address}">The same as JSON</a></p>
</section>
<section aria-labelledby="memory-title">
<h2 id="memory-title">Memory on an accelerator</h2><div id="memory" aria-live="polite"></div>
<p><a id="memory-link" href="/memory?{address}">The same as JSON</a></p>
</section>
<section aria-labelledby="timeline-title">
<h2 id="timeline-title">Timeline</h2><div id="pictures"></div>
</section>
</div>
</main>
</body>
</html>
"""


def page(chosen: Point, answer: Answer) -> str:
    """Return the page of a point with its answer, or with the message that refuses it."""
    failed = answer.get("error")
    return _PAGE.format(
        parts=len(PARTS),
        refused=' class="refused"' if failed else "",
        fields="".join(_group(title, group, chosen) for title, group in groups().items()),
        curves="".join(_curve(name, chosen) for name in inputs()["method"].choices),
        status=error_html(failed) if failed else status(answer),
        figures="" if failed else answer["html"],
        assumed="" if failed else answer["assumed_html"],
        elsewhere="" if failed else elsewhere(answer),
        address=escape(chosen.address),
    )


def status(answer: Answer) -> str:
    """Return the answer in a sentence, and what was left out of it."""
    said = [f'<p class="sentence">{escape(answer["sentence"])}</p>']
    said += [f"<p>{escape(line)}</p>" for line in answer["left_out"]]
    if answer["slow"]:
        said.append("<p>gloo's messages are simulated one by one, which is slow.</p>")
    return "".join(said)


def elsewhere(answer: Answer) -> str:
    """Return links and texts that give the same answer again."""
    address = escape(answer["address"])
    texts = (("command", "Command line"), ("toml", "TOML"), ("python", "Python"))
    return (
        f'<p><a href="/?{address}">Permalink</a> '
        f'<a href="/report?{address}" download="bandwise.html">Download the HTML report</a></p>'
        + "".join(_text(name, title, answer[name]) for name, title in texts)
    )


def _text(name: str, title: str, text: str) -> str:
    return (
        f'<div class="copied"><h3 id="{name}-title">{title}</h3>'
        f'<button type="button" data-copy="{name}" hidden>Copy<span class="spoken"> {title}</span>'
        f'</button><pre id="{name}" tabindex="0" aria-labelledby="{name}-title">'
        f"{escape(text)}</pre></div>"
    )


def _group(title: str, group: tuple[Input, ...], chosen: Point) -> str:
    values = dict(chosen.values)
    fields = "".join(_field(each, values.get(each.name, "")) for each in group)
    return f"<fieldset><legend>{escape(title)}</legend>{fields}</fieldset>"


_SLIDERS = {
    "bandwidth": ("Gbit/s", -1, 3),
    "rtt": ("ms", 0, 3),
    "sync_every": ("", 0, 3),
}
"""Input -> unit and powers of ten from and to which its slider moves; the script moves it."""


def _field(of: Input, value: str) -> str:
    label = f'<label for="{of.name}">{escape(of.label)}</label>'
    if of.choices:
        options = "".join(
            f'<option value="{escape(each)}"{" selected" if each == value else ""}>'
            f"{escape(each) or 'default'}</option>"
            for each in of.choices
        )
        return f'<div>{label}<select id="{of.name}" name="{of.name}">{options}</select></div>'
    slider = ""
    if of.name in _SLIDERS:
        unit, low, high = _SLIDERS[of.name]
        slider = (
            f'<input type="range" data-for="{of.name}" data-unit="{unit}" min="{low}" '
            f'max="{high}" step="0.05" aria-label="{escape(of.label)}, slider" hidden>'
        )
    number = f' inputmode="numeric" data-most="{of.most}"' if of.most else ""
    return (
        f'<div>{label}<input id="{of.name}" name="{of.name}" value="{escape(value)}" '
        f'placeholder="{escape(of.hint)}" autocomplete="off"{number}>{slider}</div>'
    )


def _curve(name: str, chosen: Point) -> str:
    checked = " checked" if name in chosen.methods else ""
    return (
        f'<label class="check"><input type="checkbox" name="{CURVES}" value="{name}"{checked}> '
        f"{name}</label>"
    )
