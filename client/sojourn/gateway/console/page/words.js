// How things are said: states, times, amounts.

/** What a session is, in one of our words, from the contract's status and what sojourn adds to it. */
export function stateOf(session) {
  const own = session.sojourn_status ?? session.status;
  if (own === "idle" && session.sojourn_stop_reason === "requires_action") return "waits";
  if (own === "terminated") return session.archived_at ? "archived" : "ended";
  return own;
}

const STATES = {
  waits: "Waits for you",
  running: "Running",
  rescheduling: "Trying again",
  queued: "New",
  idle: "Idle",
  paused: "Paused",
  archived: "Archived",
  completed: "Completed",
  failed: "Failed",
  ended: "Ended",
};

export function stateWord(state) {
  return STATES[state] ?? state;
}

export function isOver(state) {
  return ["archived", "completed", "failed", "ended", "deleted"].includes(state);
}

export function titleOf(session) {
  return session.title || session.agent?.name || session.id;
}

export function modelOf(session) {
  const model = session.agent?.model;
  return (typeof model === "string" ? model : model?.id) ?? "";
}

export function plural(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** 950, 1.2k, 34k, 5.6M. */
export function compact(number) {
  if (number < 1000) return String(number);
  const [value, unit] = number < 1e6 ? [number / 1e3, "k"] : [number / 1e6, "M"];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)}${unit}`;
}

/** List prices come in US cents, as text. */
export function money(cost) {
  const cents = Number(cost?.amount);
  if (!cost || Number.isNaN(cents)) return "";
  return cents > 0 && cents < 1 ? "< $0.01" : `$${(cents / 100).toFixed(2)}`;
}

export function tokens(usage) {
  const read = (usage.input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0) + cacheWrites(usage);
  return `${compact(read)} in · ${compact(usage.output_tokens ?? 0)} out`;
}

export function cacheWrites(usage) {
  const made = usage.cache_creation ?? {};
  const parts = (made.ephemeral_5m_input_tokens ?? 0) + (made.ephemeral_1h_input_tokens ?? 0);
  return parts || (usage.cache_creation_input_tokens ?? 0);
}

export function clock(text) {
  const time = new Date(text ?? NaN);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleTimeString(undefined, { hour12: false });
}

export function moment(text) {
  const time = new Date(text ?? NaN);
  return Number.isNaN(time.getTime()) ? "" : time.toLocaleString(undefined, { hour12: false });
}

/** "now", "5 min", "3 h", "12 d": how long ago. */
export function ago(text, now = Date.now()) {
  const seconds = (now - new Date(text ?? NaN).getTime()) / 1000;
  if (Number.isNaN(seconds)) return "";
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

export function duration(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** An error, for people: what happened, and the id to look for in the gateway's log. */
export function errorText(error) {
  const text = sentence(String(error?.message ?? error));
  return error?.requestId ? `${text} (request ${error.requestId})` : text;
}

/** Messages of errors come as a line without capital and stop. */
export function sentence(text) {
  const said = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(said) ? said : `${said}.`;
}

export function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** The text of content blocks; what is not text is named. */
export function textOf(content) {
  if (typeof content === "string") return content;
  return (content ?? []).map(blockText).join("\n");
}

function blockText(block) {
  if (typeof block.text === "string") return block.text;
  return block.source?.type === "text" ? block.source.data : `[${block.type}]`;
}
