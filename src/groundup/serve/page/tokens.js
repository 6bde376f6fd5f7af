// The tokens of an answer: one element each, colored by surprise. Tab stops at the answer once; the
// arrow keys go from token to token.

import { alongRow, bits, make, percent, rove, share, shown, tell } from "./dom.js";
import { textOf } from "./tree.js";

const MOST_BITS = 8;

/** The element of one token. */
function tokenElement(token, { isBranch }) {
  const span = make("span", { className: "t", tabIndex: -1 });
  span.style.setProperty("--share", Math.min(1, bits(token.logprob) / MOST_BITS));
  if (token.kind === 1) {
    span.classList.add("control");
    span.textContent = token.name;
  } else if (token.text === "") {
    span.classList.add("part"); // of a character that a later token completes
  } else {
    // A line break has a sign while tokens have colors: otherwise there is nothing to color.
    span.append(...token.text.split(/(\n)/).flatMap(part => (part === "\n" ? [make("i", { className: "break", "aria-hidden": "true" }, "⏎"), part] : [part])));
  }
  if (isBranch) span.classList.add("branch");
  return span;
}

const named = token => shown([token.id, token.name, token.kind]);

/** Describe a token in a few words. */
export const describe = token =>
  `“${named(token)}”: ${percent(share(token.logprob))}, ${bits(token.logprob).toFixed(1)} bits`;

export class AnswerView {
  /**
   * @param node  The node of the tree.
   * @param card  The card that shows alternatives.
   */
  constructor(node, card) {
    this.node = node;
    this.element = make("p", { className: "tokens said" });
    this.spans = [];
    this.element.append(...node.tokens.map(token => this.push(token)));
    const at = event => this.spans.indexOf(event.target.closest(".t"));
    rove(this.element, () => this.spans, alongRow, i => {
      tell(describe(node.tokens[i]));
      card.show(this, i);
    });
    this.element.addEventListener("pointerover", event => {
      if (event.pointerType === "mouse" && at(event) >= 0) card.showSoon(this, at(event));
    });
    this.element.addEventListener("focusout", event => {
      if (event.relatedTarget && !this.element.contains(event.relatedTarget)) card.leave(event.relatedTarget);
    });
    this.element.addEventListener("pointerleave", () => card.hideSoon());
    this.element.addEventListener("click", event => { if (at(event) >= 0) card.show(this, at(event), { isPinned: true }); });
    this.element.addEventListener("keydown", event => {
      if (event.key !== "Enter" || at(event) < 0) return;
      event.preventDefault();
      card.show(this, at(event), { isPinned: true, takesFocus: true });
    });
  }

  /** Make the element of the next token. */
  push(token) {
    const span = tokenElement(token, { isBranch: this.spans.length === this.node.branchedAt });
    span.tabIndex = this.spans.length ? -1 : 0;
    this.spans.push(span);
    return span;
  }

  append(token) {
    this.element.append(this.push(token));
  }

  /** Show line breaks at the end, such as those after a speech, as signs only. */
  trimEnd() {
    const text = textOf(this.node), n = text.slice(text.trimEnd().length).split("\n").length - 1;
    for (const sign of n ? [...this.element.querySelectorAll(".break")].slice(-n) : []) {
      sign.classList.add("last");
      sign.nextSibling.remove();
    }
  }

  mark(i) {
    this.spans.forEach((span, at) => span.classList.toggle("now", at === i));
  }
}
