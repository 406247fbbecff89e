// The page as a whole: tabs, colours, the key, and what the server has.

let page = {};
const TABS = ["chat", "memory", "training"];

function open(name, focus = false) {
  for (const one of TABS) {
    const tab = $("tab-" + one), chosen = one === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(one).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  if (name === "training" && run.rows.length) draw();
  if (name === "memory" && page.name !== undefined) refresh();
  history.replaceState(null, "", "#" + name);
}

for (const name of TABS) $("tab-" + name).addEventListener("click", () => open(name));
$("tabs").addEventListener("keydown", (event) => {
  const shown = TABS.filter((name) => !$("tab-" + name).hidden);
  const now = shown.findIndex((name) => $("tab-" + name).getAttribute("aria-selected") === "true");
  const next = {ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: shown.length - 1}[event.key];
  if (next === undefined) return;
  event.preventDefault();
  open(shown[(next + shown.length) % shown.length], true);
});

function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  $("theme").value = theme;
}
paint(localStorage.getItem("lifelong-theme") || "");
$("theme").addEventListener("change", () => {
  localStorage.setItem("lifelong-theme", $("theme").value);
  paint($("theme").value);
});

$("run").addEventListener("change", () => follow($("run").value));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  apiKey = $("key").value;
  sessionStorage.setItem("lifelong-key", apiKey);
  begin();
});
let resized = null;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(() => run.rows.length && draw(), 150);
});

async function refresh() {
  try {
    page = await get("lifelong/state");
  } catch (error) {
    $("key-form").hidden = error.status !== 401;
    problem(error.status === 401 ? (apiKey ? "The key is wrong." : "") : `The server does not answer: ${error.message}`);
    if (error.status === 401) $("key").focus();
    return false;
  }
  problem("");
  $("key-form").hidden = true;
  showHistory(page.history);
  showMatrix(page.matrix);
  showRuns(page.runs);
  return true;
}

async function begin() {
  if (!await refresh()) return;
  $("name").textContent = page.name;
  document.title = `${page.name} · lifelong`;
  $("view").replaceChildren(...page.models.map((name) => el("option", {value: name}, name)));
  $("store-label").hidden = !page.store;
  $("tab-chat").hidden = !page.writes;
  $("tab-memory").hidden = page.mode === "export" || page.mode === "watch" && !page.history.length && !page.matrix;
  $("tab-training").hidden = page.mode === "export";
  const asked = location.hash.slice(1);
  open(TABS.includes(asked) && !$("tab-" + asked).hidden ? asked : page.writes ? "chat" : page.mode === "watch" ? "training" : "memory");
  if (page.writes && !$("chat").hidden) $("question").focus();
}

begin();
