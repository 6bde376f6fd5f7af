"use strict";
// The tokenizer of the run: from text to token ids and back, with the same ids as in Python.

/** The white space of Python's `re`, which is not that of JavaScript. */
const PYTHON_SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

/** What all tokenizers share: `names` holds the bytes of each id, as one character per byte. */
class PageTokenizer {
  constructor(names) {
    this.names = names;
  }

  /** The bytes of one id. */
  bytes(id) {
    return Uint8Array.from(this.names[id], character => character.charCodeAt(0));
  }

  /** The text of some ids; bytes that are not valid UTF-8 become U+FFFD. */
  decode(ids) {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return ids.map(id => decoder.decode(this.bytes(id), { stream: true })).join("") + decoder.decode();
  }
}

/** Byte-level BPE: cut text by a pattern, then merge the adjacent pair with the lowest rank. */
class BPE extends PageTokenizer {
  constructor({ pattern, tokens, merges, special }) {
    super(tokens);
    this.pattern = new RegExp(pattern, "gu");
    const specialIds = new Set(Object.values(special));
    this.idOf = new Map();
    tokens.forEach((token, id) => { if (!specialIds.has(id)) this.idOf.set(token, id); });
    this.ranks = new Map(merges.map(([left, right], rank) => [left * tokens.length + right, rank]));
    this.made = merges.map(([left, right]) => this.idOf.get(tokens[left] + tokens[right]));
    this.known = new Map();
  }

  encode(text) {
    const ids = [];
    let done = 0;
    for (const found of text.matchAll(this.pattern)) {
      // What is between two matches is a piece of its own.
      if (found.index > done) ids.push(...this.encodePiece(text.slice(done, found.index)));
      ids.push(...this.encodePiece(found[0]));
      done = found.index + found[0].length;
    }
    if (done < text.length) ids.push(...this.encodePiece(text.slice(done)));
    return ids;
  }

  encodePiece(piece) {
    if (!this.known.has(piece)) this.known.set(piece, this.merge(piece));
    return this.known.get(piece);
  }

  merge(piece) {
    const ids = Array.from(new TextEncoder().encode(piece), byte => this.idOf.get(String.fromCharCode(byte)));
    const size = this.names.length;
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < ids.length; i++) {
        const rank = this.ranks.get(ids[i] * size + ids[i + 1]);
        if (rank < best) { best = rank; at = i; }
      }
      if (at < 0) return ids;
      ids.splice(at, 2, this.made[best]);
    }
  }
}

/** One character for each byte of the UTF-8 form of a text. */
function asBytes(text) {
  return Array.from(new TextEncoder().encode(text), byte => String.fromCharCode(byte)).join("");
}

/** One id for each character of the training text. */
class Characters extends PageTokenizer {
  constructor({ tokens, special }) {
    super([...tokens, ...Object.keys(special)].map(asBytes));
    this.idOf = new Map(tokens.map((character, id) => [character, id]));
  }

  encode(text) {
    return Array.from(text, character => {
      const id = this.idOf.get(character);
      if (id === undefined) throw new Error(`The character ${JSON.stringify(character)} was not in the training text.`);
      return id;
    });
  }
}

/** One id for each word of the training text; white space is dropped. */
class Words extends PageTokenizer {
  constructor({ tokens, special }) {
    const words = [...tokens, ...Object.keys(special)];
    super(words.map(asBytes));
    this.words = words;
    this.idOf = new Map(tokens.map((word, id) => [word, id]));
    this.unknown = special["<|unk|>"];
    this.cut = new RegExp(`([,.:;?_!"()']|--|[${PYTHON_SPACE}])`);
    this.outerSpace = new RegExp(`^[${PYTHON_SPACE}]+|[${PYTHON_SPACE}]+$`, "g");
    this.beforePunctuation = new RegExp(`[${PYTHON_SPACE}]+([,.:;?!"()'])`, "g");
  }

  encode(text) {
    const words = text.split(this.cut).map(part => part.replace(this.outerSpace, ""));
    return words.filter(word => word !== "").map(word => {
      const id = this.idOf.get(word) ?? this.unknown;
      if (id === undefined) throw new Error(`The word ${JSON.stringify(word)} was not in the training text.`);
      return id;
    });
  }

  decode(ids) {
    return ids.map(id => this.words[id]).join(" ").replace(this.beforePunctuation, "$1");
  }
}

/** Build the tokenizer of a description that `page_tokenizer.py` wrote. */
function makeTokenizer(description) {
  return new { bpe: BPE, characters: Characters, words: Words }[description.kind](description);
}
