// The questions of the page to its server.

let key = sessionStorage.getItem("key") ?? "";

/** Use a key of the server, for as long as the tab is open. */
export function useKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

export const hasKey = () => key !== "";

/** An error of the server in one sentence. */
export class Refused extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    [this.status, this.code] = [status, code];
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Is groundup serve still running?");
  }
  if (response.ok) return response;
  const { message, code } = await response.json().then(body => body.error).catch(() => ({}));
  throw new Refused(message ?? `The server refused this (${response.status}).`, response.status, code);
}

const post = (path, body, signal) => request(path, {
  method: "POST", body: JSON.stringify(body), signal, headers: { "Content-Type": "application/json" },
});

export const about = async () => (await post("page/model", {})).json();

/** Look inside where the model chose a token. */
export const look = async (body, signal) => (await post("page/look", body, signal)).json();

/** Yield the events of an answer. */
export async function* answer(body, signal) {
  const reader = (await post("page/answer", body, signal)).body.getReader(), decoder = new TextDecoder();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const event = JSON.parse(line);
        if ("error" in event) throw new Refused(event.error.message);
        yield event;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refused) throw error;
    throw new Refused("The connection to the server ended in the middle of the answer.");
  }
}
