// A long list in a scrolling box, of which only a window is ever in the page, and which stays at its end while it grows.

import { el, show } from "./dom.js";

const WINDOW = 200;
const STEP = 100;
const NEAR_PX = 90;

export class Feed {
  /**
   * `signature(item)` changes when an item must be drawn again, `draw(item)` makes its element, `update(item, node)` may
   * bring an element up to date by itself and then returns true.
   */
  constructor({ label, signature, draw, update = () => false, loadEarlier }) {
    this._signature = signature;
    this._draw = draw;
    this._update = update;
    this._loadEarlier = loadEarlier;
    this._nodes = new Map();
    this._items = [];
    this._end = null; // null: the window ends where the list ends, and moves on with it
    this._planned = false;
    this._rows = el("div", { class: "rows" });
    this._earlier = el("button", { type: "button", class: "quiet earlier", on: { click: () => this.earlier() } }, "Show earlier");
    this._later = el("button", { type: "button", class: "quiet earlier", on: { click: () => this._moveDown() } }, "Show later");
    this.hasEarlier = false;
    this.node = el("div", { class: "feed", role: "log", "aria-live": "off", "aria-label": label, tabindex: "0" });
    this.node.append(this._earlier, this._rows, this._later);
    this.node.addEventListener("scroll", () => this._scrolled(), { passive: true });
    this._latest = el("button", { type: "button", class: "latest", hidden: true, on: { click: () => this.toEnd() } }, "↓ Latest");
    this.latest = this._latest;
    this._sticks = true;
  }

  /** Show this list, soon. */
  set(items, { hasEarlier = this.hasEarlier } = {}) {
    // Who reads further up keeps what he reads: a full window moves on only while it is at the end.
    if (!this._sticks && this._end === null && items.length > WINDOW) this._end = this._items.length;
    this._items = items;
    this.hasEarlier = hasEarlier;
    if (this._planned) return;
    this._planned = true;
    // A hidden tab draws nothing until it is looked at.
    requestAnimationFrame(() => {
      this._planned = false;
      this._sync();
    });
  }

  /** Show what was said before the first item here, from the gateway if need be. */
  async earlier() {
    const start = this._start();
    const before = this._items.length;
    if (start < STEP && this.hasEarlier) {
      this._earlier.disabled = true;
      await this._loadEarlier().finally(() => (this._earlier.disabled = false));
    }
    const added = this._items.length - before;
    this._end = Math.min(this._items.length, Math.max(start + added - STEP, 0) + WINDOW);
    if (this._end >= this._items.length && this._items.length <= WINDOW) this._end = null;
    this._sticks = false;
    this._sync();
  }

  toEnd() {
    this._end = null;
    this._sticks = true;
    this._sync();
  }

  /** Bring an item into view and give it the focus. */
  reveal(item) {
    const index = this._items.indexOf(item);
    if (index < 0) return;
    if (index < this._start() || index >= (this._end ?? this._items.length)) this._end = Math.min(this._items.length, index + STEP);
    this._sticks = this._end === null && index === this._items.length - 1;
    this._sync();
    const node = this._nodes.get(item.key)?.node;
    node?.scrollIntoView({ block: "nearest" });
    (node?.querySelector(".answer :is(button, textarea, input):enabled") ?? node)?.focus();
  }

  _moveDown() {
    this._end += STEP;
    if (this._end >= this._items.length) this._end = null;
    this._sync();
  }

  _start() {
    return Math.max(0, (this._end ?? this._items.length) - WINDOW);
  }

  _sync() {
    const start = this._start();
    const shown = this._items.slice(start, this._end ?? this._items.length);
    const anchor = this._sticks ? null : this._anchor();
    const kept = new Map();
    for (const item of shown) kept.set(item.key, this._current(item));
    this._nodes = kept;
    this._place([...kept.values()].map((each) => each.node));
    this._earlier.hidden = start === 0 && !this.hasEarlier;
    this._later.hidden = this._end === null;
    if (this._sticks) this.node.scrollTop = this.node.scrollHeight;
    else if (anchor?.node.isConnected) this.node.scrollTop += anchor.node.getBoundingClientRect().top - anchor.top;
    this._mark();
  }

  _current(item) {
    const known = this._nodes.get(item.key);
    const signature = this._signature(item);
    if (known?.signature === signature) return known;
    if (known && this._update(item, known.node)) return Object.assign(known, { signature });
    return { node: this._draw(item), signature };
  }

  /** Put the nodes in order, moving only those that are not where they belong. */
  _place(nodes) {
    if (this._rows.childElementCount === 0) return show(this._rows, nodes);
    const wanted = new Set(nodes);
    for (const node of [...this._rows.children]) if (!wanted.has(node)) node.remove();
    let at = this._rows.firstElementChild;
    for (const node of nodes) {
      if (node === at) at = at.nextElementSibling;
      else this._rows.insertBefore(node, at);
    }
    return undefined;
  }

  _anchor() {
    const top = this.node.getBoundingClientRect().top;
    for (const node of this._rows.children) {
      const box = node.getBoundingClientRect();
      if (box.bottom > top) return { node, top: box.top };
    }
    return null;
  }

  _scrolled() {
    const rest = this.node.scrollHeight - this.node.clientHeight - this.node.scrollTop;
    this._sticks = this._end === null && rest < NEAR_PX;
    this._mark();
  }

  _mark() {
    this._latest.hidden = this._sticks;
  }
}
