// Talking: the conversation lives in this page, and is sent whole with every question.

const talk = {messages: [], abort: null};

function turn(role, text) {
  $("hint").hidden = true;
  const words = el("div", {class: "text"}, text);
  const node = el("article", {class: "turn " + role}, el("p", {class: "who" + (role === "user" ? " hidden" : "")}, role === "user" ? "You" : $("view").value), words);
  $("log").append(node);
  $("log").scrollTop = $("log").scrollHeight;
  return {node, words};
}

const note = (node, text, bad = false) => node.append(el("p", {class: "note" + (bad ? " bad" : "")}, text));

function question() {
  const number = (id) => $(id).value === "" ? undefined : Number($(id).value);
  const system = $("system").value.trim();
  return {
    model: $("view").value,
    messages: [...(system ? [{role: "system", content: system}] : []), ...talk.messages],
    stream: true,
    stream_options: {include_usage: true},
    temperature: number("temperature"),
    max_tokens: number("tokens"),
    seed: number("seed"),
    passages: $("store").checked && !$("store-label").hidden ? page.passages || undefined : undefined,
  };
}

async function ask(text) {
  turn("user", text);
  talk.messages.push({role: "user", content: text});
  const {node, words} = turn("assistant", "");
  node.setAttribute("aria-busy", "true");
  talk.abort = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  try {
    const answer = await stream(node, words);
    talk.messages.push({role: "assistant", content: answer});
  } catch (error) {
    if (error.name === "AbortError") {
      note(node, "Stopped.");
      talk.messages.push({role: "assistant", content: words.textContent});
    } else {
      note(node, error.message, true);
      talk.messages.pop();
    }
  }
  node.removeAttribute("aria-busy");
  $("send").hidden = false;
  $("stop").hidden = true;
  talk.abort = null;
}

// Sends the question; drops the oldest turns when the conversation no longer fits, and says so.
async function send(node) {
  for (let dropped = 0; ; dropped += 2) {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers({"Content-Type": "application/json"}),
      body: JSON.stringify(question()), signal: talk.abort.signal,
    });
    if (response.ok) {
      if (dropped) note(node, `The conversation is longer than the context: its first ${dropped} turns are forgotten.`);
      return response;
    }
    const body = await response.json().catch(() => ({error: {message: `The server answered ${response.status}.`}}));
    if (body.error.code !== "context_length_exceeded" || talk.messages.length < 3) throw new Error(body.error.message);
    talk.messages.splice(0, 2);
  }
}

async function stream(node, words) {
  const response = await send(node), begun = performance.now();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", usage = null, first = null;
  for (;;) {
    const {done, value} = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter((one) => one.startsWith("data: ") && one !== "data: [DONE]")) {
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Error(event.error.message);
      usage = event.usage || usage;
      const piece = event.choices[0]?.delta.content;
      if (piece) {
        first = first ?? performance.now();
        const near = $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60;
        words.append(piece);
        if (near) $("log").scrollTop = $("log").scrollHeight;
      }
      if (event.choices[0]?.finish_reason === "length") note(node, "Cut at the most tokens that were asked for.");
      if (event.lifelong?.sources) node.append(sources(event.lifelong.sources));
      if (event.lifelong?.experts) node.append(bars(event.lifelong.experts));
    }
  }
  if (!words.textContent) note(node, "(It said nothing.)");
  const seconds = (performance.now() - (first ?? begun)) / 1000;
  if (usage) node.querySelector(".who").append(` · ${usage.completion_tokens} tokens` + (seconds > 0.05 ? `, ${Math.round(usage.completion_tokens / seconds)}/s` : ""));
  $("log").scrollTop = $("log").scrollHeight;
  return words.textContent;
}

// Which adapters answered: their weights after the last token.
function bars(experts) {
  const rows = Object.entries(experts).sort((a, b) => b[1] - a[1]).flatMap(([name, share]) => [
    el("span", {class: "name"}, name),
    el("span", {class: "track", "aria-hidden": "true"}, el("span", {class: "fill", style: {"--share": (100 * share).toFixed(1) + "%", display: "block"}})),
    el("span", {}, (100 * share).toFixed(0) + "%"),
  ]);
  return el("div", {class: "bars", role: "group", "aria-label": "Who answered"}, ...rows);
}

function sources(found) {
  return el("details", {class: "sources"}, el("summary", {}, `${found.length} sources`),
    el("ol", {}, ...found.map((one) => el("li", {}, one.place, el("blockquote", {}, one.text)))));
}

function newChat() {
  talk.abort?.abort();
  talk.messages = [];
  $("log").replaceChildren($("hint"));
  $("hint").hidden = false;
  $("question").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || talk.abort) return;
  $("question").value = "";
  ask(text);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") talk.abort?.abort();
});
$("stop").addEventListener("click", () => talk.abort?.abort());
$("forget").addEventListener("click", newChat);
