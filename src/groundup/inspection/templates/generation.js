"use strict";
// Generate text with the model of the page, token by token.

const READ_AT_ONCE = 64;

/** Where the window over the last tokens begins: it moves by a quarter of the context at a time. */
function windowStart(nTokens, contextLength) {
  const step = Math.max(1, Math.floor(contextLength / 4));
  return Math.ceil(Math.max(0, nTokens - contextLength) / step) * step;
}

/** The logits after the last of the ids; the browser may draw between the parts of a long text. */
async function logitsAfter({ model, description }, ids) {
  const seen = ids.slice(windowStart(ids.length, description.config.context_length));
  for (let stop = READ_AT_ONCE; stop < seen.length; stop += READ_AT_ONCE) {
    if (stop > model.cache.ids.length) {
      model.read(seen.slice(0, stop));
      await pause();
    }
  }
  return model.read(seen);
}

/**
 * Generate tokens after the ids and call `onToken` with each one.
 *
 * It ends after `most` tokens, at a token that ends a text, or when `onToken` returns false.
 */
async function generate(page, ids, { most, temperature, topP, random = Math.random }, onToken) {
  const { config, stop_ids } = page.description;
  if (!ids.length) throw new Error("The text has no tokens. Type a text to continue.");
  const all = ids.slice();
  for (let n = 0; n < most; n++) {
    const shares = probabilities(await logitsAfter(page, all), config.n_used_ids, temperature);
    const id = draw(shares, topP, random);
    if (stop_ids.includes(id)) return;
    all.push(id);
    if (onToken(id) === false) return;
    await pause();
  }
}
