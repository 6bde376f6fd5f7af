// The panel with the sampling settings and the look inside: beside the conversation where there is
// room, and over it elsewhere.

import { el } from "./dom.js";

export const isWide = () => matchMedia("(min-width: 1100px)").matches;

export function openPanel(isOpen = true) {
  el("panel").classList.toggle("open", isOpen && !isWide());
  el("settings").setAttribute("aria-expanded", isOpen || isWide());
}

export function closePanel() {
  openPanel(false);
  el("settings").focus();
}
