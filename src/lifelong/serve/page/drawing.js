"use strict";
// Everything that is shown goes through these: text becomes text nodes, never markup.

const $ = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child instanceof Node ? child : String(child)));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const signed = (value, digits) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
const percent = (value) => signed(100 * value, 1) + "%";

function short(value) {
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]])
    if (size >= unit) return Number((value / unit).toPrecision(3)) + letter;
  return String(Number(value.toPrecision(3)));
}

// A line through each point's neighbours; see lifelong.report.series.smooth.
function smooth(series) {
  return series.map(([x], index) => {
    const count = Math.min(series.length, Math.max(3, Math.min(index >> 2, series.length >> 3)));
    const start = Math.min(Math.max(0, index - (count >> 1)), series.length - count);
    const near = series.slice(start, start + count);
    const mx = near.reduce((sum, p) => sum + p[0], 0) / near.length;
    const my = near.reduce((sum, p) => sum + p[1], 0) / near.length;
    const spread = near.reduce((sum, p) => sum + (p[0] - mx) ** 2, 0);
    const slope = spread ? near.reduce((sum, p) => sum + (p[0] - mx) * (p[1] - my), 0) / spread : 0;
    return [x, my + slope * (x - mx)];
  });
}

function thin(series, limit) {
  if (series.length <= limit) return series;
  const found = [];
  for (let part = 0; part < limit; part++) {
    const group = series.slice(Math.floor(part * series.length / limit), Math.floor((part + 1) * series.length / limit));
    found.push([0, 1].map((axis) => group.reduce((sum, p) => sum + p[axis], 0) / group.length));
  }
  return found;
}

function ticks(low, high, count, least = 0) {
  if (!(high > low)) return [low];
  const raw = Math.max(least, (high - low) / count), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= raw * 0.999);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick <= high / step + 1e-9; tick++) found.push(tick * step);
  return found;
}

// Lines over steps. `lines`: {name, series, kind}; kinds: raw, smooth, held (with dots).
function chart(title, unit, lines, height = 260) {
  const width = Math.max(320, Math.min(930, $("curves").clientWidth || 640)), left = 52, right = 12, top = 10, bottom = 26;
  const all = lines.flatMap((line) => line.series);
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]).sort((a, b) => a - b);
  const most = Math.max(ys[Math.floor(0.99 * (ys.length - 1))], ...lines.filter((line) => line.kind !== "raw").flatMap((line) => line.series.map((p) => p[1])));
  const margin = 0.06 * (most - ys[0]) || Math.abs(ys[0]) * 0.05 || 0.5;
  const low = ys[0] - margin, high = most + margin, first = Math.min(...xs), last = Math.max(...xs);
  const x = (value) => left + (last > first ? (value - first) / (last - first) : 0.5) * (width - left - right);
  const y = (value) => top + (high - Math.min(high, value)) / (high - low) * (height - top - bottom);
  const path = (series) => "M" + series.map((p) => x(p[0]).toFixed(1) + " " + y(p[1]).toFixed(1)).join("L");
  const said = `${title}, ${unit}: ` + lines.filter((line) => line.kind !== "raw")
    .map((line) => `${line.name} ${short(line.series[0][1])} to ${short(line.series.at(-1)[1])}`).join("; ");
  const drawn = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said});
  for (const tick of ticks(low, high, 5)) drawn.append(
    svg("line", {class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick)}),
    svg("text", {x: left - 8, y: y(tick) + 4, "text-anchor": "end"}, short(tick)));
  for (const tick of ticks(first, last, width > 500 ? 6 : 4, 1)) drawn.append(
    svg("text", {x: x(tick), y: height - 8, "text-anchor": "middle"}, short(tick)));
  for (const line of lines) {
    drawn.append(svg("path", {class: line.kind, d: path(line.series)}));
    if (line.kind === "held") for (const point of line.series)
      drawn.append(svg("circle", {class: "held", cx: x(point[0]), cy: y(point[1]), r: 3}, svg("title", {}, `step ${point[0]}: ${point[1].toFixed(3)}`)));
  }
  const legend = el("figcaption", {class: "legend"}, ...lines.filter((line) => line.kind !== "raw")
    .map((line) => el("span", {class: line.kind}, `${line.name} ${short(line.series.at(-1)[1])}`)));
  return el("figure", {}, el("h3", {}, `${title} (${unit})`), drawn, lines.length > 1 ? legend : null);
}

function problem(text) {
  $("problem").textContent = text || "";
  $("problem").hidden = !text;
}

let apiKey = sessionStorage.getItem("lifelong-key") || "";

function headers(more = {}) {
  return apiKey ? {...more, Authorization: "Bearer " + apiKey} : more;
}

async function get(path) {
  const response = await fetch(path, {headers: headers()});
  if (!response.ok) throw Object.assign(new Error(await said(response)), {status: response.status});
  return response.json();
}

// What the server says went wrong.
async function said(response) {
  try {
    const {error} = await response.json();
    return error.message;
  } catch {
    return `The server answered ${response.status}.`;
  }
}
