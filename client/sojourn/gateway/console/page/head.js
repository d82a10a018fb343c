// The top of a session: what it is, what it costs, what can be done to it.

import { button, el, show } from "./dom.js";
import { confirm } from "./dialog.js";
import { cacheWrites, isOver, modelOf, moment, money, stateOf, stateWord, titleOf, tokens } from "./words.js";

export class Head {
  constructor({ config, api, view }) {
    this._config = config;
    this._api = api;
    this._view = view;
    this._said = "";
    this._drawn = null;
    this._title = el("h1", { tabindex: "-1" });
    this._state = el("span", { class: "state" });
    this._facts = el("span", { class: "facts" });
    this._actions = el("div", { class: "actions", role: "group", "aria-label": "Session" });
    this._details = el("dl", { class: "about" });
    this._menu = this._makeMenu();
    this.node = el(
      "header",
      { class: "head" },
      el("a", { class: "back", href: "#/", "aria-label": "Back to the list" }, "‹"),
      el("div", { class: "name" }, this._title, el("div", { class: "line" }, this._state, this._facts)),
      this._actions,
    );
  }

  draw(session, talk, isOverNow) {
    const state = this._stateNow(session, talk, isOverNow);
    const usage = talk.usage ?? session.usage ?? {};
    const title = "title" in talk.updates ? { ...session, title: talk.updates.title } : session;
    const says = JSON.stringify([state, usage, talk.updates.title, this._view.isRaw]);
    if (says === this._said && session === this._drawn) return;
    this._said = says;
    this._drawn = session;
    this._title.textContent = titleOf(title);
    document.title = `${titleOf(title)} · sojourn`;
    this._state.className = `state ${state}`;
    this._state.textContent = stateWord(state);
    this._facts.textContent = facts(session, usage);
    this._drawActions(session, state);
    show(this._details, about(session, usage));
  }

  /** The log is ahead of the record that was read before. */
  _stateNow(session, talk, isOverNow) {
    if (isOverNow) return isOver(stateOf(session)) ? stateOf(session) : talk.status;
    if (talk.waiting.length > 0) return "waits";
    return talk.paused ? "paused" : (talk.status ?? stateOf(session));
  }

  _drawActions(session, state) {
    const may = (scope) => this._config.scopes.includes(scope);
    const works = ["running", "rescheduling", "waits"].includes(state);
    const over = isOver(state);
    const held = state === "paused" || session.sojourn_status === "paused";
    const had = this._actions.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    show(
      this._actions,
      works && may("write") && act("interrupt", "Interrupt", () => this._view.interrupt(), { class: "danger", "aria-keyshortcuts": "Shift+X" }),
      !over && state !== "queued" && may("write") && (held ? act("resume", "Resume", () => this._view.ask("resume"), { class: "primary" }) : act("pause", "Pause", () => this._view.ask("pause"))),
      act("raw", this._view.isRaw ? "Transcript" : "Events", () => this._view.toggleRaw()),
      this._temporal(session),
      this._menu,
    );
    show(this._link, this._temporal(session));
    this._archive.hidden = over || !may("control");
    this._delete.hidden = !may("control");
    if (had) this._actions.querySelector(`[data-act="${had}"]`)?.focus();
  }

  _temporal(session) {
    const { ui_url: ui, namespace } = this._config;
    if (!ui || !/^https?:\/\//.test(ui)) return null;
    const id = encodeURIComponent(`${this._config.workspace}/${session.id}`);
    const href = `${ui.replace(/\/+$/, "")}/namespaces/${encodeURIComponent(namespace)}/workflows/${id}`;
    return el("a", { class: "button", href, target: "_blank", rel: "noopener noreferrer", data: { act: "temporal" } }, "Temporal ↗");
  }

  _makeMenu() {
    this._link = el("span", { class: "narrow" });
    this._archive = button("Archive…", () => this._askArchive());
    this._delete = button("Delete…", () => this._askDelete(), { class: "danger" });
    const menu = el(
      "details",
      { class: "menu" },
      el("summary", { class: "button", "aria-label": "More" }, "More"),
      el("div", { class: "sheet" }, this._details, el("div", { class: "buttons" }, this._link, this._archive, this._delete)),
    );
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      event.stopPropagation();
      menu.open = false;
      menu.firstElementChild.focus();
    });
    menu.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
    });
    const outside = (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    };
    menu.addEventListener("toggle", () => {
      if (menu.open) document.addEventListener("pointerdown", outside);
      else document.removeEventListener("pointerdown", outside);
    });
    return menu;
  }

  _askArchive() {
    this._menu.open = false;
    const text = "It takes no more messages, and this cannot be undone. The log stays readable.";
    confirm({ title: "Archive this session?", text, label: "Archive", act: () => this._view.archive() });
  }

  _askDelete() {
    this._menu.open = false;
    const text = "The session, its log and everything it stored are removed. This cannot be undone.";
    confirm({ title: "Delete this session?", text, label: "Delete", act: () => this._view.delete() });
  }
}

function act(name, label, run, props = {}) {
  return button(label, run, { ...props, data: { act: name } });
}

function facts(session, usage) {
  const agent = session.title ? session.agent?.name : "";
  const used = usage.output_tokens || usage.input_tokens ? tokens(usage) : "";
  return [agent, modelOf(session), used, used && money(usage.list_cost)].filter(Boolean).join(" · ");
}

function about(session, usage) {
  const cents = session.budget?.max_list_cost;
  const rows = {
    Session: session.id,
    Agent: session.agent ? `${session.agent.name} (${session.agent.id}, version ${session.agent.version})` : "",
    Model: modelOf(session),
    Environment: session.environment_id,
    Created: moment(session.created_at),
    Archived: session.archived_at ? moment(session.archived_at) : "",
    Tokens: `${(usage.input_tokens ?? 0).toLocaleString("en")} in, ${(usage.output_tokens ?? 0).toLocaleString("en")} out, cache: ${(usage.cache_read_input_tokens ?? 0).toLocaleString("en")} read, ${cacheWrites(usage).toLocaleString("en")} written`,
    "List price": usage.list_cost ? money(usage.list_cost) : "unknown",
    Budget: cents ? money(cents) : "",
    ...Object.fromEntries(Object.entries(session.metadata ?? {}).map(([name, value]) => [`metadata ${name}`, value])),
  };
  return Object.entries(rows).filter(([, value]) => value).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
}
