// The frame of the page: the model, the composer and the buttons at the top.

import * as api from "./api.js";
import { count, el, make } from "./dom.js";
import { LookView } from "./look.js";
import { closePanel, openPanel } from "./panel.js";
import { Sampler } from "./sampler.js";
import { ask, begin, isAnswering, startAnew, stop } from "./talk.js";

const WORDS = {
  chat: { line: "Message", send: "Send", fresh: "New chat", you: "You" },
  cast: { line: "What you say", send: "Say", fresh: "New scene", you: "You" },
  text: { line: "Text to continue", send: "Continue", fresh: "New text", you: "Prompt" },
};

const short = n => (n >= 1e9 ? `${(n / 1e9).toPrecision(3)} G` : n >= 1e6 ? `${(n / 1e6).toPrecision(3)} M` : n.toLocaleString("en"));
/** Ask for the key of the server, and say what is wrong with the one that was sent. */
function askForKey(problem = "") {
  const input = make("input", { type: "password", autocomplete: "off", "aria-label": "Key of the server" });
  const said = make("p", { className: "error", role: "alert", hidden: !problem }, problem);
  const form = make("form", { className: "edit" }, make("p", {}, "This server asks for a key."), said, input, make("button", { type: "submit", className: "main" }, "Use it"));
  form.addEventListener("submit", event => {
    event.preventDefault();
    if (/[^ -~]/.test(input.value)) {
      said.textContent = "The key has other characters than ASCII letters, digits and signs.";
      said.hidden = false;
      input.select();
      return;
    }
    api.useKey(input.value);
    start();
  });
  el("log").replaceChildren(form);
  input.focus();
}

function connect() {
  el("composer").addEventListener("submit", event => {
    event.preventDefault();
    const text = el("line").value;
    if (!text.trim() || isAnswering()) return;
    el("line").value = "";
    ask(text);
  });
  el("line").addEventListener("keydown", event => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      el("composer").requestSubmit();
    }
  });
  el("stop").addEventListener("click", () => { stop(); el("line").focus(); });
  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    if (isAnswering()) stop();
    else if (el("panel").classList.contains("open")) closePanel();
  });
  el("new").addEventListener("click", () => {
    startAnew();
    el("line").focus();
  });
  el("surprise").addEventListener("click", () => setSurprise(el("surprise").getAttribute("aria-pressed") !== "true"));
  el("settings").addEventListener("click", () => {
    openPanel();
    el("sampling").open = true;
    el("sampler").querySelector("input").focus();
  });
  el("close").addEventListener("click", closePanel);
}

function setSurprise(isOn) {
  el("surprise").setAttribute("aria-pressed", isOn);
  el("log").classList.toggle("by-surprise", isOn);
  el("legend").hidden = !isOn;
  sessionStorage.setItem("surprise", isOn ? "1" : "");
}

async function start() {
  let model;
  try {
    model = await api.about();
  } catch (error) {
    if (error.status === 401) askForKey(api.hasKey() ? error.message : "");
    else el("log").replaceChildren(make("p", { className: "error", role: "alert" }, error.message));
    return;
  }
  const words = WORDS[model.mode];
  document.title = `${model.name} · groundup`;
  el("name").textContent = model.name;
  el("facts").textContent = [
    `${short(model.n_parameters)} parameters`, count(model.n_layers, "layer"), `context ${model.context_length.toLocaleString("en")}`,
  ].join(" · ");
  el("line-label").textContent = el("line").placeholder = words.line;
  [el("send").textContent, el("new").textContent] = [words.send, words.fresh];
  if (model.cast) {
    const partners = new Map(model.cast);
    el("character").replaceChildren(...model.cast.map(([name]) => make("option", {}, name)));
    const choose = () => { el("you").value = partners.get(el("character").value); };
    el("character").addEventListener("change", choose);
    choose();
    el("roles").hidden = false;
  }
  setSurprise(sessionStorage.getItem("surprise") === "1");
  begin({ model, words, sampler: new Sampler(model), lookView: new LookView(), askForKey });
  el("line").focus();
}

connect();
start();
