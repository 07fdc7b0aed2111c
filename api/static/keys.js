import { el, func, mono, setUpTheme } from "./common.js";

const $ = (id) => document.getElementById(id);
const session = () => JSON.parse(sessionStorage.getItem("manager") ?? "null"); // {id, key, payer}

setUpTheme();

/** JSON of the gateway, or an Error with its words. */
async function ask(method, path, body) {
  const headers = { "content-type": "application/json" };
  if (session()) headers.authorization = `Bearer ${session().key}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const told = await response.json().catch(() => ({}));
  if (response.status === 401 && session()) sessionStorage.removeItem("manager");
  if (!response.ok) throw new Error(told.error?.message ?? `the gateway answered with status ${response.status}`);
  return told;
}

/** Do something and show what stands now; what goes wrong is said at the top. */
async function doing(work) {
  $("fault").hidden = true;
  for (const step of [work, draw]) {
    try {
      await step();
    } catch (error) {
      $("fault").textContent = error.message;
      $("fault").hidden = false;
    }
  }
  if (!session()) await draw(); // the key may have ended while it was drawn
}

const on = (id, work) => {
  $(id).onsubmit = (event) => {
    event.preventDefault();
    doing(work);
  };
};

function show(title, secret, isKey) {
  $("made-title").textContent = title;
  $("secret").textContent = secret;
  $("try").hidden = !isKey;
  $("try").href = `/#key=${encodeURIComponent(secret)}`;
  $("made").hidden = false;
  $("made").scrollIntoView({ block: "nearest" });
}

/** Whole FUNC, as somebody typed it, to wei as a decimal string. */
function wei(text) {
  const [whole, rest = ""] = text.split(".");
  return (BigInt(whole || 0) * 10n ** 18n + BigInt(rest.slice(0, 18).padEnd(18, "0"))).toString();
}

// signing in

async function signIn() {
  if (!window.ethereum) throw new Error("This browser has no wallet. Install one, or run `funcnet key login` and manage keys from there.");
  const [address] = await window.ethereum.request({ method: "eth_requestAccounts" });
  const { nonce, message } = await ask("POST", "/v1/auth/challenge", { address });
  const hex = `0x${Array.from(new TextEncoder().encode(message), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  const signature = await window.ethereum.request({ method: "personal_sign", params: [hex, address] });
  const { id, key, payer } = await ask("POST", "/v1/auth/sign-in", { nonce, signature });
  sessionStorage.setItem("manager", JSON.stringify({ id, key, payer }));
}

$("in").onclick = () => doing(signIn);
$("out").onclick = () => doing(async () => {
  $("made").hidden = true;
  try {
    await ask("DELETE", `/v1/management-keys/${session().id}`);
  } finally {
    sessionStorage.removeItem("manager");
  }
});
on("claim", async () => {
  const { key } = await ask("POST", "/v1/sponsorships/claim", { code: $("code").value.trim() });
  show("Your key", key, true);
  $("code").value = "";
});

// keys and sponsorships

on("create", async () => {
  const budget = $("budget").value ? wei($("budget").value) : null, period = $("period").value || null;
  const { key } = await ask("POST", "/v1/keys", { name: $("name").value, budget, budget_period: period });
  show("Your new key", key, true);
});
on("sponsor", async () => {
  const body = { name: $("gift").value, keys: Number($("count").value), budget: wei($("each").value), key_days: Number($("days").value) };
  const { code } = await ask("POST", "/v1/sponsorships", body);
  show("The code to give away", code, false);
});

const day = (time) => (time ? time.slice(0, 10) : "never");
const button = (words, work) => el("button", { className: "plain", onclick: () => doing(work) }, words);

function table(heads, rows, none) {
  if (!rows.length) return el("p", { className: "dim" }, none);
  const cells = (row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell)));
  return el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", {}, head)))), el("tbody", {}, ...rows.map(cells)));
}

function keyRow(key) {
  const rotate = async () => show("The key's new secret", (await ask("POST", `/v1/keys/${key.id}/rotate`, {})).key, true);
  const actions = el("span", {}, button("Rotate", rotate), " ", button("Revoke", () => ask("DELETE", `/v1/keys/${key.id}`)));
  return [key.name, mono(key.id), func(key.spent), key.left === null ? "no limit" : func(key.left), day(key.expires_at), actions];
}

function sponsorshipRow(gift) {
  const revoke = button("Revoke", () => ask("DELETE", `/v1/sponsorships/${gift.id}`));
  return [gift.name, `${gift.claimed} of ${gift.keys}`, func(gift.policy.budget), func(gift.spent), gift.revoked ? "revoked" : revoke];
}

async function draw() {
  const manager = session();
  $("outside").hidden = Boolean(manager);
  $("inside").hidden = $("out").hidden = !manager;
  if (!manager) return;
  const [keys, gifts] = await Promise.all([ask("GET", "/v1/keys"), ask("GET", "/v1/sponsorships")]);
  $("payer").replaceChildren(mono(manager.payer));
  const live = keys.data.filter((key) => !key.revoked);
  $("keys").replaceChildren(table(["name", "id", "spent", "left", "ends", ""], live.map(keyRow), "No keys yet."));
  $("sponsorships").replaceChildren(table(["name", "claimed", "each", "spent", ""], gifts.data.map(sponsorshipRow), "Nothing given away yet."));
}

$("copy").onclick = () => navigator.clipboard.writeText($("secret").textContent);
doing(async () => {});
