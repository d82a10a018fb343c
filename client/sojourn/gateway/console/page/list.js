// The list of sessions: filters, search, kept fresh.

import { pause } from "./api.js";
import { el, show } from "./dom.js";
import { ago, errorText, modelOf, moment, stateOf, stateWord, titleOf } from "./words.js";

const FRESH_MS = 4_000;
const PAGE = 50;
const SEARCH_PAGES = 10;

const FILTERS = [
  { name: "all", label: "All", query: {}, keeps: () => true },
  { name: "waits", label: "Waits for you", query: { "statuses[]": ["idle", "running"] }, keeps: (state) => state === "waits" },
  { name: "running", label: "Running", query: { "statuses[]": ["running", "rescheduling"] }, keeps: () => true },
  { name: "idle", label: "Idle", query: { "statuses[]": ["idle"] }, keeps: (state) => state !== "waits" },
  { name: "over", label: "Ended", query: { "statuses[]": ["terminated"], include_archived: "true" }, keeps: () => true },
];

export class SessionList {
  /** `create()` asks for a new session. */
  constructor({ api, signal, create, mayWrite }) {
    this._api = api;
    this._signal = signal;
    this._filter = FILTERS[0];
    this._current = null;
    this._reset();
    this._search = el("input", { type: "search", id: "search", placeholder: "Search titles", autocomplete: "off", "aria-keyshortcuts": "/" });
    this._search.addEventListener("input", () => this._searched());
    this._chips = FILTERS.map((filter) => this._chip(filter));
    this._rows = el("ul", { class: "sessions", "aria-label": "Sessions" });
    this._foot = el("div", { class: "foot" });
    this._failure = el("p", { class: "failure", role: "alert", hidden: true });
    const fresh = el("button", { type: "button", class: "primary", "aria-keyshortcuts": "n", on: { click: create } }, "New session");
    this.node = el(
      "nav",
      { class: "list", "aria-label": "Sessions" },
      el("div", { class: "tools" }, el("label", { class: "unseen", for: "search" }, "Search titles"), this._search, mayWrite && fresh),
      el("div", { class: "chips", role: "group", "aria-label": "Show" }, this._chips),
      this._failure,
      el("div", { class: "scroll" }, this._rows, this._foot),
    );
    this._follow();
  }

  /** Mark the session that is shown. */
  set current(id) {
    this._current = id;
    this._draw();
  }

  /** Take over what is known of a session from elsewhere. */
  learn(session) {
    if (this._sessions.has(session.id)) this._sessions.set(session.id, session);
    this._draw();
  }

  drop(id) {
    this._sessions.delete(id);
    this._draw();
  }

  /** Look at once, as after a change. */
  refresh() {
    this._wake?.abort();
  }

  focusSearch() {
    this._search.focus();
    this._search.select();
  }

