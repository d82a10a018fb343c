// Forms in a tool call that waits for the user: allow or deny, and the result of a tool that the client runs.

import { button, el } from "./dom.js";
import { errorText } from "./words.js";

/** Allow, or deny with a reason for the agent. */
export function decisionForm(item, send) {
  const id = `why-${item.key}`;
  const why = el("input", { id, type: "text", maxlength: "10000", placeholder: "What should the agent know?", autocomplete: "off" });
  const form = el("form", { class: "answer" });
  const decide = async (result) => {
    const event = { type: "user.tool_confirmation", tool_use_id: item.key, result };
    if (result === "deny" && why.value.trim()) event.deny_message = why.value.trim();
    await submit(form, () => send(event));
  };
  const reason = el(
    "div",
    { class: "reason", hidden: true },
    el("label", { for: id }, "Reason (optional)"),
    why,
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "danger" }, "Deny the call"), button("Back", () => toggle(false))),
  );
  const choice = el(
    "div",
    { class: "buttons" },
    button("Allow", () => decide("allow"), { class: "primary" }),
    button("Deny…", () => toggle(true)),
  );
  function toggle(isDenying) {
    reason.hidden = !isDenying;
    choice.hidden = isDenying;
    (isDenying ? why : choice.firstElementChild).focus();
  }
  form.append(choice, reason);
  form.addEventListener("submit", (event) => (event.preventDefault(), decide("deny")));
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || reason.hidden) return;
    event.stopPropagation();
    toggle(false);
  });
  return form;
}

/** The result of a tool that runs at the client. */
export function answerForm(item, send) {
  const id = `answer-${item.key}`;
  const text = el("textarea", { id, rows: "3", spellcheck: "false", placeholder: "Text or JSON" });
  const isError = el("input", { id: `${id}-error`, type: "checkbox" });
  const hint = el("span", { class: "hint", role: "status" });
  const form = el(
    "form",
    { class: "answer" },
    el("label", { for: id }, `Result of ${item.event.name}`),
    text,
    hint,
    el(
      "div",
      { class: "buttons" },
      el("button", { type: "submit", class: "primary" }, "Send result"),
      el("label", { class: "check", for: `${id}-error` }, isError, "It failed"),
    ),
  );
  text.addEventListener("input", () => (hint.textContent = jsonHint(text.value)));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const content = text.value ? [{ type: "text", text: text.value }] : [];
    const answer = { type: "user.custom_tool_result", custom_tool_use_id: item.key, content };
    if (isError.checked) answer.is_error = true;
    submit(form, () => send(answer));
  });
  return form;
}

/** Whoever means JSON wants to know of a slip before the agent does. */
function jsonHint(text) {
  if (!/^\s*[[{]/.test(text)) return "";
  try {
    JSON.parse(text);
    return "Valid JSON";
  } catch (error) {
    return `Not valid JSON; it goes out as text (${error.message})`;
  }
}

/** Send, with the form locked; it stays so, because the log will say that the call is answered. */
async function submit(form, send) {
  const controls = [...form.querySelectorAll("button, input, textarea")];
  form.querySelector(".failure")?.remove();
  controls.forEach((each) => (each.disabled = true));
  try {
    await send();
  } catch (error) {
    controls.forEach((each) => (each.disabled = false));
    form.append(el("p", { class: "failure", role: "alert" }, errorText(error)));
  }
}
