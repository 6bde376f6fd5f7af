"use strict";
// "Try the model": a text, its tokens, the most likely next tokens, and its continuation.

const N_NEXT = 10, N_CONTINUED = 120;

function startPlayground(page) {
  const { tokenizer, description } = page;
  const text = el("prompt"), next = el("next"), tokens = el("tokens"), state = el("state");
  let stopped = true, before = null, nUpdates = 0;

  const settings = () => ({ temperature: +el("temperature").value, topP: +el("top-p").value });

  /** The ids of the text; those that begin a text for an empty one. */
  function idsOf(string) {
    const ids = tokenizer.encode(string);
    return ids.length ? ids : description.start_ids;
  }

  function showTokens(ids) {
    const nSeen = ids.length - windowStart(ids.length, description.config.context_length);
    tokens.replaceChildren(...ids.map((id, i) => {
      const bytes = Array.from(tokenizer.bytes(id), b => b.toString(16).padStart(2, "0")).join(" ");
      const shown = visible(tokenizer.decode([id])).replaceAll("⏎", "⏎\n");
      return make("span", {
        className: i < ids.length - nSeen ? "unseen" : "", title: `id ${id}, bytes ${bytes}`,
      }, shown);
    }));
    const limit = description.config.context_length;
    el("count").textContent = `${ids.length} tokens` +
      (nSeen < ids.length ? `; the model sees the last ${nSeen} of them (its context is ${limit})` : "");
  }

  async function mostLikely(ids) {
    const logits = await logitsAfter(page, ids);
    const shares = probabilities(logits, description.config.n_used_ids, settings().temperature);
    const best = ordered(shares).slice(0, N_NEXT);
    return best.map(id => {
      const bar = make("span", { className: "fill" });
      bar.style.width = `${100 * shares[id]}%`;
      const button = make("button", {
        type: "button", title: `id ${id}`, onclick: () => { text.value += tokenizer.decode([id]); update(); },
      }, make("code", {}, visible(tokenizer.decode([id])) || "∅"), make("span", { className: "track" }, bar),
      make("span", { className: "share" }, percent(shares[id])));
      return make("li", {}, button);
    });
  }

  async function update() {
    const mine = ++nUpdates;
    for (const id of ["temperature", "top-p"]) el(`${id}-value`).textContent = (+el(id).value).toFixed(2);
    try {
      const ids = idsOf(text.value);
      showTokens(text.value ? ids : []);
      const items = ids.length ? await mostLikely(ids) : [];
      if (mine !== nUpdates) return; // the text has changed meanwhile
      next.replaceChildren(...items);
      state.textContent = "";
    } catch (error) {
      state.textContent = error.message;
    }
  }

  async function proceed() {
    if (!stopped) { stopped = true; return; }
    before = text.value;
    stopped = false;
    text.readOnly = true;
    el("continue").textContent = "Stop";
    const startedAt = performance.now(), made = [];
    try {
      await generate(page, idsOf(before), { most: N_CONTINUED, ...settings() }, id => {
        made.push(id);
        text.value = before + tokenizer.decode(made);
        text.scrollTop = text.scrollHeight;
        return !stopped;
      });
      await update();
      const perSecond = Math.round(1000 * made.length / (performance.now() - startedAt));
      state.textContent = `${made.length} tokens, ${perSecond} tokens/s on this device.`;
    } catch (error) {
      state.textContent = error.message;
    }
    stopped = true;
    text.readOnly = false;
    el("continue").textContent = "Continue";
    el("undo").disabled = false;
  }

  text.oninput = debounced(update);
  el("temperature").oninput = el("top-p").oninput = debounced(update, 20);
  el("continue").onclick = proceed;
  el("undo").onclick = () => { text.value = before; el("undo").disabled = true; update(); };
  text.onkeydown = event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); proceed(); }
  };
  return update();
}
