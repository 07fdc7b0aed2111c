// What both pages share: amounts, elements, the theme.

/** Wei as a decimal string to FUNC for people: up to `digits` decimals, no trailing zeros. */
export function func(wei, digits = 6) {
  const amount = BigInt(wei ?? 0), unit = 10n ** 18n;
  const rest = (amount % unit).toString().padStart(18, "0").slice(0, digits).replace(/0+$/, "");
  const whole = (amount / unit).toLocaleString("en");
  return `${whole}${rest ? "." + rest : ""} FUNC`;
}

/** An element with properties and children; text is never parsed as HTML. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const short = (hex) => (hex && hex.length > 14 ? `${hex.slice(0, 8)}…${hex.slice(-4)}` : hex ?? "");

export function mono(hex) {
  return el("span", { className: "mono", title: hex ?? "" }, short(hex));
}

export function badge(status, properties = {}) {
  return el(properties.onclick ? "button" : "span", { className: "badge", "data-status": status, ...properties }, status);
}

export function setUpTheme() {
  const root = document.documentElement;
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  document.getElementById("theme").onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };
}
