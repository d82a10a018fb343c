// What a session's events add up to: the items of a transcript, and what the session is doing. Knows no page.

import { sentence, textOf } from "./words.js";

const CALLS = new Set(["agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use"]);

export class Conversation {
  constructor() {
    this.forget();
  }

  /** Start again with nothing. */
  forget() {
    this.events = [];
    this._ids = new Set();
    this._fold();
  }

  has(id) {
    return this._ids.has(id);
  }

  /** Events of an earlier page, oldest first. */
  prepend(events) {
    this.events = [...this._new(events), ...this.events];
    this._fold();
  }

  /** One event of the stream, a preview too. */
  append(event) {
    if (event.type === "event_start") return this._startPreview(event.event);
    if (event.type === "event_delta") return this._growPreview(event);
    if (this._ids.has(event.id)) {
      // What waits in the queue comes a second time, stamped, when it is taken up. That is where it belongs.
      if (!event.processed_at || !this._unstamped.delete(event.id)) return undefined;
      this.queued.delete(event.id);
      this.events = this.events.filter((each) => each.id !== event.id);
    }
    this._ids.add(event.id);
    this.events.push(event);
    this._apply(event);
    return undefined;
  }

  /** Calls that wait for the user, in order. */
  get waiting() {
    return this.isOver ? [] : this.items.filter((item) => item.kind === "call" && waits(item));
  }

  /** What goes on now: `{state, text}`. */
  get activity() {
    if (this.isOver) return { state: "ended", text: "" };
    if (this.interrupting) return { state: "running", text: "Stopping" };
    const waiting = this.waiting;
    if (waiting.length > 0) return { state: "waits", text: `Waits for you: ${names(waiting)}` };
    if (this.paused) return { state: "paused", text: "Paused: goes on when resumed" };
    if (this.status === "rescheduling") return { state: "rescheduling", text: "The model failed; trying again" };
    if (this.status !== "running") return { state: this.status ?? "", text: "" };
    return { state: "running", text: this._work() };
  }

  _work() {
    const live = [...this._previews.values()].at(-1);
    if (live?.kind === "agent") return "Writing";
    const open = this.items.filter((item) => item.kind === "call" && isOpen(item) && !waits(item));
    if (open.length > 0) return `Running ${names(open)}`;
    return this._requests.size > 0 || live ? "Thinking" : "Working";
  }

  _new(events) {
    const fresh = events.filter((event) => !this._ids.has(event.id));
    fresh.forEach((event) => this._ids.add(event.id));
    return fresh;
  }

  _fold() {
    this.items = [];
    this.queued = new Map();
    this.status = null;
    this.stopReason = null;
    this.usage = null;
    this.updates = {};
    this.paused = false;
    this.isOver = false;
    this.interrupting = false;
    this._unstamped = new Set();
    this._calls = new Map();
    this._orphans = new Map();
    this._previews = new Map();
    this._requests = new Map();
    this._turn = null;
    this.events.forEach((event) => this._apply(event));
  }

  _apply(event) {
    if (!event.processed_at) this._unstamped.add(event.id);
    if (CALLS.has(event.type)) return this._call(event);
    const apply = APPLY[event.type];
    if (apply) apply.call(this, event);
    else if (!QUIET.test(event.type)) this._note(event, "quiet", event.type);
    return undefined;
  }

  _add(item) {
    this.items.push(item);
    return item;
  }

  _note(event, tone, text, more = {}) {
    return this._add({ kind: "note", key: event.id, at: event.processed_at, tone, text, event, ...more });
  }

  _call(event) {
    const item = this._add({ kind: "call", key: event.id, at: event.processed_at, event });
    item.needs = event.type === "agent.custom_tool_use" ? "answer" : event.evaluated_permission === "ask" ? "decision" : "";
    this._calls.set(event.id, item);
    Object.assign(item, this._orphans.get(event.id));
  }

  /** Something belongs to a call; if the call is on an earlier page it is kept until that page comes. */
  _settle(id, part) {
    const item = this._calls.get(id);
    if (item) Object.assign(item, part);
    else this._orphans.set(id, { ...this._orphans.get(id), ...part });
  }

  /** A message that gets no turn. */
  _refused(id) {
    const event = this.queued.get(id);
    if (!event) return;
    this.queued.delete(id);
    this._add({ kind: "user", key: id, at: null, text: textOf(event.content), isRefused: true });
  }

  _startPreview({ type, id }) {
    if (this._ids.has(id) || this._previews.has(id)) return;
    const kind = type === "agent.message" ? "agent" : "thinking";
    const item = { kind, key: id, at: null, texts: [], text: "", isLive: true };
    this._previews.set(id, item);
    if (kind === "agent") this.items.push(item);
  }

  _growPreview({ event_id: id, delta }) {
    const item = this._previews.get(id);
    if (!item) return;
    const index = delta.index ?? 0;
    item.texts[index] = (item.texts[index] ?? "") + (delta.content?.text ?? "");
    item.text = item.texts.join("\n");
  }

  /** Previews whose event never came: the attempt was lost or cut. */
  dropPreviews() {
    if (this._previews.size === 0) return;
    this.items = this.items.filter((item) => !item.isLive);
    this._previews.clear();
  }

  _endOfWork() {
    this.dropPreviews();
    this._requests.clear();
    this.interrupting = false;
  }
}

