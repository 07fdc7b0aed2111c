import { badge, el, func, mono, setUpTheme } from "./common.js";

const $ = (id) => document.getElementById(id);
const POLL_MS = 2000;
let turns = []; // {role, content, told?: what the last chunk said, fault?}
let running = null;

setUpTheme();

// A link from `funcnet up` carries the key behind the #, which no server sees.
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  sessionStorage.setItem("key", given);
  history.replaceState(null, "", location.pathname);
}
$("key").value = sessionStorage.getItem("key") ?? "";
if (matchMedia("(max-width: 46rem)").matches && $("key").value) $("settings").open = false;

function headers() {
  return { authorization: `Bearer ${$("key").value.trim()}`, "content-type": "application/json" };
}

/** An answer's JSON, or an Error with the words of the gateway. */
async function answered(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `the gateway answered with status ${response.status}`);
  return body;
}

async function loadModels() {
  if (!$("key").value.trim()) return;
  try {
    const { data } = await answered(await fetch("/v1/models", { headers: headers() }));
    const chosen = $("model").value || sessionStorage.getItem("model");
    $("model").replaceChildren(...data.filter((model) => model.type === "text").map((model) => el("option", { value: model.id, selected: model.id === chosen }, model.id)));
    $("key").setCustomValidity("");
  } catch (error) {
    $("model").replaceChildren();
    $("key").setCustomValidity(error.message);
    $("key").reportValidity();
  }
}

$("key").onchange = () => {
  sessionStorage.setItem("key", $("key").value.trim());
  loadModels();
};
$("model").onchange = () => sessionStorage.setItem("model", $("model").value);

// conversation

function keep() {
  sessionStorage.setItem("turns", JSON.stringify(turns.map(({ role, content, told, fault }) => ({ role, content, told, fault }))));
}

function hello() {
  return el("div", { className: "hello" },
    el("h2", {}, "Answers you can check"),
    el("p", {}, "Each answer comes from several providers that sign for their part. Its badge goes from signed to anchored on chain to verified by replay."));
}

function draw() {
  $("log").replaceChildren(...(turns.length ? turns.map(view) : [hello()]));
}

function view(turn) {
  const text = el("div", { className: "text" }, turn.content);
  turn.node = el("div", { className: `turn ${turn.role}` }, text);
  turn.text = text;
  if (turn.role === "assistant") under(turn);
  return turn.node;
}

/** The line below an answer: status, tokens, cost, what went wrong. */
function under(turn) {
  for (const old of turn.node.querySelectorAll(".under, .fault")) old.remove();
  if (turn.fault) turn.node.append(el("div", { className: "fault", role: "alert" }, turn.fault));
  const told = turn.told;
  if (!told) return;
  const parts = [
    badge(told.status ?? "signed", { onclick: () => showReceipt(turn), title: "show the receipts" }),
    el("span", { className: "cost" }, func(told.cost)),
    el("span", {}, `${told.prompt_tokens ?? "?"} + ${told.completion_tokens ?? "?"} tokens`),
    told.cached_tokens ? el("span", { title: "of the prompt, run for an earlier answer" }, `${told.cached_tokens} cached`) : null,
    told.stopped ? el("span", {}, "stopped") : null,
    told.replaced?.length ? el("span", {}, `${told.replaced.length} provider replaced in mid-answer`) : null,
  ];
  turn.node.append(el("div", { className: "under" }, ...parts.filter(Boolean)));
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  const content = $("ask").value.trim();
  if (!content || running) return;
  if (!$("key").value.trim()) {
    $("settings").open = true;
    $("key").focus();
    return;
  }
  $("ask").value = "";
  grow();
  turns.push({ role: "user", content });
  const answer = { role: "assistant", content: "" };
  turns.push(answer);
  draw();
  await generate(answer);
};

async function generate(answer) {
  running = new AbortController();
  $("send").hidden = true;
  $("stop").hidden = false;
  answer.node.classList.add("busy");
  $("log").scrollTop = $("log").scrollHeight;
  try {
    await stream(answer, running.signal);
  } catch (error) {
    if (error.name !== "AbortError") answer.fault = error.message;
    else answer.told = { ...answer.told, stopped: true };
  } finally {
    running = null;
    $("send").hidden = false;
    $("stop").hidden = true;
    answer.node.classList.remove("busy");
    under(answer);
    keep();
    if (answer.told?.job_id) follow(answer);
  }
}

