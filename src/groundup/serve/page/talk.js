// The conversation: writes the tree, and asks the server for answers.

import * as api from "./api.js";
import { Card } from "./card.js";
import { button, copy, count, el, make, tell } from "./dom.js";
import { isWide, openPanel } from "./panel.js";
import { AnswerView } from "./tokens.js";
import { textOf, Tree } from "./tree.js";

const TO_TRY = {
  chat: ["Why is the sky blue?", "Write a haiku about the sea.", "Name three cities in France."],
  cast: ["Do you love me?", "Who goes there?", "What news from the court?"],
  text: ["Once upon a time", "The meaning of life is"],
};
const ENDS = { length: "max-new-tokens reached", context: "the context is full", cancelled: "stopped" };

const tree = new Tree();
let model, words, sampler, lookView, askForKey, running = null;

const card = new Card({
  busy: () => running !== null,
  branch,
  look: (node, i) => {
    openPanel();
    el("sampling").open = false;
    if (!isWide()) el("close").focus();
    lookView.show(node, i);
  },
  point: (node, i) => { if (isLooking()) lookView.show(node, i, { later: true }); },
});

const storage = () => `conversation ${model.name} ${model.n_parameters} ${model.mode}`;
const isLooking = () => isWide() ? lookView.node != null : el("panel").classList.contains("open");

/** Show the conversation with a model that was stored in this tab, or a new one. */
export function begin(parts) {
  ({ model, words, sampler, lookView, askForKey } = parts);
  tree.restore(storage());
  showRoles();
  write();
  scroll(true);
}

export const isAnswering = () => running !== null;

/** End the answer that is being generated. */
export const stop = () => running?.abort.abort();

export function startAnew() {
  stop();
  tree.root = { children: [], chosen: 0 };
  write();
}

/** Choose the character who answers in the scene that is shown. */
function showRoles() {
  const last = tree.path.findLast(node => node.character);
  if (last) [el("character").value, el("you").value] = [last.character, last.who];
}

function write() {
  const nodes = tree.path;
  el("log").replaceChildren(...(nodes.length ? nodes.map(message) : [welcome()]));
  tree.save(storage());
}

function message(node) {
  const isUser = node.role === "user", who = isUser ? words.you : model.mode === "cast" ? node.parent.character : model.name;
  const article = make("article", { className: `message ${isUser ? "user" : "model"}`, "aria-label": node.who ?? who });
  const said = isUser ? make("p", { className: "said" }, node.text) : (node.view = new AnswerView(node, card)).element;
  article.append(make("h2", { className: "who" }, node.who ?? who), said);
  if (node === lookView.node) node.view.spans[lookView.at]?.classList.add("looked");
  if (node.end) node.view?.trimEnd();
  if (node.error) article.append(make("p", { className: "error", role: "alert" }, node.error));
  node.actions = make("div", { className: "actions" });
  article.append(node.actions);
  writeActions(node);
  node.article = article;
  return article;
}

function writeActions(node) {
  const isUser = node.role === "user", parts = [];
  if (running?.node === node) {
    node.actions.replaceChildren(make("span", { className: "soft writing" }, node.tokens.length ? "" : "reading the prompt"));
    return;
  }
  if (node.parent.children.length > 1) parts.push(switcher(node));
  if (isUser) parts.push(button("Edit", () => edit(node), { className: "quiet" }));
  else {
    parts.push(button(node.error ? "Try again" : "Regenerate", () => answer(node.parent, { prompt: node.prompt }), { className: "quiet" }));
    if (node.code === "context_length_exceeded" && tree.turnsTo(node.parent).length > leftOut(node.parent) + 2) {
      parts.push(button("Leave out the first exchange", () => { node.parent.leftOut = leftOut(node.parent) + 2; answer(node.parent); }, { className: "quiet" }));
    }
    if (node.end === "length") parts.push(button("Go on", () => answer(node.parent, { prompt: node.prompt, begun: node.tokens, into: node }), { className: "quiet" }));
    if (node.tokens.length) parts.push(button("Copy", event => copyAnswer(node, event.target), { className: "quiet" }));
    parts.push(make("span", { className: "soft facts" }, facts(node)));
  }
  for (const part of parts) if (part.tagName === "BUTTON") part.disabled = running !== null;
  node.actions.replaceChildren(...parts);
}

async function copyAnswer(node, pressed) {
  const isCopied = await copy(textOf(node).trim());
  pressed.textContent = isCopied ? "Copied" : "Not copied";
  tell(isCopied ? "Copied." : "The browser did not copy the answer.");
}

function facts(node) {
  if (!node.tokens.length) return "";
  const found = [count(node.tokens.length, "token")];
  if (node.perSecond) found.push(`${node.perSecond.toFixed(1)} tok/s`);
  if (node.seed !== undefined) found.push(`seed ${node.seed}`);
  if (leftOut(node.parent)) found.push(`without the first ${leftOut(node.parent)} messages`);
  if (ENDS[node.end]) found.push(ENDS[node.end]);
  return found.join(" · ");
}

/** How many of the first messages the model does not read any more. */
function leftOut(node) {
  const earlier = node.parent && node.parent !== tree.root ? leftOut(node.parent) : 0;
  return Math.max(node.leftOut ?? 0, earlier);
}

