"use strict";
// The attention view: one small picture for each head, and the weights of one head as a matrix.
//
// A row is previewed by pointing at it and pinned by a click, a tap or Enter; the arrow keys move
// the pinned row. The sentence above the matrix shows how much the row attends to each token.

class AttentionView {
  /** @param {HTMLElement} root  An element with the parts that the template gives it. */
  constructor(root) {
    this.part = name => root.querySelector(`[data-part=${name}]`);
    this.layer = this.head = 0;
    this.pinned = null;
  }

  /** Show weights[layer][head][t][s], numbers from 0 to 1, of some tokens. */
  show(tokens, weights) {
    this.tokens = tokens.map(token => visible(token) || "∅");
    this.weights = weights;
    this.layer = Math.min(this.layer, weights.length - 1);
    this.head = Math.min(this.head, weights[0].length - 1);
    this.pinned = tokens.length - 1;
    this.drawHeads();
    this.drawMatrix();
  }

  choose(layer, head) {
    [this.layer, this.head] = [layer, head];
    this.part("heads").querySelectorAll("button").forEach(button =>
      button.setAttribute("aria-pressed", button.value === `${layer} ${head}`));
    this.drawMatrix();
  }

  drawHeads() {
    const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue("--heat").split(",").map(Number);
    const T = this.tokens.length;
    this.part("heads").replaceChildren(...this.weights.map((heads, layer) => make("div", {}, make("span", {
      className: "soft" }, `layer ${layer}`), ...heads.map((rows, head) => {
      const canvas = make("canvas", { width: T, height: T }), context = canvas.getContext("2d");
      const image = context.createImageData(T, T);
      rows.forEach((row, t) => row.forEach((weight, s) => image.data.set([r, g, b, 255 * Math.sqrt(weight)], 4 * (t * T + s))));
      context.putImageData(image, 0, 0);
      return make("button", {
        type: "button", value: `${layer} ${head}`, "aria-label": `layer ${layer}, head ${head}`,
        "aria-pressed": layer === this.layer && head === this.head, onclick: () => this.choose(layer, head),
      }, canvas);
    }))));
  }

  drawMatrix() {
    const rows = this.weights[this.layer][this.head], T = this.tokens.length, table = this.part("matrix");
    table.style.setProperty("--n", T);
    const columns = make("tr", {}, make("td"), ...this.tokens.map(token => make("th", { scope: "col" }, make("span", {}, token))));
    const body = rows.map((row, t) => {
      const label = make("button", { type: "button", onclick: () => this.pin(t), onfocus: () => this.preview(t) }, this.tokens[t]);
      const tr = make("tr", {}, make("th", { scope: "row" }, label), ...this.tokens.map((_, s) => {
        const cell = make("td");
        if (s > t) cell.className = "masked";
        else cell.style.backgroundColor = `rgba(var(--heat), ${row[s]})`;
        return cell;
      }));
      tr.onmouseenter = () => this.preview(t);
      tr.onclick = () => this.pin(t);
      return tr;
    });
    table.replaceChildren(columns, ...body);
    table.onmouseleave = () => this.preview(this.pinned);
    table.onkeydown = event => {
      const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      this.pin(Math.min(T - 1, Math.max(0, this.pinned + by)));
      body[this.pinned].querySelector("button").focus();
    };
    this.rows = body;
    this.pin(this.pinned);
  }

  pin(t) {
    this.pinned = t;
    this.rows.forEach((row, i) => {
      row.classList.toggle("pinned", i === t);
      row.querySelector("button").setAttribute("aria-pressed", i === t);
    });
    this.preview(t);
  }

  preview(t) {
    const row = this.weights[this.layer][this.head][t];
    this.part("sentence").replaceChildren(...this.tokens.map((token, s) => {
      const span = make("span", { className: s === t ? "now" : "" }, token);
      if (s <= t) span.style.backgroundColor = `rgba(var(--heat), ${0.75 * row[s]})`;
      else span.classList.add("later");
      return span;
    }));
    const best = Array.from(row.keys()).sort((a, b) => row[b] - row[a]).slice(0, 4);
    this.part("summary").textContent = `Layer ${this.layer}, head ${this.head}: “${this.tokens[t]}” attends to ` +
      best.filter(s => row[s] >= 0.005).map(s => `“${this.tokens[s]}” ${percent(row[s])}`).join(", ") + ".";
  }
}

/** Show the attention of the page's model on a sentence that can be edited. */
function startAttention(page, view) {
  const { tokenizer, model, description } = page, sentence = el("sentence"), LONGEST = 24; // as in report.py

  function update() {
    try {
      const ids = tokenizer.encode(sentence.value).slice(0, Math.min(LONGEST, description.config.context_length));
      if (!ids.length) return;
      const weights = [];
      model.read(ids, { attention: weights });
      view.show(ids.map(id => tokenizer.decode([id])), weights);
    } catch (error) {
      view.part("summary").textContent = error.message;
    }
  }

  sentence.oninput = debounced(update);
  update();
}
