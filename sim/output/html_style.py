"""How a page looks: on a desk, on a telephone, in the dark, on paper."""

from __future__ import annotations

# Contrast of text: at least 7 to 1 on its background, of muted text at least 5.5, in both schemes.
STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --muted: #545c66; --page: #ffffff;
  --card: #f4f6f8; --rule: #d0d7de; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --muted: #a9b3bf;
  --page: #14171b; --card: #1f242a; --rule: #3a424c; --mark: #7fbcff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 3rem; background: var(--page);
  color: var(--text); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.2rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; padding-top: 0.8rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.4rem 0 0.3rem; }
p, ul { margin: 0.5rem 0; max-width: 46rem; }
.kind { color: var(--muted); margin: 0; }
.answer { background: var(--card); border-left: 0.3rem solid var(--mark); padding: 0.9rem 1.1rem;
  font-size: 1.15rem; max-width: none; }
.wide { overflow-x: auto; margin: 0.8rem 0; max-width: 100%; position: relative; }
.wide:focus-visible, pre:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; position: sticky; left: 0;
  max-width: calc(100vw - 2rem); }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
th, td { padding: 0.25rem 1rem 0.25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); font-weight: 400; overflow-wrap: normal; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom-width: 2px; }
td { max-width: 34rem; }
.two td { max-width: 44rem; overflow-wrap: anywhere; }
tbody th { min-width: 6rem; }
.number { text-align: right; white-space: nowrap; }
thead .number { white-space: normal; }
.said { min-width: 12rem; }
.many { font-size: 0.85rem; }
.many th, .many td { padding-right: 0.6rem; }
.many td, .many tbody th { white-space: nowrap; }
.many .said, .many tbody .long { white-space: normal; }
.many tbody .long { min-width: 14rem; }
.bar { color: var(--mark); letter-spacing: -0.05em; white-space: nowrap; font-size: 0.6rem;
  vertical-align: middle; }
pre { background: var(--card); padding: 0.7rem 0.9rem; white-space: pre-wrap; font-size: 0.9rem;
  overflow-wrap: anywhere; }
code, pre { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
figure { margin: 1rem 0 1.6rem; }
.picture { background: #ffffff; border: 1px solid var(--rule); padding: 0.5rem; margin: 0; }
.picture svg { display: block; width: 100%; max-width: 54rem; height: auto; margin: 0 auto; }
.picture svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { color: var(--muted); font-size: 0.9rem; margin-top: 0.3rem; }
.hash { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
@media (max-width: 30rem) {
  .two { font-size: 0.8rem; }
  .two th, .two td { padding-right: 0.5rem; }
}
@media print {
  @page { margin: 14mm 12mm; }
  :root { color-scheme: light; --text: #000000; --muted: #444444; --page: #ffffff;
    --card: #ffffff; --rule: #999999; --mark: #0b5cad; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2, h3, caption { break-after: avoid; }
  tr, figure, pre, .answer { break-inside: avoid; }
  thead { display: table-header-group; }
  .wide { overflow: visible; }
  table { font-size: 8pt; max-width: 100%; }
  th, td { padding-right: 0.5rem; }
  .number, .many td, .many tbody th { white-space: normal; }
  .said, .many tbody .long { min-width: 0; }
  .picture svg { min-width: 0 !important; max-width: 100%; max-height: 230mm; }
  .picture, .answer, .bar { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
""".strip()
