// Dialogs: a question before something that cannot be undone, a form, the list of shortcuts.

import { button, el } from "./dom.js";
import { errorText } from "./words.js";

let last = 0;

/** Show a dialog; Esc and Cancel close it. `submit(form)` may be async; what it throws is shown in the dialog. */
export function dialog({ title, body, label, danger = false, submit }) {
  const id = `dialog-${(last += 1)}`;
  const failure = el("p", { class: "failure", role: "alert", hidden: true });
  const go = submit && el("button", { type: "submit", class: danger ? "danger" : "primary" }, label);
  const close = button(submit ? "Cancel" : "Close", () => node.close());
  const form = el("form", { method: "dialog" }, el("h2", { id }, title), body, failure, el("div", { class: "buttons" }, close, go));
  const node = el("dialog", { "aria-labelledby": id }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!submit || go.disabled) return;
    go.disabled = true;
    failure.hidden = true;
    try {
      await submit(form);
      node.close();
    } catch (error) {
      failure.textContent = errorText(error);
      failure.hidden = false;
    } finally {
      go.disabled = false;
    }
  });
  node.addEventListener("close", () => node.remove());
  document.body.append(node);
  node.showModal();
  return node;
}

/** Ask before doing. */
export function confirm({ title, text, label, act }) {
  return dialog({ title, body: el("p", {}, text), label, danger: true, submit: act });
}

const SHORTCUTS = [
  ["/", "Search sessions"],
  ["j  k", "Next, previous session in the list"],
  ["n", "New session"],
  ["m", "Write a message"],
  ["a", "Go to the next call that waits for you"],
  ["g", "Go to the end of the transcript"],
  ["Shift+X", "Interrupt"],
  ["Esc", "Leave a field; back to the list"],
  ["?", "This list"],
];

export function shortcuts() {
  const rows = SHORTCUTS.map(([keys, what]) => [
    el("dt", {}, keys.split("  ").map((key) => el("kbd", {}, key))),
    el("dd", {}, what),
  ]);
  return dialog({ title: "Keyboard", body: el("dl", { class: "shortcuts" }, rows) });
}