  /** Move the focus down (1) or up (-1). */
  step(direction) {
    const links = [...this._rows.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const start = at < 0 ? links.findIndex((link) => link.hasAttribute("aria-current")) : at;
    links[Math.min(Math.max(start + direction, 0), links.length - 1)]?.focus();
  }

  _reset() {
    this._sessions = new Map();
    this._next = undefined; // undefined: nothing is known yet; null: this is all
    this._pages = 0;
  }

  _chip(filter) {
    const choose = () => {
      this._filter = filter;
      this._chips.forEach((chip, index) => chip.setAttribute("aria-pressed", FILTERS[index] === filter));
      this._reset();
      this._draw();
      this.refresh();
    };
    return el("button", { type: "button", class: "chip", "aria-pressed": String(filter === this._filter), data: { filter: filter.name }, on: { click: choose } }, filter.label);
  }

  async _follow() {
    while (!this._signal.aborted) {
      this._wake = new AbortController();
      const wake = this._wake;
      let wait = FRESH_MS;
      if (!document.hidden) {
        try {
          await this._load();
          this._fail(null);
        } catch (error) {
          if (this._signal.aborted) return;
          this._fail(error);
          wait = error.retryMs ?? FRESH_MS;
        }
      }
      if (wake.signal.aborted) continue;
      const stop = () => wake.abort();
      document.addEventListener("visibilitychange", stop, { once: true });
      this._signal.addEventListener("abort", stop, { once: true });
      await pause(wait, wake.signal);
      document.removeEventListener("visibilitychange", stop);
      this._signal.removeEventListener("abort", stop);
    }
  }

  /** The first page again; what it no longer has is gone. */
  async _load() {
    const filter = this._filter;
    const page = await this._page(filter, null);
    if (filter !== this._filter) return;
    const found = new Set(page.data.map((session) => session.id));
    const oldest = page.next_page ? made(page.data.at(-1)) : 0;
    for (const [id, session] of this._sessions) if (made(session) >= oldest && !found.has(id)) this._sessions.delete(id);
    this._learnAll(page.data);
    if (this._next === undefined || this._pages <= 1) {
      this._next = page.next_page;
      this._pages = 1;
    }
    this._draw();
    if (this._shown().length === 0 || this._search.value) await this._loadMore(SEARCH_PAGES);
  }

  async _loadMore(pages) {
    while (this._next && this._pages < pages) {
      const filter = this._filter;
      const page = await this._page(filter, this._next);
      if (filter !== this._filter) return;
      this._pages += 1;
      this._next = page.next_page;
      this._learnAll(page.data);
      this._draw();
    }
  }

  _page(filter, page) {
    return this._api.get("v1/sessions", { limit: PAGE, order: "desc", page, ...filter.query }, { signal: this._signal });
  }

  _learnAll(sessions) {
    for (const session of sessions) this._sessions.set(session.id, session);
  }

  _searched() {
    this._draw();
    if (this._search.value && this._next) this._loadMore(SEARCH_PAGES).catch((error) => this._fail(error));
  }

  _shown() {
    const wanted = this._search.value.trim().toLowerCase();
    return [...this._sessions.values()]
      .filter((session) => this._filter.keeps(stateOf(session)))
      .filter((session) => !wanted || `${titleOf(session)}\n${session.id}`.toLowerCase().includes(wanted))
      .sort((one, other) => made(other) - made(one));
  }

  _draw() {
    if (!this._rows) return;
    const shown = this._shown();
    const known = new Map([...this._rows.children].map((row) => [row.dataset.id, row]));
    const rows = shown.map((session) => this._row(session, known.get(session.id)));
    if (rows.length !== this._rows.childElementCount || rows.some((row, index) => row !== this._rows.children[index])) {
      const focused = document.activeElement;
      show(this._rows, rows);
      if (focused?.isConnected && this._rows.contains(focused)) focused.focus();
    }
    this._drawFoot(shown.length);
  }

  /** The row of a session: the one there is, if it still says the same. */
  _row(session, known) {
    const state = stateOf(session);
    const isCurrent = session.id === this._current;
    const says = [state, titleOf(session), modelOf(session), ago(session.created_at), isCurrent].join("\n");
    if (known?.says === says) return known;
    const link = el(
      "a",
      { href: `#/sessions/${encodeURIComponent(session.id)}`, "aria-current": isCurrent ? "page" : null },
      el(
        "span",
        { class: "row" },
        el("span", { class: "title" }, titleOf(session)),
        el("time", { datetime: session.created_at, title: moment(session.created_at) }, ago(session.created_at)),
      ),
      el(
        "span",
        { class: "row" },
        el("span", { class: `state ${state}` }, stateWord(state)),
        el("span", { class: "model" }, [session.title ? session.agent?.name : "", modelOf(session)].filter(Boolean).join(" · ")),
      ),
    );
    const row = known ?? el("li", { data: { id: session.id } });
    const hadFocus = row.contains(document.activeElement);
    show(row, link);
    if (hadFocus) link.focus();
    row.says = says;
    return row;
  }

  _drawFoot(number) {
    if (this._next === undefined) return show(this._foot, this._failure.hidden && el("p", { class: "empty" }, "Loading…"));
    const more =
      this._next &&
      el("button", { type: "button", class: "quiet", on: { click: () => this._more() } }, this._search.value ? "Search further back" : "Show more");
    const none = number === 0 && el("p", { class: "empty" }, this._nothing());
    return show(this._foot, none, more);
  }

  _more() {
    this._loadMore(this._search.value ? this._pages + SEARCH_PAGES : this._pages + 1).catch((error) => this._fail(error));
  }

  _nothing() {
    if (this._search.value) return "No session has this in its title.";
    if (this._filter.name === "all") return "No sessions yet. Start one here, or with any client of the API.";
    return { waits: "Nothing waits for you.", running: "Nothing is running.", idle: "No session is idle.", over: "No session has ended." }[this._filter.name];
  }

  _fail(error) {
    this._failure.hidden = !error;
    this._failure.textContent = error ? errorText(error) : "";
    if (error) this._draw();
  }
}

function made(session) {
  return Date.parse(session.created_at);
}
