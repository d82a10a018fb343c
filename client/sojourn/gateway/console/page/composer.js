// Where messages are written. What was begun for a session is still there on coming back to it.

import { el } from "./dom.js";
import { errorText, stateWord } from "./words.js";

const drafts = new Map();

export class Composer {
  constructor({ id, send, mayWrite }) {
    this._id = id;
    this._send = send;
    this.mayWrite = mayWrite;
    this._text = el("textarea", { id: "message", rows: "1", "aria-keyshortcuts": "m", "aria-describedby": "message-help" });
    this._text.value = drafts.get(id) ?? "";
    this._go = el("button", { type: "submit", class: "primary" }, "Send");
    this._failure = el("p", { class: "failure", role: "alert", hidden: true });
    this._closed = el("p", { class: "closed", hidden: true });
    this._form = el(
      "form",
      {},
      el("label", { class: "unseen", for: "message" }, "Message to the agent"),
      this._text,
      this._go,
    );
    this._help = el("p", { class: "hint", id: "message-help" }, el("kbd", {}, "Enter"), " sends, ", el("kbd", {}, "Shift+Enter"), " starts a line, ", el("kbd", {}, "?"), " lists shortcuts");
    this.node = el("footer", { class: "composer" }, this._failure, this._form, this._help, this._closed);
    this._form.addEventListener("submit", (event) => (event.preventDefault(), this._submit()));
    this._text.addEventListener("input", () => this._fit());
    this._text.addEventListener("keydown", (event) => this._key(event));
    queueMicrotask(() => this._fit());
  }

  focus() {
    this._text.focus();
  }

  /** Keep what was begun. */
  keep() {
    drafts.set(this._id, this._text.value);
  }

  draw({ isOver, state }) {
    const closed = isOver ? `${stateWord(state)}: this session takes no more messages.` : this.mayWrite ? "" : "This key may only read.";
    this._closed.textContent = closed;
    this._closed.hidden = !closed;
    this._form.hidden = this._help.hidden = Boolean(closed);
    this._text.placeholder = WORKS.has(state) ? "Next message (it will wait)" : "Message the agent";
  }

  _key(event) {
    const touches = matchMedia("(pointer: coarse)").matches; // Their Enter starts a line; they have the button.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || (touches && !event.ctrlKey)) return;
    event.preventDefault();
    this._form.requestSubmit();
  }

  async _submit() {
    const text = this._text.value.trim();
    if (!text || this._go.disabled) return;
    this._go.disabled = true;
    this._failure.hidden = true;
    this._text.value = "";
    this._fit();
    try {
      await this._send({ type: "user.message", content: [{ type: "text", text }] });
    } catch (error) {
      this._text.value = this._text.value ? `${text}\n${this._text.value}` : text;
      this._fit();
      this._failure.textContent = errorText(error);
      this._failure.hidden = false;
    } finally {
      this._go.disabled = false;
    }
  }

  _fit() {
    this._text.style.height = "auto";
    this._text.style.height = `${this._text.scrollHeight + 2}px`;
  }
}

const WORKS = new Set(["running", "rescheduling", "waits", "paused"]);
