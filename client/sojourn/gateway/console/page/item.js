// The elements of a transcript's items.

import { button, el, show } from "./dom.js";
import { answerForm, decisionForm } from "./answer.js";
import { isOpen, waits } from "./conversation.js";
import { prose } from "./prose.js";
import { clock, compact, duration, isObject, moment, textOf } from "./words.js";

const PREVIEW_LINES = 12;
const PREVIEW_CHARS = 1500;
const LONGEST_CHARS = 200_000;

/** Changes when an item must be drawn again. */
export function signature(item, isOver) {
  if (item.kind === "agent") return `${item.isLive}${item.text.length}`;
  if (item.kind !== "call") return item.kind;
  return [item.confirmation?.id, item.answer?.id, item.result?.id, isOver].join();
}

/** Draw an item; `send(event)` sends an answer. */
export function draw(item, { send, isOver }) {
  const node = DRAW[item.kind](item, { send, isOver });
  node.dataset.key = item.key;
  return node;
}

/** A growing message gets its text into the element it has. */
export function update(item, node) {
  if (item.kind !== "agent" || !item.isLive) return false;
  show(node.querySelector(".text"), prose(item.text));
  return true;
}

const DRAW = {
  user: (item) =>
    el(
      "article",
      { class: "item user", "aria-label": "You" },
      el("div", { class: "text" }, item.text),
      item.isRefused ? el("p", { class: "cut" }, "Refused") : time(item),
    ),

  agent: (item) =>
    el(
      "article",
      { class: item.isLive ? "item agent live" : "item agent", "aria-label": "Agent" },
      el("div", { class: "text" }, prose(item.text)),
      item.isIncomplete && el("p", { class: "cut" }, "Cut short by an interrupt"),
      time(item),
    ),

  thinking: (item) => el("p", { class: "item thinking" }, "Thought", time(item)),

  note: (item) =>
    el(
      "div",
      { class: `item note ${item.tone}`, role: item.tone === "error" ? "alert" : null },
      el("span", { class: "text" }, item.text),
      item.next && el("span", { class: "next" }, ` ${item.next}`),
      time(item),
    ),

  end: (item) => {
    const { since, in: read, out } = item.turn;
    const took = since ? duration(new Date(item.at) - new Date(since)) : "";
    const used = read + out > 0 ? `${compact(read)} in · ${compact(out)} out` : "";
    return el("div", { class: "item end" }, el("span", {}, [took, used].filter(Boolean).join(" · ") || "turn over"));
  },

  call: drawCall,
};

function drawCall(item, { send, isOver }) {
  const waiting = !isOver && waits(item);
  const [tone, word] = callState(item, isOver);
  const body = [
    section("Input", inputText(item.event.input), { open: waiting }),
    item.confirmation?.result === "deny" && el("p", { class: "said" }, "Denied", deny(item.confirmation)),
    item.answer && section("Answer", textOf(item.answer.content), { open: true }),
    item.result && !item.answer && section(resultWord(item.result), textOf(item.result.content), { open: item.result.is_error }),
    waiting && (item.needs === "answer" ? answerForm(item, send) : decisionForm(item, send)),
  ];
  const summary = el(
    "summary",
    {},
    el("span", { class: "tool" }, item.event.mcp_server_name ? `${item.event.mcp_server_name} / ${item.event.name}` : item.event.name),
    el("span", { class: "gist" }, gist(item.event.input)),
    el("span", { class: `state ${tone}` }, word),
  );
  const label = `Tool call ${item.event.name}: ${word}`;
  const isOpenNow = waiting || tone === "error";
  return el(
    "article",
    { class: `item call ${tone}`, "aria-label": label, tabindex: "-1" },
    el("details", { open: isOpenNow }, summary, el("div", { class: "body" }, body)),
    time(item),
  );
}

function callState(item, isOver) {
  if (!isOver && waits(item)) return ["waits", item.needs === "answer" ? "Waits for your answer" : "Waits for approval"];
  if (item.confirmation?.result === "deny" || item.event.evaluated_permission === "deny") return ["denied", "Denied"];
  if (item.result?.is_error || item.answer?.is_error) return ["error", "Failed"];
  if (!isOpen(item)) return ["done", item.needs === "answer" ? "Answered" : "Done"];
  if (isOver) return ["denied", "Never finished"];
  // It starts once all calls of its step are answered.
  return ["busy", item.confirmation ? "Allowed" : "Running"];
}

function resultWord(result) {
  return result.is_error ? "Error" : "Result";
}

function deny(confirmation) {
  return confirmation.deny_message ? `: ${confirmation.deny_message}` : "";
}

function inputText(input) {
  return isObject(input) && Object.keys(input).length === 0 ? "" : JSON.stringify(input ?? null, null, 2);
}

/** One line that tells calls of the same tool apart. */
function gist(input) {
  if (!isObject(input)) return "";
  const telling = Object.values(input).filter((value) => typeof value !== "boolean" && value !== null);
  const values = telling.map((value) => (typeof value === "string" ? value : JSON.stringify(value)));
  return values.join(" · ").replace(/\s+/g, " ").slice(0, 160);
}

function section(name, text, { open = false } = {}) {
  if (!text) return el("p", { class: "said" }, `${name}: none`);
  return el("section", { class: open ? "part open" : "part" }, el("h4", {}, name, copyButton(text)), clipped(text));
}

/** A long text shows its beginning, the rest on demand, and never more than a page can bear. */
function clipped(text) {
  const short = text.split("\n", PREVIEW_LINES + 1).slice(0, PREVIEW_LINES).join("\n").slice(0, PREVIEW_CHARS);
  const pre = el("pre", { class: "code", tabindex: "0" }, short.length < text.length ? `${short} …` : text);
  if (short.length >= text.length) return pre;
  const lines = text.split("\n").length;
  const all = text.length > LONGEST_CHARS ? `first ${LONGEST_CHARS.toLocaleString("en")} characters` : "all";
  const size = `${lines.toLocaleString("en")} lines, ${text.length.toLocaleString("en")} characters`;
  const more = button(`Show ${all} (${size})`, () => {
    pre.textContent = text.slice(0, LONGEST_CHARS);
    pre.classList.add("tall");
    more.remove();
    pre.focus();
  }, { class: "quiet" });
  return [pre, more];
}

function copyButton(text) {
  if (!navigator.clipboard) return null;
  const node = button("Copy", async () => {
    await navigator.clipboard.writeText(text).catch(() => {});
    node.textContent = "Copied";
    setTimeout(() => (node.textContent = "Copy"), 1500);
  }, { class: "quiet copy" });
  return node;
}

function time(item) {
  return item.at ? el("time", { datetime: item.at, title: moment(item.at) }, clock(item.at)) : null;
}
