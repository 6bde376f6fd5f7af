// The look inside: for one token what each layer would have said in its place (the logit lens), and
// how much each head looked at each token before it.

import * as api from "./api.js";
import { alongRow, bits, button, el, make, percent, rove, share, shown } from "./dom.js";

const WAIT_MS = 250;

/** Set the strength of the color of an element, from 0 to 1. */
function heat(element, value) {
  element.style.setProperty("--share", value);
  return element;
}

export class LookView {
  constructor() {
    this.body = el("look-body");
    this.layer = this.head = null;
  }

  /** Look at a token of an answer. */
  async show(node, i, { later = false } = {}) {
    if (this.node === node && this.at === i) return;
    [this.node, this.at] = [node, i];
    document.querySelectorAll(".looked").forEach(span => span.classList.remove("looked"));
    node.view.spans[i].classList.add("looked");
    this.abort?.abort();
    clearTimeout(this.timer);
    if (later) await new Promise(resolve => { this.timer = setTimeout(resolve, WAIT_MS); });
    const abort = this.abort = new AbortController();
    const before = [...node.prompt, ...node.tokens.slice(0, i).map(token => [token.id, token.name, token.kind])];
    el("look").setAttribute("aria-busy", "true");
    try {
      const found = await api.look({ ids: before.map(([id]) => id), token: node.tokens[i].id }, abort.signal);
      this.draw(node.tokens[i], before, found);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.node = null;
      this.body.replaceChildren(make("p", { className: "error", role: "alert" }, error.message));
    }
    if (abort === this.abort) el("look").setAttribute("aria-busy", "false");
  }

  draw(token, before, { layers, attention, windows, kinds }) {
    const name = shown([token.id, token.name, token.kind]);
    this.before = before;
    this.attention = attention;
    this.body.replaceChildren(
      make("p", { className: "head" }, make("code", { className: "big" }, name),
        make("span", {}, percent(share(token.logprob))),
        make("span", { className: "soft" }, `${bits(token.logprob).toFixed(2)} bits, after ${before.length.toLocaleString("en")} tokens`)),
      make("h3", {}, "What each layer would have said"),
      make("p", { className: "soft small" }, "The head of the model, applied after each layer: the logit lens. Marked: the token that was chosen."),
      this.lens(token, layers),
      make("h3", {}, "Where each head looked"),
      this.grid(windows, kinds),
      this.summary = make("p", { className: "small", "aria-live": "polite" }),
      this.strip(),
    );
    const isKnown = this.layer !== null && this.layer < attention.length && this.head < attention[0].length;
    this.choose(...(isKnown ? [this.layer, this.head] : this.sharpest()));
    const row = attention[this.layer][this.head];
    this.mark(row.indexOf(Math.max(...row)));
  }