/** The buttons that go through the siblings of a node. */
function switcher(node) {
  const { children, chosen } = node.parent, what = node.role === "user" ? "message" : "answer";
  const go = by => { node.parent.chosen += by; card.hide(); showRoles(); write(); node.parent.children[node.parent.chosen].actions.querySelector(`.step:not(:disabled)`)?.focus(); };
  const step = (text, by, label, isEnd) => button(text, () => go(by), { className: "quiet step", disabled: isEnd || running !== null, "aria-label": label });
  return make("span", { className: "switcher", role: "group", "aria-label": `Versions of this ${what}` },
    step("‹", -1, `Previous version of this ${what}`, chosen === 0), `${chosen + 1}/${children.length}`,
    step("›", 1, `Next version of this ${what}`, chosen === children.length - 1));
}

function welcome() {
  const title = { chat: `Talk to ${model.name}`, cast: "Speak with the characters of the plays", text: "Continue a text" }[model.mode];
  const prompts = model.prompts.length ? model.prompts : TO_TRY[model.mode];
  return make("div", { className: "welcome" }, make("h2", {}, title),
    make("p", { className: "soft" }, "Every token of an answer shows what the model might have written instead. Choose an alternative, and the answer branches there."),
    make("div", { className: "prompts" }, ...prompts.slice(0, 3).map(prompt => button(prompt, () => ask(prompt)))));
}

function edit(node) {
  const area = make("textarea", { value: node.text, rows: Math.min(8, node.text.split("\n").length + 1), "aria-label": "Edited message" });
  const done = () => { form.replaceWith(make("p", { className: "said" }, node.text)); write(); };
  const form = make("form", { className: "edit" }, area, make("button", { type: "submit", className: "main" }, words.send), button("Cancel", () => { done(); refocus(node); }));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (area.value.trim() && !running) ask(area.value, node.parent);
  });
  area.addEventListener("keydown", event => {
    if (event.key === "Escape") { event.stopPropagation(); done(); refocus(node); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  node.article.querySelector(".said").replaceWith(form);
  node.actions.replaceChildren();
  area.focus();
}

const refocus = node => [...node.actions.querySelectorAll("button")].find(each => each.textContent === "Edit")?.focus();

// --- answers ---

/** The node that the next message follows: an answer that failed is none. */
function end() {
  const last = model.mode === "text" ? undefined : tree.path.at(-1);
  return last?.role === "model" && !last.tokens.length ? last.parent.parent : last ?? tree.root;
}

export function ask(text, parent = end()) {
  const isCast = model.mode === "cast", character = isCast ? el("character").value : undefined;
  if (parent.parent?.character !== character) parent = tree.root; // another character: a new scene
  const node = tree.add(parent, { role: "user", text, tokens: [], character, who: isCast ? el("you").value : undefined });
  return answer(node);
}

/** Let the model answer a message; `begun` are tokens that the answer begins with. */
async function answer(question, { prompt, begun = [], branchedAt, into } = {}) {
  if (running) return;
  card.hide();
  const settings = sampler.settings;
  if (!into) settings.seed += question.children.length; // another answer has another seed
  const node = into ?? tree.add(question, { role: "model", tokens: [...begun], prompt, branchedAt });
  Object.assign(node, { error: undefined, code: undefined, end: undefined, seed: settings.temperature === 0 ? undefined : settings.seed });
  const abort = new AbortController(), from = performance.now();
  running = { node, abort };
  setBusy(true);
  write();
  scroll(true);
  const source = prompt ? { prompt: prompt.map(([id]) => id) }
    : model.mode === "text" ? { text: question.text }
    : { turns: tree.turnsTo(question).slice(leftOut(question)), ...(question.character && { character: question.character }) };
  let first, n = 0;
  try {
    for await (const event of api.answer({ ...source, ...settings, answer: begun.map(({ id }) => id) }, abort.signal)) {
      if (event.prompt) node.prompt = event.prompt;
      if (event.token) {
        node.tokens.push(event.token);
        node.view.append(event.token);
        first ??= performance.now();
        n += 1;
        if (n === 1) writeActions(node);
        scroll();
      }
      if (event.end) node.end = event.end;
    }
  } catch (error) {
    if (error.name === "AbortError") node.end = "cancelled";
    else [node.error, node.code] = [error.message, error.code];
    if (!(error.name === "AbortError" || error instanceof api.Refused)) console.error(error);
  }
  node.perSecond = n > 1 ? (n - 1) * 1000 / (performance.now() - first) : undefined;
  running = null;
  setBusy(false);
  write();
  scroll();
  if (node.code === "invalid_api_key") askForKey(node.error);
  tell(node.error ?? `The answer is complete: ${count(node.tokens.length, "token")} in ${((performance.now() - from) / 1000).toFixed(1)} s.`);
}

/** Let an answer go on with another token at one place. */
function branch(node, i, [id, name, kind, logprob]) {
  if (running) return;
  const token = { ...node.tokens[i], id, name, kind, logprob, text: kind === 0 ? name : "" };
  const begun = [...node.tokens.slice(0, i), token];
  if (!model.stop_ids.includes(id)) {
    answer(node.parent, { prompt: node.prompt, begun, branchedAt: i });
    return;
  }
  tree.add(node.parent, { role: "model", tokens: begun, prompt: node.prompt, branchedAt: i, end: "stop" });
  write();
}

function setBusy(isBusy) {
  el("send").hidden = isBusy;
  el("stop").hidden = !isBusy;
  el("log").setAttribute("aria-busy", isBusy);
}

/** Keep the end of the conversation in view, unless the reader has scrolled up. */
function scroll(isForced = false) {
  const log = el("log");
  if (isForced || log.scrollHeight - log.scrollTop - log.clientHeight < 120) log.scrollTop = log.scrollHeight;
}
