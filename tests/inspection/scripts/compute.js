// Compute with the page's scripts what Python computes, for test_page_model.py.
const found = { models: {}, tokenizers: {} };
for (const [name, [description, weights]] of Object.entries(data.models)) {
  const model = new Transformer(description, weights), attention = [];
  const all = Array.from(model.readAll(data.ids));
  model.read(data.ids.slice(0, 7)); // in parts, with the cache
  model.read(data.ids.slice(0, 12));
  model.read(data.ids.slice(0, 9)); // back, as after a deleted word
  const last = Array.from(model.read(data.ids));
  model.read(data.ids, { attention });
  found.models[name] = { all, last, attention: attention.map(heads => heads.map(rows => rows.map(row => Array.from(row)))) };
}
for (const [name, [description, ids]] of Object.entries(data.tokenizers)) {
  const tokenizer = makeTokenizer(description);
  found.tokenizers[name] = {
    ids: data.texts.map(text => tokenizer.encode(text)), texts: ids.map(row => tokenizer.decode(row)),
    part: tokenizer.decode(ids[3].slice(1, 3)), special: tokenizer.decode(Object.values(description.special)),
  };
}
found.shares = [0, 0.5, 1, 1.5].map(t => Array.from(probabilities(data.logits, 40, t)));
found.counts = new Array(40).fill(0);
for (let i = 0; i < 2000; i++) found.counts[draw(found.shares[2], 0.8, () => (i + 0.5) / 2000)]++;
const chat = { tokenizer: makeTokenizer(data.tokenizers.gpt4[0]), description: { chat_ids: data.chat_ids } };
const turns = data.turns.map(([who, text]) => ({ who, text }));
const play = { ...chat, description: { chat_ids: null } }, cast = { you: "ROMEO.", model: "JULIET." };
found.talk = [
  conversation(chat, turns, null).ids, conversation(play, turns, cast).ids, conversation(play, turns, null).ids,
];
found.cues = ["romeo", "Nurse", " JULIET. "].map(name => cueOf(name, ["ROMEO:", "JULIET:"]));
found.cut = ["\n\nAy, sir.\n\nROM", "Ay,\nsir", "\n\n"].map(text => firstParagraph(text));
found.starts = [7, 8, 9, 10, 11, 30].map(n => windowStart(n, 8));
return found;
