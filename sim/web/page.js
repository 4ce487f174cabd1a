// The page works without this: the form asks for a whole page. The script asks for parts of it.
"use strict";
const form = document.getElementById("inputs");
const at = (name) => document.getElementById(name);
const LOW = -1, HIGH = 3; // powers of ten of the chart's bandwidths, Gbit/s
const DASHES = ["", "8 3", "2 3", "8 3 2 3", "12 4"];
let asked = 0; // number of the latest question: answers to earlier ones are discarded
let leaving = new AbortController();

function query() {
  const given = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value.trim()) given.append(name, value);
  return given;
}

async function ask(path, given) {
  const answer = await fetch(`${path}?${given}`, { signal: leaving.signal });
  const found = await answer.json();
  if (found.error) throw new Error(found.error);
  return found;
}

function refuse(place, message) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = message;
  place.replaceChildren(line);
}

async function change(shown) {
  const own = ++asked;
  leaving.abort();
  leaving = new AbortController();
  const given = query(), signal = leaving.signal;
  const late = () => signal.aborted;
  const slow = given.get("algorithm") === "gloo"; // its messages are simulated one by one
  const parts = ["status", "figures", "elsewhere", "required", "memory", "pictures"].map(at);
  document.body.setAttribute("aria-busy", "true");
  parts.forEach((part) => part.classList.add("stale"));
  const drawn = slow ? null : draw(given, late); // in other processes than the figures
  try {
    const found = await ask("/answer", given);
    if (late()) return;
    at("status").innerHTML = found.status_html; // made and escaped by the server
    at("figures").innerHTML = found.html;
    at("assumed").innerHTML = found.assumed_html;
    at("elsewhere").innerHTML = found.elsewhere_html;
    document.querySelectorAll("[data-copy]").forEach((button) => (button.hidden = false));
    document.querySelector("main").classList.remove("refused");
    at("required-link").href = `/required?${given}`;
    at("memory-link").href = `/memory?${given}`;
    if (!shown) history.replaceState(null, "", `/?${found.address}`);
    ["status", "figures", "elsewhere"].forEach((name) => at(name).classList.remove("stale"));
    at("draw").hidden = !slow;
    at("draw").onclick = () => { at("draw").hidden = true; draw(given, late); };
    if (slow) { at("chart").replaceChildren(); return; }
    await drawn;
    await Promise.all(["required", "memory", "pictures"].map((name) => fill(name, `/${name}`, given, late)));
  } catch (error) {
    if (late() || error.name === "AbortError") return;
    leaving.abort(); // the curves would be refused, too
    refuse(at("status"), error.message);
    at("status").classList.remove("stale");
  } finally {
    if (own === asked) document.body.removeAttribute("aria-busy");
  }
}

async function fill(name, path, given, late) {
  try {
    const found = await ask(path, given);
    if (late()) return;
    at(name).innerHTML = found.html;
  } catch (error) {
    if (late() || error.name === "AbortError") return;
    refuse(at(name), error.message);
  }
  at(name).classList.remove("stale");
}

const COARSE_TO_FINE = [...Array(Number(at("chart").dataset.parts)).keys()]; // parts of a curve

async function draw(given, late) {
  const methods = given.getAll("methods");
  const curves = new Map(methods.map((name) => [name, []]));
  const failed = new Map();
  const part = async (method, number) => {
    const own = new URLSearchParams(given);
    own.set("of", method);
    own.set("part", number);
    try {
      const found = await ask("/curve", own);
      if (late()) return;
      curves.set(method, [...curves.get(method), ...found.points].sort((a, b) => a[0] - b[0]));
      chart(curves, given.get("bandwidth"));
    } catch (error) {
      if (error.name !== "AbortError") failed.set(method, error.message);
    }
  };
  // All are asked for at once; the server answers in this order, in as many processes as it has.
  await Promise.all(COARSE_TO_FINE.flatMap((number) => methods.map((name) => part(name, number))));
  if (late()) return;
  const messages = [...failed].map(([name, message]) => `${name}: ${message}`);
  at("chart-status").textContent = messages.join(" ") || `${curves.size} curves of 25 points.`;
  if (failed.size === methods.length) at("chart").replaceChildren(); // or none was asked for
}

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function gbit(text) {
  const found = /^([\d.]+)\s*([kMGT]?)bit\/s$/.exec((text || "").trim());
  return found ? found[1] * { "": 1e-9, k: 1e-6, M: 1e-3, G: 1, T: 1e3 }[found[2]] : null;
}

