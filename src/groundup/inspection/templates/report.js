"use strict";
// Start the parts of the report.

const shown = JSON.parse(el("shown").textContent);

if (shown.curve) {
  startCurve(el("small-curve"), shown.curve, { height: 250 });
  startCurve(el("curve"), shown.curve, { height: 340, onStep: chooseSample });
}
if (shown.samples.length && el("sample")) {
  el("sample").oninput = showSample;
  showSample();
}

function showSample() {
  const [step, text] = shown.samples[+el("sample").value];
  el("sample-step").textContent = step.toLocaleString("en");
  el("sample-text").textContent = text;
}

/** Show the last sample that was generated up to a step. */
function chooseSample(step) {
  if (!shown.samples.length) return;
  const next = shown.samples.findIndex(([at]) => at > step);
  el("sample").value = next < 0 ? shown.samples.length - 1 : Math.max(0, next - 1);
  showSample();
}

const view = el("attention-view") && new AttentionView(el("attention-view"));
if (shown.attention) {
  const { tokens, weights } = shown.attention;
  view.show(tokens, weights.map(heads => heads.map(rows => rows.map(row => row.map(weight => weight / 1000)))));
}

/** The model of the page, its tokenizer and what is known of both; null without one. */
const page = el("model") && startModel();

function startModel() {
  const description = JSON.parse(el("model").textContent);
  const made = {
    description, tokenizer: makeTokenizer(description.tokenizer),
    model: new Transformer(description, el("weights").textContent.trim()),
  };
  startAttention(made, view);
  startTalk(made, shown.cues);
  startPlayground(made);
  return made;
}
