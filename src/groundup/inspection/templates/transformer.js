"use strict";
// The forward pass of the trained model, in the order of groundup/model/gpt.py.
//
// T new positions are read at once; their vectors lie one after the other in a Float32Array. Keys
// and values of the positions before them are in a KV cache, so that a new token costs one position.

/** Read the tensors that `page_model.py` packed: vectors of float32, matrices of int8 rows. */
function unpackTensors(places, base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  let nFloats = 0;
  for (const place of Object.values(places)) nFloats = Math.max(nFloats, place[0] + place[1]);
  const floats = new Float32Array(bytes.buffer, 0, nFloats);
  const quants = new Int8Array(bytes.buffer, 4 * nFloats);
  const tensors = new Map();
  for (const [name, [first, rows, columns, firstQuant]] of Object.entries(places)) {
    const numbers = floats.subarray(first, first + rows);
    tensors.set(name, columns === undefined ? numbers : {
      rows, columns, scales: numbers, quants: quants.subarray(firstQuant, firstQuant + rows * columns),
    });
  }
  return tensors;
}

/** x W^T + b for T vectors; four positions at a time, so that each weight is read once for four. */
function linear(x, T, { rows, columns: C, scales, quants }, bias) {
  const y = new Float32Array(T * rows);
  let t = 0;
  for (; t + 4 <= T; t += 4) {
    const a = t * C, b = a + C, c = b + C, d = c + C;
    for (let r = 0, w = 0; r < rows; r++) {
      let sa = 0, sb = 0, sc = 0, sd = 0;
      for (let i = 0; i < C; i++, w++) {
        const q = quants[w];
        sa += q * x[a + i]; sb += q * x[b + i]; sc += q * x[c + i]; sd += q * x[d + i];
      }
      const scale = scales[r], offset = bias ? bias[r] : 0, o = t * rows + r;
      y[o] = scale * sa + offset;
      y[o + rows] = scale * sb + offset;
      y[o + 2 * rows] = scale * sc + offset;
      y[o + 3 * rows] = scale * sd + offset;
    }
  }
  for (; t < T; t++) {
    for (let r = 0; r < rows; r++) {
      let even = 0, odd = 0, i = 0;
      const w = r * C, a = t * C;
      for (; i + 1 < C; i += 2) {
        even += quants[w + i] * x[a + i];
        odd += quants[w + i + 1] * x[a + i + 1];
      }
      if (i < C) even += quants[w + i] * x[a + i];
      y[t * rows + r] = scales[r] * (even + odd) + (bias ? bias[r] : 0);
    }
  }
  return y;
}

/** Add one row of a matrix, such as the embedding of a token, to a vector. */
function addRow({ columns, scales, quants }, row, x, at) {
  for (let i = 0; i < columns; i++) x[at + i] += scales[row] * quants[row * columns + i];
}

/** RMSNorm ("rms") or LayerNorm ("layer") of the n numbers of x from `at` on, in place. */
function normalize(kind, x, at, n, gain, bias, eps) {
  let mean = 0, squares = 0;
  if (kind === "layer") {
    for (let i = at; i < at + n; i++) mean += x[i];
    mean /= n;
  }
  for (let i = at; i < at + n; i++) squares += (x[i] - mean) ** 2;
  const factor = 1 / Math.sqrt(squares / n + eps);
  for (let i = 0; i < n; i++) x[at + i] = (x[at + i] - mean) * factor * gain[i] + (bias ? bias[i] : 0);
}

/** The error function. Source: Abramowitz and Stegun, formula 7.1.26; its error is below 2e-7. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const ACTIVATIONS = {
  "gelu": x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  "gelu-exact": x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  "relu2": x => Math.max(x, 0) ** 2,
};

/** The keys and values of the positions that were read, and their token ids. */
class KeyValueCache {
  constructor({ context_length, n_layers, n_kv_heads, d_head }) {
    const size = context_length * n_kv_heads * d_head;
    this.keys = Array.from({ length: n_layers }, () => new Float32Array(size));
    this.values = Array.from({ length: n_layers }, () => new Float32Array(size));
    this.ids = [];
  }
}

