// Server-sent events over fetch: EventSource cannot send the key as a header.

import { ApiError, pause } from "./api.js";

const SILENCE_MS = 35_000; // The gateway pings every 10 s: after three lost ones the connection counts as dead.
const STEADY_MS = 5_000;
const LONGEST_WAIT_MS = 10_000;

/** The messages of a stream as `{id, event, data}`; `onBytes` is told that the other side lives. */
export async function* messages(body, onBytes = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = fresh();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line !== "") take(message, line);
        else {
          if (message.data.length > 0) yield { ...message, data: message.data.join("\n") };
          message = fresh();
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function fresh() {
  return { id: null, event: "message", data: [] };
}

function take(message, line) {
  const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
  if (field === "data") message.data.push(value);
  else if (field === "event") message.event = value;
  else if (field === "id") message.id = value;
}

/**
 * Follow a stream until the signal is aborted or the gateway says that there is no more.
 *
 * After a lost connection it goes on behind the last id. Without one, `onOpen(true)` must read again what there is:
 * the stream is open by then, so nothing can fall between the two.
 */
export async function follow({ api, path, query, signal, onOpen, onEvent, onState, isOver }) {
  let lastId = null;
  let failures = 0;
  while (!signal.aborted && !isOver()) {
    const opened = Date.now();
    const watch = watchdog(signal);
    try {
      const response = await api.stream(path, { query, lastId, signal: watch.signal });
      await onOpen(lastId === null);
      onState("live");
      for await (const message of messages(response.body, watch.beat)) {
        if (message.event === "message") onEvent(JSON.parse(message.data));
        if (message.event === "error") throw streamError(message.data);
        if (message.id) lastId = message.id;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.isFinal) throw error;
    } finally {
      watch.stop();
    }
    if (signal.aborted || isOver()) return;
    failures = Date.now() - opened > STEADY_MS ? 1 : failures + 1;
    const wait = Math.min(LONGEST_WAIT_MS, 250 * 2 ** failures) * (0.7 + 0.3 * Math.random());
    onState("reconnecting", wait);
    await pauseUntilOnline(wait, signal);
  }
}

function streamError(data) {
  try {
    return new ApiError(503, JSON.parse(data).error.message);
  } catch {
    return new ApiError(503, "The stream broke off");
  }
}

/** A signal that is aborted with the outer one, and when nothing has been heard for too long. */
function watchdog(outer) {
  const inner = new AbortController();
  const abort = () => inner.abort();
  let timer = setTimeout(abort, SILENCE_MS);
  outer.addEventListener("abort", abort, { once: true });
  return {
    signal: inner.signal,
    beat() {
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
    },
    stop() {
      clearTimeout(timer);
      outer.removeEventListener("abort", abort);
      inner.abort();
    },
  };
}

async function pauseUntilOnline(ms, signal) {
  const wake = new AbortController();
  const abort = () => wake.abort();
  addEventListener("online", abort, { once: true });
  signal.addEventListener("abort", abort, { once: true });
  await pause(ms, wake.signal);
  removeEventListener("online", abort);
}