  lens(token, layers) {
    const last = layers.length - 1;
    const rows = layers.map(({ top, logprob, rank }, i) => {
      const words = make("td", { className: "words" }, ...top.map(other => heat(make("code", {
        className: other[0] === token.id ? "chosen" : "", title: percent(share(other[3])),
      }, shown(other)), share(other[3]))));
      const label = i === 0 ? "embed" : i === last ? "model" : String(i - 1);
      return make("tr", {}, make("th", { scope: "row", className: "n" }, label),
        make("td", { className: "n" }, percent(share(logprob))), make("td", { className: "n soft" }, `#${rank.toLocaleString("en")}`), words);
    }).reverse();
    const head = make("tr", {}, make("th", { scope: "col", className: "n" }, "layer"),
      make("th", { scope: "col", className: "n own", colSpan: 2 }, make("code", {}, shown([token.id, token.name, token.kind]))),
      make("th", { scope: "col" }, "most likely"));
    return make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Logit lens" },
      make("table", { className: "lens" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  /** One cell for each head (row) of each layer (column). */
  grid(windows, kinds) {
    const heads = this.attention[0].length, layers = this.attention.length;
    this.cells = [];
    const rows = Array.from({ length: heads }, (_, head) => make("tr", {}, ...Array.from({ length: layers }, (_, layer) => {
      const cell = make("td", { tabIndex: -1, onclick: () => this.choose(layer, head) });
      this.cells.push(cell);
      return cell;
    })));
    const table = make("table", { className: "heads", role: "grid" }, ...rows);
    rove(table, () => this.cells, (key, at) => ({
      ArrowLeft: at % layers ? at - 1 : at, ArrowRight: (at + 1) % layers ? at + 1 : at,
      ArrowUp: at - layers < 0 ? at : at - layers, ArrowDown: at + layers < this.cells.length ? at + layers : at,
      Home: at - at % layers, End: at - at % layers + layers - 1,
    })[key], at => this.choose(at % layers, Math.floor(at / layers)));
    this.table = table;
    const axis = make("p", { className: "axis soft small" }, make("span", {}, "layer 0"), make("span", {}, `${layers - 1}`));
    this.color = make("p", { className: "small soft" });
    const note = windows.some(Boolean) ? [make("p", { className: "soft small" }, `Some layers see the last ${Math.max(...windows.filter(Boolean))} tokens only.`)] : [];
    if (kinds.includes("d")) note.push(make("p", { className: "soft small" }, "Layers with a gated delta rule have no attention weights: their columns are empty."));
    const map = make("div", { className: "map" }, axis, table);
    map.style.setProperty("--layers", layers);
    return make("div", {}, map, this.color, ...note);
  }

  strip() {
    this.words = this.before.map((token, s) => button(shown(token), () => this.mark(s), { className: token[2] === 1 ? "control" : "", tabIndex: -1 }));
    const strip = this.list = make("div", { className: "strip", role: "group", "aria-label": "Tokens before. Choose one to see which heads looked at it." }, ...this.words);
    rove(strip, () => this.words, alongRow);
    return strip;
  }

  /** The head that looks most at a single token, other than the first and the last one. */
  sharpest() {
    const T = this.before.length;
    let best = [-1, 0, 0];
    this.attention.forEach((heads, layer) => heads.forEach((row, head) => {
      const most = Math.max(0, ...row.slice(1, T - 1));
      if (most > best[0]) best = [most, layer, head];
    }));
    return best.slice(1);
  }

  /** Show where one head looked. */
  choose(layer, head) {
    [this.layer, this.head] = [layer, head];
    const row = this.attention[layer][head], layers = this.attention.length;
    const order = [...row.keys()].sort((a, b) => row[b] - row[a]);
    this.words.forEach((word, s) => {
      heat(word, row[s] / 1000).title = `${percent(row[s] / 1000)}`;
      word.setAttribute("aria-label", `${shown(this.before[s])}, ${percent(row[s] / 1000)}`);
    });
    this.cells.forEach((cell, at) => {
      const isChosen = at === head * layers + layer;
      cell.classList.toggle("chosen", isChosen);
      cell.setAttribute("aria-selected", isChosen);
      cell.tabIndex = isChosen ? 0 : -1;
    });
    this.summary.textContent = `Layer ${layer}, head ${head}: ${order.slice(0, 3).filter(s => row[s] >= 5)
      .map(s => `“${shown(this.before[s])}” ${percent(row[s] / 1000)}`).join(", ")}.`;
  }

  /** Color each head by how much it looked at one token. */
  mark(s) {
    this.marked = s;
    const layers = this.attention.length, name = shown(this.before[s]);
    this.words.forEach((word, at) => { word.setAttribute("aria-pressed", at === s); word.tabIndex = at === s ? 0 : -1; });
    this.list.scrollTop = this.words[s].offsetTop - this.list.offsetTop - this.list.clientHeight / 2;
    this.cells.forEach((cell, at) => {
      const [layer, head] = [at % layers, Math.floor(at / layers)], value = this.attention[layer][head][s] / 1000;
      heat(cell, value);
      cell.title = `layer ${layer}, head ${head}: ${percent(value)} on “${name}”`;
      cell.setAttribute("aria-label", cell.title);
    });
    this.table.setAttribute("aria-label", `How much each head looked at “${name}”`);
    this.color.textContent = `Rows are heads. Color: how much each of them looked at “${name}”; choose another token below.`;
  }
}
