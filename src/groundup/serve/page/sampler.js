// The sampling settings, with the names of the command line.

import { el, make } from "./dom.js";

const FIELDS = [
  ["temperature", { min: 0, step: 0.1, title: "Divides the logits. 0: always the most likely token." }],
  ["top-k", { min: 1, step: 1, title: "Sample from this many most likely tokens." }],
  ["top-p", { min: 0, max: 1, step: 0.05, title: "Sample from the most likely tokens that together have this probability." }],
  ["min-p", { min: 0, max: 1, step: 0.01, title: "Sample from tokens with at least this share of the largest probability." }],
  ["seed", { min: 0, step: 1, title: "The same seed gives the same answer. Empty: a new one each time.", placeholder: "random" }],
  ["max-new-tokens", { min: 1, step: 1, title: "Maximum length of an answer, in tokens." }],
];
const USUAL = {
  chat: { temperature: 0.7, "top-p": 0.95, "max-new-tokens": 256 },
  cast: { temperature: 0.8, "max-new-tokens": 96 },
  text: { temperature: 0.8, "top-p": 0.95, "max-new-tokens": 80 },
};
const NEEDED = { temperature: 1, "max-new-tokens": 256 };

export class Sampler {
  constructor({ mode, name }) {
    this.key = `sampling ${name}`;
    const stored = JSON.parse(sessionStorage.getItem(this.key) ?? "null") ?? USUAL[mode];
    this.inputs = {};
    el("sampler").replaceChildren(...FIELDS.map(([field, properties]) => {
      const input = this.inputs[field] = make("input", {
        type: "number", inputMode: "decimal", placeholder: NEEDED[field] ?? "off", value: stored[field] ?? "", ...properties,
        "aria-describedby": `about-${field}`, oninput: () => this.save(),
      });
      return make("label", { title: properties.title }, make("span", {}, field), input,
        make("span", { className: "hidden", id: `about-${field}` }, properties.title));
    }));
    el("sampler").addEventListener("submit", event => event.preventDefault());
  }

  save() {
    const values = Object.entries(this.inputs).filter(([, input]) => input.value !== "").map(([field, input]) => [field, Number(input.value)]);
    sessionStorage.setItem(this.key, JSON.stringify(Object.fromEntries(values)));
  }

  /** The settings of the next answer; each has a seed. */
  get settings() {
    const settings = { seed: Math.floor(Math.random() * 1e6) };
    for (const [field, input] of Object.entries(this.inputs)) {
      const value = input.value === "" ? NEEDED[field] : Number(input.value);
      if (value !== undefined) settings[field.replaceAll("-", "_")] = value;
    }
    return settings;
  }
}
