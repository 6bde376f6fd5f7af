// The conversation as a tree: an edited message, another answer and a branch are siblings, and of
// the siblings one is shown.
//
// A user's node has a text. A node of the model has tokens, each with id, name, kind, text, logprob
// and alternatives; the prompt that it answers; and why it ended.

export class Tree {
  constructor() {
    this.root = { children: [], chosen: 0 };
  }

  add(parent, node) {
    Object.assign(node, { children: [], chosen: 0 });
    Object.defineProperty(node, "parent", { value: parent }); // hidden from JSON
    parent.chosen = parent.children.push(node) - 1;
    return node;
  }

  /** The nodes that are shown, from the first message on. */
  get path() {
    const nodes = [];
    for (let node = this.root; node.children.length; nodes.push(node)) node = node.children[node.chosen];
    return nodes;
  }

  /** What the server is asked for the answer to a message. */
  turnsTo(node) {
    const turns = [];
    for (let at = node; at !== this.root; at = at.parent) {
      turns.unshift(at.role === "user"
        ? { role: "user", text: at.text }
        : { role: "assistant", ids: at.tokens.map(token => token.id) });
    }
    return turns;
  }

  save(key) {
    try {
      const isData = name => !["view", "article", "actions"].includes(name);
      sessionStorage.setItem(key, JSON.stringify(this.root, (name, value) => (isData(name) ? value : undefined)));
    } catch { /* the storage is full: the conversation is then lost on a reload */ }
  }

  restore(key) {
    const stored = sessionStorage.getItem(key);
    if (!stored) return;
    this.root = JSON.parse(stored);
    const link = parent => parent.children.forEach(node => {
      Object.defineProperty(node, "parent", { value: parent });
      link(node);
    });
    link(this.root);
  }
}

export const textOf = node => (node.role === "user" ? node.text : node.tokens.map(token => token.text).join(""));