function chart(curves, chosen) {
  const [left, top, wide, tall] = [52, 12, 560, 270];
  const names = [...curves.keys()];
  const height = top + tall + 50 + 20 * Math.ceil(names.length / 3);
  const x = (rate) => left + ((Math.log10(rate) - LOW) / (HIGH - LOW)) * wide;
  const y = (share) => top + (1 - share) * tall;
  const svg = element("svg", { viewBox: `0 0 640 ${height}`, role: "img" });
  svg.append(element("title", {}, `Compute utilization against bandwidth: ${names.join(", ")}`));
  for (let power = LOW; power <= HIGH; power++) {
    const place = x(10 ** power);
    svg.append(element("line", { class: "grid", x1: place, x2: place, y1: top, y2: top + tall }));
    const at = { x: place, y: top + tall + 18, "text-anchor": "middle" };
    svg.append(element("text", at, String(10 ** power)));
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(element("line", { class: "grid", x1: left, x2: left + wide, y1: y(share), y2: y(share) }));
    const at = { x: left - 6, y: y(share) + 4, "text-anchor": "end" };
    svg.append(element("text", at, `${100 * share} %`));
  }
  const middle = { x: left + wide / 2, y: top + tall + 38, "text-anchor": "middle" };
  svg.append(element("text", middle, "bandwidth between sites (Gbit/s)"));
  const rate = gbit(chosen);
  if (rate && rate >= 10 ** LOW && rate <= 10 ** HIGH) {
    svg.append(element("line", { class: "chosen", x1: x(rate), x2: x(rate), y1: top, y2: top + tall }));
  }
  names.forEach((name, number) => {
    const style = { class: `c${number % 9}`, "stroke-dasharray": DASHES[number % DASHES.length] };
    const points = curves.get(name).map(([bytes, share]) => `${x(bytes * 8e-9)},${y(share)}`);
    svg.append(element("polyline", { ...style, points: points.join(" "), "data-method": name }));
    const [column, row] = [left + 195 * (number % 3), top + tall + 62 + 20 * Math.floor(number / 3)];
    svg.append(element("line", { ...style, x1: column, x2: column + 30, y1: row - 4, y2: row - 4, "stroke-width": 2.2 }));
    svg.append(element("text", { x: column + 36, y: row }, name));
  });
  at("chart").replaceChildren(svg);
  table(curves, names);
}

function table(curves, names) {
  const rates = [...new Set(names.flatMap((name) => curves.get(name).map((each) => each[0])))];
  rates.sort((a, b) => a - b);
  const rows = document.createElement("table");
  const row = (kind, cells) => {
    const line = rows.insertRow();
    cells.forEach((text, number) => {
      const cell = document.createElement(kind === "th" || number === 0 ? "th" : "td");
      cell.scope = kind === "th" ? "col" : number === 0 ? "row" : "";
      cell.className = "number";
      cell.textContent = text;
      line.append(cell);
    });
  };
  row("th", ["Gbit/s", ...names.map((name) => `${name} (%)`)]);
  for (const rate of rates) {
    const shares = names.map((name) => curves.get(name).find((each) => each[0] === rate));
    row("td", [(rate * 8e-9).toPrecision(4), ...shares.map((s) => (s ? (100 * s[1]).toFixed(1) : ""))]);
  }
  at("chart-table").replaceChildren(rows);
}

// A change is answered at once; of several in a row, as of a slider, the last one when they pause.
let pause = 0, changed = false;
function soon() {
  if (pause) changed = true;
  else change(false);
  clearTimeout(pause);
  pause = setTimeout(() => {
    pause = 0;
    if (changed) change(false);
    changed = false;
  }, 60);
}

document.querySelectorAll("input[type=range]").forEach((slider) => {
  const field = at(slider.dataset.for);
  const follow = () => {
    const number = slider.dataset.unit === "Gbit/s" ? gbit(field.value) : parseFloat(field.value);
    if (number > 0) slider.value = Math.log10(number);
    slider.setAttribute("aria-valuetext", field.value);
  };
  slider.hidden = false;
  follow();
  field.addEventListener("input", follow);
  slider.addEventListener("input", () => {
    const number = 10 ** Number(slider.value);
    const unit = slider.dataset.unit;
    field.value = unit ? `${Number(number.toPrecision(3))} ${unit}` : String(Math.round(number));
    slider.setAttribute("aria-valuetext", field.value);
    soon();
  });
});
form.addEventListener("input", (event) => { if (event.target.type !== "range") soon(); });
form.addEventListener("submit", (event) => { event.preventDefault(); change(false); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) navigator.clipboard.writeText(at(button.dataset.copy).textContent);
});
if (!document.querySelector("#status .error")) change(true);
