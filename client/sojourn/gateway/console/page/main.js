// The console: signs in, shows the list beside the session that the address names.

import { Api } from "./api.js";
import { createSession } from "./create.js";
import { shortcuts } from "./dialog.js";
import { button, el, isTyping, show } from "./dom.js";
import { forgetKey, savedKey } from "./keyring.js";
import { SessionList } from "./list.js";
import { SessionView } from "./session.js";
import { signIn } from "./signin.js";
import { errorText } from "./words.js";

const app = document.getElementById("app");

/** Everything that lives from signing in to signing out. */
class Console {
  constructor(api, config) {
    this._api = api;
    this._config = config;
    this._stop = new AbortController();
    this._view = null;
    this._list = new SessionList({ api, signal: this._stop.signal, create: () => this._create(), mayWrite: config.scopes.includes("write") });
    this._place = el("div", { class: "place" });
    this.node = el("div", { class: "shell" }, el("div", { class: "side" }, this._bar(), this._list.node), this._place);
    addEventListener("hashchange", () => this._go(), { signal: this._stop.signal });
    document.addEventListener("keydown", (event) => this._key(event), { signal: this._stop.signal });
    this._go();
  }

  close() {
    this._stop.abort();
    this._view?.close();
  }

  _bar() {
    const out = button("Sign out", () => leave());
    return el(
      "header",
      { class: "bar" },
      el("a", { class: "brand", href: "#/" }, el("img", { src: "console/icon.svg", alt: "", width: "22", height: "22" }), "sojourn"),
      el("span", { class: "workspace", title: "Workspace" }, this._config.workspace),
      button("?", shortcuts, { class: "quiet", "aria-label": "Keyboard shortcuts", "aria-keyshortcuts": "?" }),
      out,
    );
  }

  _go() {
    const id = /^#\/sessions\/([^/]+)$/.exec(location.hash)?.[1];
    this._view?.close();
    this._view = null;
    this.node.classList.toggle("open", Boolean(id));
    if (!id) {
      document.title = "sojourn";
      this._list.current = null;
      return show(this._place, el("p", { class: "empty" }, "Choose a session, or start one."));
    }
    const session = decodeURIComponent(id);
    this._list.current = session;
    this._view = new SessionView({
      api: this._api,
      config: this._config,
      id: session,
      onChange: (known) => this._list.learn(known),
      onGone: (gone) => this._gone(gone),
    });
    return show(this._place, this._view.node);
  }

  _gone(id) {
    this._list.drop(id);
    location.hash = "#/";
  }

  _create() {
    createSession({ api: this._api, created: (session) => this._created(session) });
  }

  _created(session) {
    this._list.refresh();
    location.hash = `#/sessions/${encodeURIComponent(session.id)}`;
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (isTyping(event.target)) event.target.blur();
      else if (this._view) location.hash = "#/";
      return;
    }
    if (isTyping(event.target)) return;
    const act = this._acts()[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  _acts() {
    return {
      "/": () => this._list.focusSearch(),
      j: () => this._list.step(1),
      k: () => this._list.step(-1),
      n: () => this._create(),
      "?": shortcuts,
      m: () => this._view?.focusComposer(),
      a: () => this._view?.toWaiting(),
      g: () => this._view?.toEnd(),
      X: () => this._view?.interrupt(),
    };
  }
}

let open = null;

function enter(api, config) {
  api.onRefused = (error) => leave(`The key is not accepted any more. ${errorText(error)}`);
  open = new Console(api, config);
  show(app, open.node);
}

function leave(message = "") {
  open?.close();
  open = null;
  forgetKey();
  show(app, signIn({ message, enter }));
}

async function start() {
  const key = savedKey();
  if (!key) return leave();
  const api = new Api(key);
  try {
    return enter(api, await api.get("console/config"));
  } catch (error) {
    if (error.status === 401) return leave(`The saved key is not valid. ${errorText(error)}`);
    const again = button("Try again", start, { class: "primary" });
    return show(app, el("main", { class: "door" }, el("div", { class: "card" }, el("h1", {}, "sojourn"), el("p", { class: "failure", role: "alert" }, errorText(error)), again)));
  }
}

start();
