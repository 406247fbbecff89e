// What it learned: the matrix, the history, and the curves of its runs.

const EVENTS = {lesson: "Lesson", consolidation: "Consolidation", train: "Training", rollback: "Rollback",
  forgot: "Forgot a source", adopted: "Adopted as found", imported: "Imported"};

function showHistory(events) {
  const items = [...events].reverse().map((event) => {
    const name = (EVENTS[event.event] || event.event) + (event.session ? " " + event.session : "");
    let state = null, kind = "";
    if (event.accepted === true) [state, kind] = event.in_force ? ["kept", "kept"] : ["kept, rolled back later", "undone"];
    if (event.accepted === false) [state, kind] = ["undone by the gate", "undone"];
    if (event.undone_session) state = `lesson ${event.undone_session} undone`;
    const more = [];
    if (event.bits !== null && event.bits !== undefined) more.push(`${event.bits.toFixed(3)} bits per byte`);
    if (event.scale > 0 && event.scale < 1) more.push(`${Math.round(100 * event.scale)}% of its way`);
    if (event.source) more.push(`${event.examples || 0} examples of ${event.source}`);
    return el("li", {class: kind},
      el("span", {class: "what"}, name), event.domain ? ` ${event.domain}` : null,
      state ? el("span", {class: "state"}, state) : null,
      ...[...more, ...event.reasons].map((line) => el("p", {class: "note"}, line)));
  });
  $("history").replaceChildren(...(items.length ? items : [el("li", {}, "Nothing is recorded yet.")]));
}

function showMatrix(matrix) {
  if (!matrix) {
    $("matrix").replaceChildren(el("p", {class: "note"}, "No lesson is in force. `lifelong learn MODEL FILES --domain NAME` teaches one."));
    return;
  }
  const cell = ({value, change, taught}) => {
    if (value === null) return el("td", {}, "–");
    const still = change === null || Math.abs(change) <= 0.005;
    const strength = still ? 0 : Math.min(1, 0.1 + Math.abs(change) / 0.4);
    return el("td", {class: (still ? "" : change < 0 ? "better" : "worse") + (taught ? " taught" : ""), style: {"--strength": (45 * strength).toFixed(0) + "%"}},
      value.toFixed(3), change === null ? null : el("small", {}, percent(change)), taught ? el("span", {class: "hidden"}, " just taught") : null);
  };
  const head = el("tr", {}, el("td", {class: "hidden"}), ...matrix.domains.map((name) => el("th", {scope: "col"}, name)));
  const rows = matrix.cells.map((row, number) =>
    el("tr", {}, el("th", {scope: "row"}, (number ? "after " : "") + matrix.sessions[number]), ...row.map(cell)));
  const sums = Object.entries(matrix.sums).filter(([, value]) => value !== null).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, name === "average" ? value.toFixed(3) : signed(value, 3))));
  const notes = Object.entries(matrix.notes).map(([name, note]) => el("p", {class: "note"}, `Note on ${name}: ${note}.`));
  $("matrix").replaceChildren(
    el("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Matrix of bits per byte"},
      el("table", {class: "heat"}, el("thead", {}, head), el("tbody", {}, ...rows))),
    el("dl", {class: "facts"}, ...sums), ...notes,
    el("p", {class: "note"}, "Bits per byte on each domain's held-out text, after every session; fewer is better. The change is since the domain was taught, or first measured. A ring marks the domain just taught."));
}

const run = {name: null, next: 0, rows: [], timer: null};

function showRuns(runs) {
  const picker = $("run"), chosen = picker.value;
  picker.replaceChildren(...runs.map((one) => el("option", {value: one.name}, one.name)));
  const name = runs.some((one) => one.name === chosen) ? chosen : runs.at(-1)?.name;
  if (!name) {
    $("status").textContent = "No run here: nothing to draw.";
    picker.disabled = true;
    return;
  }
  picker.value = name;
  if (name !== run.name) follow(name);
}

function follow(name) {
  Object.assign(run, {name, next: 0, rows: []});
  $("curves").replaceChildren();
  clearTimeout(run.timer);
  poll();
}

async function poll() {
  const name = run.name;
  let wait = 1500;
  try {
    const found = await get(`lifelong/runs/${encodeURIComponent(name)}?from=${run.next}`);
    if (name !== run.name) return;
    if (found.again) run.rows = [];
    run.rows.push(...found.rows);
    run.next = found.next;
    showFacts(found.facts);
    if (found.rows.length || found.again) draw();
    if (found.facts.status !== "running") wait = 10000;
    $("status").dataset.next = String(run.next);
  } catch (error) {
    $("status").textContent = `No news: ${error.message}`;
    wait = 5000;
  }
  run.timer = setTimeout(poll, document.hidden ? 10000 : wait);
}

function showFacts(facts) {
  const last = run.rows.at(-1), {status, ...rest} = facts;
  const step = last ? `, step ${last.step.toLocaleString("en")}` + (facts.steps ? ` of ${facts.steps.toLocaleString("en")}` : "") : "";
  const said = (status || "") + step;
  if ($("status").textContent !== said) $("status").textContent = said;
  const speeds = run.rows.map((row) => row.tokens_per_second).filter((value) => value > 0).sort((a, b) => a - b);
  if (speeds.length) rest["tokens/s"] = speeds[speeds.length >> 1];
  $("facts").replaceChildren(...Object.entries(rest).map(([key, value]) =>
    el("div", {}, el("dt", {}, key.replaceAll("_", " ")), el("dd", {}, short(value)))));
}

function points(key) {
  return run.rows.filter((row) => typeof row.step === "number" && typeof row[key] === "number").map((row) => [row.step, row[key]]);
}

function draw() {
  const key = points("bits_per_byte").length ? "bits_per_byte" : "loss";
  const raw = thin(points(key), 400), held = key === "loss" ? [] : thin(points("gate_bits_per_byte"), 80);
  if (!raw.length && !held.length) {
    $("curves").replaceChildren(el("p", {class: "note"}, "Nothing is measured yet."));
    return;
  }
  const lines = raw.length ? [{name: "", series: raw, kind: "raw"}, {name: "training", series: smooth(raw), kind: "smooth"}] : [];
  if (held.length) lines.push({name: "held out", series: held, kind: "held"});
  const figures = [chart("Loss", key === "loss" ? "nats per token" : "bits per byte", lines)];
  for (const [name, title, unit] of [["lr", "Learning rate", "per step"], ["grad_norm", "Gradient", "norm"]]) {
    const series = thin(points(name), 300);
    if (series.length > 1) figures.push(chart(title, unit, [{name: title, series, kind: "smooth"}], 120));
  }
  $("curves").replaceChildren(...figures);
}
