// The form for a new session.

import { dialog } from "./dialog.js";
import { el, show } from "./dom.js";
import { errorText, modelOf } from "./words.js";

/** Ask for an agent, a title and a first message; `created(session)` takes it from there. */
export function createSession({ api, created }) {
  const agent = el("select", { id: "agent", required: true, disabled: true }, el("option", { value: "" }, "Loading…"));
  const environment = el("select", { id: "environment", required: true });
  const place = el("p", { class: "field", hidden: true }, el("label", { for: "environment" }, "Environment"), environment);
  const title = el("input", { id: "title", type: "text", maxlength: "256", autocomplete: "off" });
  const first = el("textarea", { id: "first", rows: "3" });
  const note = el("p", { class: "hint", role: "status" });
  const body = [
    el("p", { class: "field" }, el("label", { for: "agent" }, "Agent"), agent),
    note,
    place,
    el("p", { class: "field" }, el("label", { for: "title" }, "Title (optional)"), title),
    el("p", { class: "field" }, el("label", { for: "first" }, "First message (optional)"), first),
  ];
  dialog({
    title: "New session",
    body,
    label: "Start",
    async submit() {
      const wanted = { agent: agent.value, environment_id: environment.value };
      if (title.value.trim()) wanted.title = title.value.trim();
      if (first.value.trim()) {
        wanted.initial_events = [{ type: "user.message", content: [{ type: "text", text: first.value.trim() }] }];
      }
      created(await api.post("v1/sessions", wanted));
    },
  });
  fill({ api, agent, environment, place, note });
}

async function fill({ api, agent, environment, place, note }) {
  try {
    const [agents, environments] = await Promise.all([
      api.get("v1/agents", { limit: 100 }),
      api.get("v1/environments", { limit: 100 }),
    ]);
    show(agent, agents.data.map((each) => el("option", { value: each.id }, `${each.name} (${modelOf({ agent: each })})`)));
    show(environment, environments.data.map((each) => el("option", { value: each.id }, each.name)));
    place.hidden = environments.data.length === 1;
    agent.disabled = agents.data.length === 0;
    if (agents.data.length === 0) note.textContent = "There is no agent yet: create one with POST /v1/agents, any SDK or the program `sojourn`.";
    else if (environments.data.length === 0) note.textContent = "There is no environment yet: create one with POST /v1/environments.";
    else if (agents.next_page) note.textContent = "These are the newest 100 agents.";
    agent.focus();
  } catch (error) {
    note.textContent = errorText(error);
  }
}
