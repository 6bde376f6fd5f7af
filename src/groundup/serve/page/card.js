// The card beside a token: its alternatives with their probabilities. A click on one branches from it.

import { alongColumn, bits, button, el, make, percent, rove, share, shown } from "./dom.js";

const SHOW_MS = 150, HIDE_MS = 260;

export class Card {
  /** @param actions  branch(node, i, other) and look(node, i); busy() tells that an answer is written. */
  constructor(actions) {
    this.actions = actions;
    this.element = el("card");
    this.view = null;
    this.isPinned = false;
    this.element.addEventListener("pointerenter", () => clearTimeout(this.timer));
    this.element.addEventListener("pointerleave", () => this.hideSoon());
    rove(this.element, () => [...this.element.querySelectorAll("button")], alongColumn);
    document.addEventListener("keydown", event => {
      if (event.key === "Escape" && this.view) {
        event.stopImmediatePropagation();
        this.back();
      }
    }, true);
    document.addEventListener("pointerdown", event => {
      if (this.view && !this.element.contains(event.target) && !this.view.element.contains(event.target)) this.hide();
    });
    this.element.addEventListener("focusout", event => {
      if (event.relatedTarget && !this.element.contains(event.relatedTarget)) this.hide();
    });
    window.addEventListener("resize", () => this.hide());
    el("log").addEventListener("scroll", () => { if (!this.isPinned) this.hide(); else this.place(); }, { passive: true });
  }

  showSoon(view, i) {
    if (this.isPinned) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.show(view, i, { isHover: true }), SHOW_MS);
  }

  hideSoon() {
    if (this.isPinned) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.hide(), HIDE_MS);
  }

  /** The focus has left the token: close the card, unless it has gone there. */
  leave(to) {
    if (!this.element.contains(to)) this.hide();
  }

  hide() {
    clearTimeout(this.timer);
    this.element.hidden = true;
    this.view?.mark(-1);
    this.view = null;
    this.isPinned = false;
  }

  /** Close the card, and go back to its token. */
  back() {
    const span = this.view.spans[this.at], hadFocus = this.element.contains(document.activeElement);
    this.hide();
    if (hadFocus) {
      span.focus();
      this.hide(); // the focus has opened it again
    }
  }

  show(view, i, { isPinned = false, takesFocus = false, isHover = false } = {}) {
    clearTimeout(this.timer);
    if (this.view !== view) this.view?.mark(-1);
    [this.view, this.at, this.isPinned] = [view, i, isPinned];
    view.mark(i);
    const token = view.node.tokens[i], [first, ...others] = this.rows(token);
    this.element.setAttribute("aria-label", `Rivals of “${shown([token.id, token.name, token.kind])}”`);
    this.element.replaceChildren(
      make("p", { className: "head" }, make("code", {}, shown([token.id, token.name, token.kind])),
        make("span", {}, percent(share(token.logprob))),
        make("span", { className: "soft" }, `${bits(token.logprob).toFixed(2)} bits · id ${token.id}`)),
      make("ol", { className: "bars" }, first, ...others),
      make("p", { className: "foot" },
        make("span", { className: "soft" }, "Choose an alternative to branch from here."),
        button("Look inside", () => { const [node, at] = [this.view.node, this.at]; this.back(); this.actions.look(node, at); })),
    );
    this.element.hidden = false;
    this.place();
    if (!isHover) this.actions.point(view.node, i);
    if (takesFocus) this.element.querySelector("button").focus();
  }

  rows(token) {
    const rest = 1 - token.alternatives.reduce((sum, other) => sum + share(other[3]), 0);
    const rows = token.alternatives.map(other => {
      const isChosen = other[0] === token.id, parts = [
        make("code", {}, shown(other)),
        make("span", { className: "track" }, make("span", { className: "fill" })),
        make("span", { className: "share" }, percent(share(other[3]))),
      ];
      parts[1].firstChild.style.width = `${100 * share(other[3])}%`;
      if (isChosen) return make("li", { className: "chosen", "aria-current": "true" }, ...parts);
      const choose = () => { const [node, at] = [this.view.node, this.at]; this.hide(); this.actions.branch(node, at, other); };
      const row = button("", choose, {
        disabled: this.actions.busy(), "aria-label": `Branch with “${shown(other)}”, ${percent(share(other[3]))}`,
      });
      row.replaceChildren(...parts);
      return make("li", {}, row);
    });
    if (rest > 0.0005) {
      rows.push(make("li", { className: "rest soft" }, "all others", make("span"), make("span", { className: "share" }, percent(rest))));
    }
    return rows;
  }

  /** Put the card below its token, or above where there is no room. A narrow page has it at its end. */
  place() {
    const { style } = this.element, span = this.view.spans[this.at].getClientRects()[0];
    style.left = style.top = "";
    if (!span || matchMedia("(max-width: 640px)").matches) return;
    const { offsetWidth, offsetHeight } = this.element;
    const below = span.bottom + 6, isBelow = below + offsetHeight < innerHeight - 8;
    style.left = `${Math.max(8, Math.min(span.left - 12, innerWidth - offsetWidth - 8))}px`;
    style.top = `${isBelow ? below : Math.max(8, span.top - offsetHeight - 6)}px`;
  }
}
