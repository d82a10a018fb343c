// One session, live: its log as a transcript, what it is doing, and everything one can do to it.

import { Composer } from "./composer.js";
import { Conversation, waits } from "./conversation.js";
import { announce, el, show } from "./dom.js";
import { Feed } from "./feed.js";
import { Head } from "./head.js";
import { draw, signature, update } from "./item.js";
import { rawItem } from "./raw.js";
import { follow } from "./stream.js";
import { errorText, isOver, plural, stateOf } from "./words.js";

const PAGE = 200;
const SEARCH_PAGES = 20;
const STOPPABLE = new Set(["running", "rescheduling", "waits", "paused"]);

export class SessionView {
  constructor({ api, config, id, onChange, onGone }) {
    this._api = api;
    this._path = `v1/sessions/${encodeURIComponent(id)}`;
    this._onChange = onChange;
    this._onGone = onGone;
    this._stop = new AbortController();
    this._session = null;
    this._talk = new Conversation();
    this._older = null;
    this._connection = "";
    this._said = "";
    this._isRaw = false;
    this._loading = null;
    this._planned = false;
    this._head = new Head({ config, api, view: this });
    this._composer = new Composer({ id, send: (event) => this.send(event), mayWrite: config.scopes.includes("write") });
    this._activity = el("div", { class: "activity" });
    this._queue = el("ul", { class: "queue", "aria-label": "Queued messages" });
    this._failure = el("p", { class: "failure bar", role: "alert", hidden: true });
    this._body = el("div", { class: "stage" }, el("p", { class: "empty" }, "Loading…"));
    this._feeds = { talk: this._talkFeed(), raw: this._rawFeed() };
    this.node = el("main", { class: "session" }, this._head.node, this._failure, this._body, this._activity, this._queue, this._composer.node);
    this._run();
  }

  close() {
    this._stop.abort();
    this._composer.keep();
  }

  get conversation() {
    return this._talk;
  }

  get isRaw() {
    return this._isRaw;
  }

  /** Send one event. What it does comes back by the stream; the answer only says that it is stored. */
  async send(event) {
    const reply = await this._api.post(`${this._path}/events`, { events: [event] });
    for (const stored of reply.data ?? []) if (!stored.processed_at) this._talk.append(stored);
    this._feed.toEnd();
    this._draw();
  }

  /** Pause or resume. */
  async ask(what) {
    await this._act(async () => this._learn(await this._api.post(`${this._path}/${what}`)));
  }

  async archive() {
    this._learn(await this._api.post(`${this._path}/archive`));
  }

  async delete() {
    await this._api.delete(this._path);
    this._onGone(this._session.id);
  }

  /** Stops what is going on. An idle session has nothing to stop. */
  async interrupt() {
    if (!STOPPABLE.has(this._talk.activity.state)) return;
    await this._act(() => this.send({ type: "user.interrupt" }));
  }

  /** Transcript or raw events. */
  toggleRaw() {
    this._isRaw = !this._isRaw;
    show(this._body, this._feed.node, this._feed.latest);
    this._feed.toEnd();
    this._draw();
  }

  focusComposer() {
    this._composer.focus();
  }

  toEnd() {
    this._feed.toEnd();
  }

  /** Go to the next call that waits, after the one that has the focus. */
  async toWaiting() {
    if (this._isRaw) this.toggleRaw();
    const waiting = this._talk.waiting;
    const here = waiting.findIndex((item) => item.key === document.activeElement?.closest("[data-key]")?.dataset.key);
    const next = waiting[(here + 1) % waiting.length];
    if (next) this._feeds.talk.reveal(next);
  }

  get _feed() {
    return this._isRaw ? this._feeds.raw : this._feeds.talk;
  }

  _talkFeed() {
    return new Feed({
      label: "Transcript",
      signature: (item) => signature(item, this._isOver),
      draw: (item) => draw(item, { send: (event) => this.send(event), isOver: this._isOver || !this._composer.mayWrite }),
      update,
      loadEarlier: () => this._loadEarlier(),
    });
  }

  _rawFeed() {
    return new Feed({
      label: "Events",
      signature: (item) => item.event.processed_at ?? "",
      draw: rawItem,
      loadEarlier: () => this._loadEarlier(),
    });
  }

  get _isOver() {
    return this._talk.isOver || (this._session !== null && isOver(stateOf(this._session)));
  }

  async _run() {
    const signal = this._stop.signal;
    try {
      this._learn(await this._api.get(this._path, {}, { signal }));
      if (this._isOver) await this._loadLast();
      else await this._live(signal);
    } catch (error) {
      if (!signal.aborted) this._lost(error);
    }
  }

  async _live(signal) {
    await follow({
      api: this._api,
      path: `${this._path}/events/stream`,
      query: { "event_deltas[]": ["agent.message", "agent.thinking"] },
      signal,
      isOver: () => this._talk.isOver,
      onOpen: (isNew) => this._opened(isNew),
      onEvent: (event) => this._take(event),
      onState: (state) => this._connected(state),
    });
    this._connected("");
  }

  async _opened(isNew) {
    this._talk.dropPreviews();
    if (isNew) await this._loadLast();
  }

