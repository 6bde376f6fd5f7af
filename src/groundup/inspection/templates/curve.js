"use strict";
// The loss over the steps, drawn at the width that there is; pointing at it shows one step.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** About n round numbers between two numbers. */
function ticks(low, high, n, smallest = 0) {
  const rough = Math.max(smallest, (high - low) / n), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * power).find(size => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

/**
 * Draw the curve into a figure, and again whenever its width changes.
 *
 * @param curve  train and validation: [step, loss] points; uniform: ln V; best: the step of the
 *               best checkpoint.
 */
function startCurve(figure, curve, { height = 260, onStep = null } = {}) {
  const { train, validation, uniform, best } = curve;
  const points = [...train, ...validation], steps = points.map(p => p[0]), losses = points.map(p => p[1]);
  const lastStep = Math.max(1, ...steps);
  const high = Math.max(...losses, uniform ?? 0) * 1.02, low = Math.min(...losses) * 0.96;

  function draw() {
    const width = figure.clientWidth, left = 38, bottom = height - 34, right = width - 10, top = 8;
    if (!width) return;
    const x = step => left + (right - left) * step / lastStep;
    const y = loss => bottom - (bottom - top) * (loss - low) / (high - low);
    const line = series => series.map(([step, loss], i) => `${i ? "L" : "M"}${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join("");
    const picture = svg("svg", { width, height, role: "img", "aria-label": figure.dataset.label });
    for (const loss of ticks(low, high, height / 40)) {
      picture.append(svg("line", { class: "grid", x1: left, x2: right, y1: y(loss), y2: y(loss) }),
        svg("text", { x: left - 6, y: y(loss) + 4, "text-anchor": "end" }, String(loss)));
    }
    for (const step of ticks(0, lastStep, Math.max(2, width / 110), 1)) {
      picture.append(svg("text", { x: Math.min(x(step), right - 10), y: bottom + 16, "text-anchor": "middle" }, step.toLocaleString("en")));
    }
    picture.append(svg("text", { x: right, y: height - 3, "text-anchor": "end" }, "step"));
    if (uniform) {
      picture.append(svg("line", { class: "uniform", x1: left, x2: right, y1: y(uniform), y2: y(uniform) }),
        svg("text", { x: right, y: y(uniform) + 14, "text-anchor": "end" }, `uniform prediction, ${uniform.toFixed(2)}`));
    }
    if (train.length) picture.append(svg("path", { class: "train", d: line(train) }));
    if (validation.length) {
      picture.append(svg("path", { class: "validation", d: line(validation) }));
      for (const [step, loss] of validation.length < 40 ? validation : []) {
        picture.append(svg("circle", { class: "validation", cx: x(step), cy: y(loss), r: step === best ? 5 : 2.5 }));
      }
    }
    const cursor = svg("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
    picture.append(cursor);
    picture.onpointermove = event => {
      const at = (event.clientX - picture.getBoundingClientRect().left - left) / (right - left) * lastStep;
      const near = series => series.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a, [Infinity, 0]);
      const trained = near(train), validated = near(validation);
      cursor.setAttribute("x1", x(trained[0]));
      cursor.setAttribute("x2", x(trained[0]));
      cursor.setAttribute("visibility", "visible");
      caption.textContent = `step ${Math.round(trained[0]).toLocaleString("en")}: training loss ${trained[1].toFixed(3)}` +
        (validation.length ? `, validation loss ${validated[1].toFixed(3)} at step ${validated[0].toLocaleString("en")}` : "");
      if (onStep) onStep(trained[0]);
    };
    picture.onpointerleave = () => { cursor.setAttribute("visibility", "hidden"); caption.textContent = figure.dataset.label; };
    const caption = make("figcaption", {}, figure.dataset.label);
    figure.replaceChildren(picture, caption);
  }

  new ResizeObserver(draw).observe(figure);
}
