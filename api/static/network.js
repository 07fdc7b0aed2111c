import { badge, el, func, mono, setUpTheme, short } from "./common.js";

const $ = (id) => document.getElementById(id);
const REFRESH_MS = 3000;
const STATUS = { 1: "open", 2: "judged", 3: "guilty", 4: "innocent", 5: "expired", 6: "cancelled" };

setUpTheme();

async function get(what) {
  const response = await fetch(`/v1/network/${what}`);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `status ${response.status}`);
  return body;
}

function table(id, headings, rows, none) {
  if (!rows.length) return $(id).replaceChildren(el("p", { className: "dim" }, none));
  const cells = (row) => row.map((cell) => el("td", {}, cell ?? ""));
  $(id).replaceChildren(el("table", {},
    el("thead", {}, el("tr", {}, ...headings.map((name) => el("th", {}, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row))))));
}

function figure(value, words) {
  return el("div", { className: "figure" }, el("b", {}, String(value)), el("span", {}, words));
}

/** What a provider is doing: jailed, resting after a failure, serving, or idle. */
function stateOf(provider, live) {
  if (provider.jailed) return "jailed";
  if (live.resting.includes(provider.provider)) return "resting";
  return live.sessions[provider.provider] ? "serving" : "idle";
}

/** One model's stages over the axis of its layers; what overlaps goes to another lane. */
function pipeline(name, modelId, providers, live) {
  const offers = providers.flatMap((provider) => provider.offers.filter((offer) => offer.modelId === modelId).map((offer) => ({ provider, offer })));
  const end = Math.max(...offers.map(({ offer }) => offer.endLayer), 1);
  const lanes = [];
  const byPrice = (a, b) => Number(BigInt(a.offer.outputPrice) - BigInt(b.offer.outputPrice));
  for (const stage of offers.sort((a, b) => byPrice(a, b) || a.offer.firstLayer - b.offer.firstLayer)) {
    const free = lanes.find((lane) => lane.every(({ offer }) => offer.endLayer <= stage.offer.firstLayer || offer.firstLayer >= stage.offer.endLayer));
    if (free) free.push(stage);
    else lanes.push([stage]);
  }
  const edges = [...new Set(offers.flatMap(({ offer }) => [offer.firstLayer, offer.endLayer]))].sort((a, b) => a - b);
  const box = ({ provider, offer }) => {
    const state = stateOf(provider, live), sessions = live.sessions[provider.provider] ?? 0;
    const node = el("div", { className: "stage", "data-state": state, title: `${provider.provider}\n${provider.endpoint}` },
      el("b", {}, `${offer.firstLayer}–${offer.endLayer} · ${state}`),
      el("div", {}, `${short(provider.provider)} · ${sessions} session${sessions === 1 ? "" : "s"}`),
      el("div", {}, `${func(provider.stake, 0)} staked · ${provider.receipts} receipts${BigInt(provider.slashed) ? " · slashed" : ""}`));
    node.style.left = `calc(${(100 * offer.firstLayer) / end}% + 2px)`;
    node.style.width = `calc(${(100 * (offer.endLayer - offer.firstLayer)) / end}% - 4px)`;
    return node;
  };
  const tick = (edge) => Object.assign(el("span", {}, String(edge)), { style: `left: ${(100 * edge) / end}%` });
  return el("section", { className: "card" }, el("h2", {}, name, el("span", { className: "dim" }, ` · ${end} layers`)),
    el("div", { className: "lanes" }, ...lanes.map((lane) => el("div", { className: "lane" }, ...lane.map(box))),
      el("div", { className: "ticks", "aria-label": "layers" }, ...edges.map(tick))));
}

async function refresh() {
  const what = ["live", "providers?limit=1000", "jobs?limit=12", "batches?limit=12", "checks?limit=12", "disputes", "verifiers?limit=1000"];
  const [live, ...lists] = await Promise.all(what.map(get));
  const [providers, jobs, batches, checks, disputes, verifiers] = lists.map((answer) => answer.data);
  $("figures").replaceChildren(
    figure(live.block ?? "?", "block"),
    figure(live.tokens_per_second.toFixed(1), "tokens a second"),
    figure(live.jobs_open, "jobs running"),
    figure(providers.filter((provider) => !provider.jailed).length, "providers"),
    figure(live.totals.checks ?? 0, "checks by verifiers"),
    figure(disputes.filter((dispute) => BigInt(dispute.slashed)).length, "slashes"));
  $("pipelines").replaceChildren(...Object.entries(live.models).map(([name, id]) => pipeline(name, id, providers, live)));
  const gpu = (provider) => provider.gpus.map((entry) => entry.model ?? entry.gpu?.model ?? "").filter(Boolean).join(", ");
  table("providers", ["provider", "layers", "hardware", "stake", "delegated", "earned", "receipts", "slashed", "state"],
    providers.map((p) => [mono(p.provider), p.offers.map((o) => `${o.firstLayer}–${o.endLayer}`).join(", "), gpu(p), func(p.stake, 2), func(p.delegated ?? "0", 2), func(p.paid, 4), p.receipts, func(p.slashed, 2), stateOf(p, live)]),
    "No provider has registered yet.");
  table("verifiers", ["verifier", "epochs", "checks", "planted faults found", "accusations upheld", "false", "earned", "fined"],
    verifiers.map((v) => [mono(v.verifier), v.epochs, v.checks, v.plants_drawn ? `${v.plants_found} of ${v.plants_drawn}` : "none drawn", `${v.accusations_upheld} of ${v.accusations}`, v.accusations_acquitted, func(v.paid, 4), func(v.fined, 2)]),
    "No verifier has registered yet.");
  table("jobs", ["job", "tokens", "cost", "status"],
    jobs.map((job) => [mono(job.job_id), `${job.prompt_tokens} + ${job.completion_tokens}`, func(job.amount, 4), badge(job.status)]), "No job yet.");
  table("batches", ["provider", "batch", "receipts", "amount", "transaction"],
    batches.map(({ provider, batch_id, batch, tx_hash }) => [mono(provider), batch_id, `${batch.firstNumber}–${batch.lastNumber}`, func(batch.amount, 4), mono(tx_hash)]),
    "Nothing is anchored yet.");
  table("checks", ["verifier", "epoch", "checks", "transaction"],
    checks.map((posted) => [mono(posted.verifier), posted.epoch, posted.count, mono(posted.tx_hash)]), "No duties were posted yet.");
  table("disputes", ["no.", "provider", "receipt", "verdict", "slashed", "transaction"],
    disputes.map((d) => [d.dispute_id, mono(d.provider), d.receipt.number, (STATUS[d.status] ?? "open") + (d.appellant ? ", appealed" : ""), func(d.slashed, 2), mono(d.closed_tx ?? d.opened_tx)]),
    "No provider was ever accused.");
}

for (;;) {
  try {
    await refresh();
    $("fault").hidden = true;
  } catch (error) {
    $("fault").textContent = `The figures below may be old: ${error.message}`;
    $("fault").hidden = false;
  }
  await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
}
