"use strict";
// From logits to the next token: temperature, top-p, and a draw.

/** The probabilities of the first `n` ids; a temperature of 0 puts all on the most likely one. */
function probabilities(logits, n, temperature) {
  let best = 0;
  for (let id = 1; id < n; id++) if (logits[id] > logits[best]) best = id;
  const shares = new Float64Array(n);
  if (temperature < 1e-5) {
    shares[best] = 1;
    return shares;
  }
  let total = 0;
  for (let id = 0; id < n; id++) total += shares[id] = Math.exp((logits[id] - logits[best]) / temperature);
  for (let id = 0; id < n; id++) shares[id] /= total;
  return shares;
}

/** The ids from the most likely to the least likely one. */
function ordered(shares) {
  return Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a] || a - b);
}

/** Draw an id from the smallest set of likely ids with a total probability of at least `topP`. */
function draw(shares, topP, random = Math.random) {
  const ids = ordered(shares), kept = [];
  let total = 0;
  for (const id of ids) {
    if (total >= topP) break;
    kept.push(id);
    total += shares[id];
  }
  let left = random() * total;
  for (const id of kept) {
    left -= shares[id];
    if (left < 0) return id;
  }
  return kept[kept.length - 1];
}