/** Span and thread events say nothing that a transcript lacks. */
const QUIET = /^(span\.|session\.thread_|event_|agent\.thread_message|session\.deleted)/;

const STOPS = {
  retries_exhausted: "The turn failed after several attempts. Send a message to try again.",
  budget_reached: "The budget is spent. Raise it to go on.",
  refusal: "The model refused.",
};

const APPLY = {
  "user.message"(event) {
    if (!event.processed_at) {
      this.queued.set(event.id, event);
      return;
    }
    this.queued.delete(event.id);
    this._add({ kind: "user", key: event.id, at: event.processed_at, text: textOf(event.content) });
  },
  "system.message"(event) {
    if (event.processed_at) this._note(event, "quiet", `Instructions: ${textOf(event.content)}`);
  },
  "user.define_outcome"(event) {
    this._note(event, "quiet", `Outcome wanted: ${event.description}`);
  },
  "user.interrupt"(event) {
    if (!event.processed_at) this.interrupting = this.status === "running" || this.status === "rescheduling";
    else this._note(event, "stop", "Interrupted");
  },
  "user.tool_confirmation"(event) {
    this._settle(event.tool_use_id, { confirmation: event });
  },
  "user.custom_tool_result"(event) {
    this._settle(event.custom_tool_use_id, { answer: event });
  },
  "user.tool_result"(event) {
    this._settle(event.tool_use_id, { answer: event });
  },
  "agent.message"(event) {
    const item = { kind: "agent", key: event.id, at: event.processed_at, text: textOf(event.content), isLive: false };
    item.isIncomplete = event.incomplete === true;
    const live = this._previews.get(event.id);
    this._previews.delete(event.id);
    if (live) this.items[this.items.indexOf(live)] = item;
    else this._add(item);
  },
  "agent.thinking"(event) {
    this._previews.delete(event.id);
    this._add({ kind: "thinking", key: event.id, at: event.processed_at });
  },
  "agent.tool_result"(event) {
    this._settle(event.tool_use_id, { result: event });
  },
  "agent.mcp_tool_result"(event) {
    this._settle(event.mcp_tool_use_id, { result: event });
  },
  "agent.thread_context_compacted"(event) {
    this._note(event, "quiet", "Earlier messages were summarized for the model");
  },
  "span.model_request_start"(event) {
    this._requests.set(event.id, event);
  },
  "span.model_request_end"(event) {
    this._requests.delete(event.model_request_start_id);
    if (event.is_error) this.dropPreviews();
    const usage = event.model_usage ?? {};
    const turn = (this._turn ??= { since: null, in: 0, out: 0 });
    turn.in += (usage.input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0);
    turn.out += usage.output_tokens ?? 0;
  },
  "session.status_running"(event) {
    this.status = "running";
    this.stopReason = null;
    this._turn ??= { since: event.processed_at, in: 0, out: 0 };
  },
  "session.status_rescheduled"() {
    this.status = "rescheduling";
    this.dropPreviews();
  },
  "session.status_idle"(event) {
    this._endOfWork();
    this.status = "idle";
    this.stopReason = event.stop_reason;
    const reason = event.stop_reason?.type;
    if (STOPS[reason]) this._note(event, "warn", STOPS[reason]);
    if (reason === "requires_action") return;
    if (this._turn) this._add({ kind: "end", key: `${event.id}.end`, at: event.processed_at, turn: this._turn });
    this._turn = null;
  },
  "session.status_paused"(event) {
    this.paused = true;
    this._note(event, "quiet", "Paused");
  },
  "session.status_resumed"(event) {
    this.paused = false;
    if (event.status === "running" || event.status === "idle") this.status = event.status;
    this._note(event, "quiet", "Resumed");
  },
  "session.status_terminated"(event) {
    this._endOfWork();
    this.isOver = true;
    this.status = event.sojourn_status ?? "ended";
    this._note(event, "stop", ENDS[this.status] ?? "The session ended");
  },
  "session.updated"(event) {
    for (const name of ["title", "metadata", "agent", "budget"]) if (name in event) this.updates[name] = event[name];
    this._note(event, "quiet", "title" in event ? `Title: ${event.title ?? "none"}` : "Settings changed");
  },
  "session.usage"(event) {
    this.usage = event.usage;
  },
  "session.error"(event) {
    const error = event.error ?? {};
    for (const id of error.event_ids ?? []) this._refused(id);
    const next = NEXT[error.retry_status?.type] ?? "";
    this._note(event, error.retry_status?.type === "retrying" ? "warn" : "error", sentence(error.message ?? error.type ?? "Something failed"), { next });
  },
};

const ENDS = { archived: "Archived", completed: "Completed", failed: "Failed" };

const NEXT = {
  retrying: "It is tried again by itself.",
  exhausted: "The turn is over; send a message to go on.",
  terminal: "The session is over.",
};

/** A call without its result. */
export function isOpen(item) {
  return !item.result && !(item.answer && item.needs === "answer");
}

/** A call that waits for the user. */
export function waits(item) {
  return isOpen(item) && (item.needs === "answer" || (item.needs === "decision" && !item.confirmation));
}

function names(items) {
  const all = [...new Set(items.map((item) => item.event.name))];
  return all.length > 3 ? `${all.slice(0, 3).join(", ")} and ${all.length - 3} more` : all.join(", ");
}