class Transformer {
  constructor({ config, tensors }, base64) {
    this.config = config;
    this.tensors = unpackTensors(tensors, base64);
    this.head = this.tensors.get("head.weight") ?? this.tensors.get("token_embedding.weight");
    this.cache = new KeyValueCache(config);
  }

  /**
   * The logits after the last of the ids. Positions that were read before are not read again.
   *
   * With `attention`, an empty array, all positions are read, and it gets the weights of each layer
   * and head: attention[layer][head][t] holds the weights of position t for positions 0 to t.
   */
  read(ids, { attention = null } = {}) {
    const cache = this.cache;
    let start = 0;
    // The last position is always read, because its logits are wanted.
    while (!attention && start < Math.min(cache.ids.length, ids.length - 1) && cache.ids[start] === ids[start]) start++;
    cache.ids.length = start;
    const x = this.hidden(ids.slice(start), attention);
    const C = this.config.d_model;
    return linear(x.subarray(x.length - C), 1, this.head);
  }

  /** The logits after every one of the ids, one vector of V numbers after the other. */
  readAll(ids) {
    this.cache.ids.length = 0;
    return linear(this.hidden(ids, null), ids.length, this.head);
  }

  /** Read new ids at the end of the cache; return their vectors after the last norm. */
  hidden(ids, attention) {
    const { config, cache } = this, start = cache.ids.length, T = ids.length, C = config.d_model;
    if (start + T > config.context_length) throw new Error("The text does not fit into the context.");
    cache.ids.push(...ids);
    const x = this.embed(start, T);
    for (let layer = 0; layer < config.n_layers; layer++) {
      const name = `blocks.${layer}`;
      const heads = attention ? Array.from({ length: config.n_heads }, () => []) : null;
      this.add(x, this.attend(layer, this.norm(`${name}.attention_norm`, x, T), start, T, heads));
      this.add(x, this.mlp(`${name}.mlp`, this.norm(`${name}.mlp_norm`, x, T), T));
      if (attention) attention.push(heads);
    }
    return this.norm("final_norm", x, T);
  }

  add(x, y) {
    for (let i = 0; i < x.length; i++) x[i] += y[i];
  }

  /** Embed the tokens, the n-grams that end at them, and learned positions. */
  embed(start, T) {
    const { config, tensors, cache } = this, C = config.d_model, x = new Float32Array(T * C);
    for (let t = 0; t < T; t++) {
      const position = start + t;
      addRow(tensors.get("token_embedding.weight"), cache.ids[position], x, t * C);
      let hash = cache.ids[position];
      for (let back = 1; back < config.ngram; back++) {
        // 0 means "before the start of the text". The products stay below 2^53.
        const earlier = position >= back ? cache.ids[position - back] + 1 : 0;
        hash = (hash * 1000003 + earlier) % (2 ** 31 - 1);
        const row = hash % config.ngram_rows + (back - 1) * config.ngram_rows;
        addRow(tensors.get("ngram_embedding.weight"), row, x, t * C);
      }
      if (config.positions === "learned") addRow(tensors.get("position_embedding.weight"), position, x, t * C);
    }
    return x;
  }

  norm(name, x, T) {
    const { config, tensors } = this, C = config.d_model, y = x.slice();
    const gain = tensors.get(`${name}.weight`), bias = tensors.get(`${name}.bias`);
    for (let t = 0; t < T; t++) normalize(config.norm, y, t * C, C, gain, bias, config.norm_eps);
    return y;
  }