  /** The newest page. If it does not reach back to what is known, what is known goes. */
  async _loadLast() {
    const { events, next } = await this._page(null);
    const joins = events.some((event) => this._talk.has(event.id));
    if (joins) events.forEach((event) => this._talk.append(event));
    else {
      this._talk.forget();
      this._talk.prepend(events);
      this._older = next;
    }
    show(this._body, this._feed.node, this._feed.latest);
    this._draw();
    await this._findWaiting();
  }

  async _loadEarlier() {
    this._loading ??= this._page(this._older)
      .then(({ events, next }) => {
        this._talk.prepend(events);
        this._older = next;
        this._draw();
        this._fail(null);
      })
      .catch((error) => this._fail(error))
      .finally(() => (this._loading = null));
    await this._loading;
  }

  /** A call may wait longer than a page is long. */
  async _findWaiting() {
    const missing = () => (this._talk.stopReason?.event_ids ?? []).some((id) => !this._talk.has(id));
    for (let page = 0; page < SEARCH_PAGES && this._older && missing(); page += 1) await this._loadEarlier();
  }

  async _page(page) {
    const query = { order: "desc", limit: PAGE, page };
    const reply = await this._api.get(`${this._path}/events`, query, { signal: this._stop.signal });
    return { events: reply.data.reverse(), next: reply.next_page };
  }

  _take(event) {
    if (event.type === "session.deleted") return this._onGone(this._session.id);
    const waited = this._talk.waiting.length;
    this._talk.append(event);
    this._tell(event, waited);
    if (/^session\.(status_|updated)/.test(event.type)) this._reread();
    this._draw();
    return undefined;
  }

  /** The session's own record, after something changed it. */
  _reread() {
    this._rereading ??= this._api
      .get(this._path, {}, { signal: this._stop.signal })
      .then((session) => this._learn(session))
      .catch(() => {}) // The transcript has said it already; the next change reads again.
      .finally(() => (this._rereading = null));
  }

  _learn(session) {
    this._session = session;
    this._onChange(session);
    this._draw();
  }

  _connected(state) {
    this._connection = state;
    if (state === "reconnecting") announce("Connection lost, reconnecting");
    this._draw();
  }

  /** For those who do not see the screen. */
  _tell(event, waited) {
    const item = this._talk.items.at(-1);
    if (event.type === "agent.message" && item) announce(`Agent: ${item.text.slice(0, 500)}`);
    if (this._talk.waiting.length > waited) announce(`${event.name} waits for you`);
    if (event.type === "session.error") announce(item.text);
  }

  async _act(act) {
    try {
      await act();
      this._fail(null);
    } catch (error) {
      this._fail(error);
    }
  }

  _fail(error) {
    this._failure.hidden = !error;
    this._failure.textContent = error ? errorText(error) : "";
  }

  _lost(error) {
    const text = error.status === 404 ? "There is no such session in this workspace; it may have been deleted." : errorText(error);
    if (error.status === 404) this._head.node.hidden = this._composer.node.hidden = true;
    if (this._talk.events.length === 0) show(this._body, el("p", { class: "empty", role: "alert" }, text));
    else this._fail(new Error(text));
    this._connection = "";
    this._draw();
  }

  /** Soon: many events may come before the next picture. A hidden tab has time. */
  _draw() {
    if (this._planned) return;
    this._planned = true;
    const draw = () => {
      this._planned = false;
      if (this._session && !this._stop.signal.aborted) this._drawNow();
    };
    if (document.hidden) setTimeout(draw, 300);
    else requestAnimationFrame(draw);
  }

  _drawNow() {
    const talk = this._talk;
    const hasEarlier = Boolean(this._older);
    if (this._isRaw) this._feeds.raw.set(talk.events.map((event) => ({ key: event.id, event })), { hasEarlier });
    else this._feeds.talk.set(talk.items, { hasEarlier });
    this._head.draw(this._session, talk, this._isOver);
    this._composer.draw({ isOver: this._isOver, state: this._isOver ? stateOf(this._session) : talk.activity.state });
    this._drawActivity(talk);
    this._drawQueue([...talk.queued.values()]);
  }

  /** Only what came or went is touched: a row made anew would appear anew. */
  _drawQueue(events) {
    this._queue.classList.toggle("over", this._isOver);
    const known = new Map([...this._queue.children].map((row) => [row.dataset.id, row]));
    if (known.size === events.length && events.every((event) => known.has(event.id))) return;
    show(this._queue, events.map((event) => known.get(event.id) ?? queuedItem(event)));
  }

  _drawActivity(talk) {
    const lost = this._connection === "reconnecting";
    const { state, text } = lost ? { state: "lost", text: "Connection lost; reconnecting…" } : this._isOver ? { text: "" } : talk.activity;
    const waiting = lost ? 0 : talk.waiting.filter(waits).length;
    const says = `${state}\n${text}\n${waiting}`;
    if (says === this._said) return;
    this._said = says;
    this._activity.dataset.state = state ?? "";
    const go = waiting > 0 && el("button", { type: "button", class: "quiet", "aria-keyshortcuts": "a", on: { click: () => this.toWaiting() } }, `Go to ${plural(waiting, "call")}`);
    show(this._activity, text && el("span", { class: "dot", "aria-hidden": "true" }), text && el("span", { role: "status" }, text), go);
  }
}

function queuedItem(event) {
  const text = event.content?.map((block) => block.text ?? `[${block.type}]`).join(" ") ?? "";
  return el("li", { data: { id: event.id } }, el("span", { class: "tag" }, "Queued"), el("span", { class: "text" }, text));
}
