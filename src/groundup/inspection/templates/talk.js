"use strict";
// The chat box: a conversation with an assistant, with a character of a play, or in paragraphs.

const N_ANSWERED = 90;

/** The part of a text before the first blank line, and whether there is one. */
function firstParagraph(text) {
  const found = text.trimStart().match(/^([^]*?\S)[ \t]*\n\s*\n/);
  return { said: (found ? found[1] : text).trim(), isOver: found !== null };
}

/** The ids of a conversation after which the answer begins, and the function that cuts the answer. */
function conversation({ tokenizer, description }, turns, speakers) {
  const chat = description.chat_ids;
  if (chat) { // <|user|> question <|end|> <|assistant|> answer <|end|>
    const [user, end, assistant] = chat;
    const ids = turns.flatMap(({ who, text }) => [who === "you" ? user : assistant, ...tokenizer.encode(text), end]);
    return { ids: [...ids, assistant], cut: text => ({ said: text.trim(), isOver: false }) };
  }
  const name = who => (speakers ? `${speakers[who]}\n` : "");
  const said = turns.map(({ who, text }) => `${name(who)}${text}\n\n`).join("");
  return { ids: tokenizer.encode(said + name("model")), cut: firstParagraph };
}

/** The name of a speaker, without the sign that follows it in the text. */
const nameOf = cue => cue.replace(/[.:]$/, "");

/** The line that names a speaker: one of the text, or a new name written like them. */
function cueOf(name, cues) {
  const wanted = nameOf(name.trim());
  return cues.find(cue => nameOf(cue).toLowerCase() === wanted.toLowerCase()) ?? wanted + cues[0].slice(-1);
}

/** @param cues  The lines that name the speakers of a play; null if the text is no play. */
function startTalk(page, cues) {
  const log = el("talk-log"), form = el("talk-form"), line = el("talk-line"), turns = [];
  const { context_length } = page.description.config;

  function show(who, text, name) {
    const said = make("span", { className: "said" }, text);
    log.append(make("p", { className: who }, make("b", {}, name), " ", said));
    log.scrollTop = log.scrollHeight;
    return said;
  }

  form.onsubmit = async event => {
    event.preventDefault();
    const text = line.value.trim();
    if (!text || form.inert) return;
    const speakers = cues && { you: cueOf(el("talk-you").value, cues), model: cueOf(el("talk-model").value, cues) };
    form.inert = true;
    line.value = "";
    turns.push({ who: "you", text });
    show("you", text, speakers ? nameOf(speakers.you) : "You");
    const said = show("model", "…", speakers ? nameOf(speakers.model) : "Model"), made = [];
    try {
      let asked = conversation(page, turns, speakers);
      // An answer is never longer than half of the context: forget the first turns.
      while (turns.length > 1 && asked.ids.length > context_length / 2) {
        turns.shift();
        asked = conversation(page, turns, speakers);
      }
      const settings = { most: Math.min(N_ANSWERED, context_length >> 1), temperature: 0.8, topP: 0.95 };
      await generate(page, asked.ids, settings, id => {
        made.push(id);
        const answer = asked.cut(page.tokenizer.decode(made));
        said.textContent = answer.said;
        log.scrollTop = log.scrollHeight;
        return !answer.isOver;
      });
      turns.push({ who: "model", text: said.textContent });
    } catch (error) {
      said.textContent = error.message;
      turns.pop();
    }
    form.inert = false;
    line.focus();
  };
}