async function stream(answer, signal) {
  const system = $("system").value.trim();
  const spoken = turns.filter((turn) => turn !== answer && turn.content).map(({ role, content }) => ({ role, content }));
  const messages = system ? [{ role: "system", content: system }, ...spoken] : spoken;
  const body = {
    model: $("model").value,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: Number($("temperature").value),
    max_tokens: Number($("tokens").value),
  };
  const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!response.ok) await answered(response);
  let rest = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: ") && line !== "data: [DONE]") take(answer, JSON.parse(line.slice(6)));
  }
}

function take(answer, chunk) {
  if (chunk.error) throw new Error(chunk.error.message);
  answer.told ??= { job_id: chunk.id.replace("chatcmpl-", "") };
  const piece = chunk.choices?.[0]?.delta?.content;
  if (piece) {
    const log = $("log"), atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    answer.content += piece;
    answer.text.textContent = answer.content;
    if (atEnd) log.scrollTop = log.scrollHeight;
  }
  const { cost, replaced } = chunk.function_network ?? {};
  if (cost !== undefined) Object.assign(answer.told, { cost, replaced });
  const { prompt_tokens, completion_tokens, prompt_tokens_details } = chunk.usage ?? {};
  if (chunk.usage) Object.assign(answer.told, { prompt_tokens, completion_tokens, cached_tokens: prompt_tokens_details.cached_tokens });
}

$("stop").onclick = () => running?.abort();

// what becomes of an answer

const receiptOf = async (job) => answered(await fetch(`/v1/receipts/${job}`, { headers: headers() }));

/** Ask for the job until there is nothing more to learn. */
async function follow(turn) {
  while (turns.includes(turn) && !["verified", "convicted", "unpaid"].includes(turn.told.status)) {
    try {
      const job = await receiptOf(turn.told.job_id);
      Object.assign(turn.told, { status: job.status, cost: job.charged, prompt_tokens: job.prompt_tokens, completion_tokens: job.completion_tokens });
      under(turn);
      keep();
    } catch {
      // It is asked for again.
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function showReceipt(turn) {
  $("receipt-body").replaceChildren("…");
  $("receipt").showModal();
  try {
    const job = await receiptOf(turn.told.job_id);
    const rows = job.stages.map((stage) => el("tr", {},
      el("td", {}, stage.layers), el("td", {}, mono(stage.provider)), el("td", {}, func(stage.amount)),
      el("td", {}, badge(stage.status)), el("td", {}, stage.tx ? mono(stage.tx) : "not yet anchored")));
    const head = ["layers", "provider", "amount", "status", "anchored in"].map((name) => el("th", {}, name));
    const file = URL.createObjectURL(new Blob([JSON.stringify(job, null, 2)], { type: "application/json" }));
    $("receipt-body").replaceChildren(
      el("p", {}, "Job ", el("code", {}, job.id)),
      el("div", { className: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))),
      el("p", {}, el("a", { href: file, download: `receipt-${job.id.slice(0, 10)}.json` }, "Download the receipts"), " and check them yourself, offline or against the chain:"),
      el("pre", {}, `funcnet verify receipt-${job.id.slice(0, 10)}.json`));
  } catch (error) {
    $("receipt-body").replaceChildren(el("p", { className: "fault" }, error.message));
  }
}

$("close").onclick = () => $("receipt").close();

// input

function grow() {
  $("ask").style.height = "auto";
  $("ask").style.height = `${$("ask").scrollHeight + 2}px`;
}
$("ask").oninput = grow;
$("ask").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("form").requestSubmit();
  }
};
$("new").onclick = () => {
  running?.abort();
  turns = [];
  keep();
  draw();
  $("ask").focus();
};

turns = JSON.parse(sessionStorage.getItem("turns") ?? "[]");
draw();
for (const turn of turns) if (turn.told?.job_id) follow(turn);
loadModels();
