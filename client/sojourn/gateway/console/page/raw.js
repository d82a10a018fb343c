// An event as it came, for those who want to know exactly.

import { el } from "./dom.js";
import { clock, moment } from "./words.js";

export function rawItem({ event }) {
  const pre = el("pre", { class: "code tall", tabindex: "0" });
  const summary = el(
    "summary",
    {},
    el("time", { datetime: event.processed_at, title: moment(event.processed_at) }, clock(event.processed_at) || "queued"),
    el("span", { class: "kind" }, event.type),
    el("span", { class: "gist" }, event.name ?? event.stop_reason?.type ?? event.error?.type ?? ""),
  );
  const node = el("details", { class: "raw" }, summary, pre);
  node.addEventListener("toggle", () => (pre.textContent = node.open ? JSON.stringify(event, null, 2).slice(0, 500_000) : ""));
  return node;
}