  mlp(name, x, T) {
    const { config, tensors } = this, F = config.d_ff;
    const up = linear(x, T, tensors.get(`${name}.up.weight`), tensors.get(`${name}.up.bias`));
    let inner = up;
    if (config.activation === "swiglu") {
      inner = new Float32Array(T * F);
      for (let t = 0; t < T; t++) {
        for (let i = 0; i < F; i++) {
          const gate = up[2 * t * F + i];
          inner[t * F + i] = gate / (1 + Math.exp(-gate)) * up[(2 * t + 1) * F + i];
        }
      }
    } else {
      const activation = ACTIVATIONS[config.activation];
      for (let i = 0; i < up.length; i++) inner[i] = activation(up[i]);
    }
    return linear(inner, T, tensors.get(`${name}.down.weight`), tensors.get(`${name}.down.bias`));
  }

  attend(layer, x, start, T, heads) {
    const { config, tensors, cache } = this, { n_heads: H, n_kv_heads: G, d_head: D } = config;
    const name = `blocks.${layer}.attention`, width = (H + 2 * G) * D;
    const qkv = linear(x, T, tensors.get(`${name}.qkv.weight`), tensors.get(`${name}.qkv.bias`));
    const keys = cache.keys[layer], values = cache.values[layer], mixed = new Float32Array(T * H * D);
    for (let t = 0; t < T; t++) {
      const position = start + t, row = t * width;
      for (let h = 0; h < H + G; h++) { // queries, then keys
        const gain = tensors.get(`${name}.${h < H ? "query" : "key"}_gain`);
        if (config.qk_norm) normalize(config.norm, qkv, row + h * D, D, gain, null, config.norm_eps);
        if (config.positions === "rotary") this.rotate(qkv, row + h * D, position);
      }
      keys.set(qkv.subarray(row + H * D, row + (H + G) * D), position * G * D);
      values.set(qkv.subarray(row + (H + G) * D, row + width), position * G * D);
      const first = config.windows[layer] === null ? 0 : Math.max(0, position - config.windows[layer] + 1);
      for (let h = 0; h < H; h++) {
        const weights = this.weights(qkv, row + h * D, keys, Math.floor(h * G / H), first, position);
        for (let s = first; s <= position; s++) {
          const at = (s * G + Math.floor(h * G / H)) * D;
          for (let i = 0; i < D; i++) mixed[(t * H + h) * D + i] += weights[s] * values[at + i];
        }
        if (heads) heads[h].push(weights);
      }
    }
    return linear(mixed, T, tensors.get(`${name}.out.weight`), tensors.get(`${name}.out.bias`));
  }

  /** softmax(q k^T / sqrt(D)) of one query over the positions from `first` to its own. */
  weights(queries, query, keys, group, first, position) {
    const { n_kv_heads: G, d_head: D } = this.config, weights = new Float64Array(position + 1);
    let largest = -Infinity, total = 0;
    for (let s = first; s <= position; s++) {
      const at = (s * G + group) * D;
      let score = 0;
      for (let i = 0; i < D; i++) score += queries[query + i] * keys[at + i];
      weights[s] = score / Math.sqrt(D);
      largest = Math.max(largest, weights[s]);
    }
    for (let s = first; s <= position; s++) total += weights[s] = Math.exp(weights[s] - largest);
    for (let s = first; s <= position; s++) weights[s] /= total;
    return weights;
  }

  /** Rotate each pair of the D numbers from `at` on by the angle of a position. */
  rotate(x, at, position) {
    const { d_head: D, rotary_layout, rotary_scale } = this.config;
    const frequencies = this.tensors.get("rotary_frequencies");
    for (let pair = 0; pair < D / 2; pair++) {
      const angle = Math.fround(position * frequencies[pair]);
      const cos = rotary_scale * Math.cos(angle), sin = rotary_scale * Math.sin(angle);
      const [i, j] = rotary_layout === "half" ? [at + pair, at + pair + D / 2] : [at + 2 * pair, at + 2 * pair + 1];
      const a = x[i], b = x[j];
      x[i] = a * cos - b * sin;
      x[j] = b * cos + a * sin;
    }
  }
}
