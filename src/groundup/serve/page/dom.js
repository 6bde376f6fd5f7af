// Short names for what every script does with the document. Text is only ever inserted as text.

export const el = id => document.getElementById(id);

/** Make an element with properties or attributes, and children that are elements or text. */
export function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const button = (text, onclick, properties = {}) => make("button", { type: "button", onclick, ...properties }, text);

/** The name of a token with visible white space: [id, name, kind]. */
export function shown([, name, kind]) {
  if (kind === 2) return `⟨${name}⟩`;
  return name.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll("\r", "␍") || "∅";
}

export const share = logprob => Math.exp(logprob);
export const bits = logprob => Math.max(0, -logprob / Math.LN2);

export function percent(value) {
  if (value < 0.0005) return "<0.1 %";
  return `${(100 * value).toFixed(value < 0.0995 || value > 0.995 && value < 1 ? 1 : 0)} %`;
}

export const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** Tell those who do not see the page. */
export function tell(text) {
  el("status").textContent = text;
}

/** Copy a text, and return whether the browser did it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch { // refused, or not there: a page over plain HTTP has no clipboard
    const focused = document.activeElement, area = make("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return isCopied;
  }
}

/** Let the arrow keys move the focus within a group of elements, of which one is a stop of Tab. */
export function rove(group, items, moves, onfocus) {
  const go = at => {
    const all = items();
    const next = Math.min(all.length - 1, Math.max(0, at));
    all.forEach((item, i) => { item.tabIndex = i === next ? 0 : -1; });
    all[next]?.focus();
  };
  group.addEventListener("keydown", event => {
    const at = items().indexOf(event.target);
    const to = at < 0 ? undefined : moves(event.key, at, items().length);
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  });
  group.addEventListener("focusin", event => {
    const all = items(), at = all.indexOf(event.target);
    if (at < 0) return;
    all.forEach((item, i) => { item.tabIndex = i === at ? 0 : -1; });
    onfocus?.(at, event.target);
  });
}

/** The moves of a row or a column of elements. */
export const alongRow = (key, at, n) => ({ ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: n - 1 })[key];
export const alongColumn = (key, at, n) => ({ ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: n - 1 })[key];
