"use strict";
// Short names for what every script of the page does with the document.

const el = id => document.getElementById(id);

/** Make an element with properties and children. */
function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** Replace white space by visible characters. */
const visible = text => text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥");

const percent = share => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

/** Call a function once its calls have stopped for a moment. */
function debounced(call, delay = 120) {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(call, delay); };
}

/** Let the browser draw. */
const pause = () => new Promise(resolve => setTimeout(resolve));
