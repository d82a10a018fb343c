// The door: an API key, checked before it is kept.

import { Api } from "./api.js";
import { el } from "./dom.js";
import { saveKey } from "./keyring.js";
import { errorText } from "./words.js";

/** The sign-in page; `enter(api, config)` goes on. */
export function signIn({ message = "", enter }) {
  const key = el("input", {
    id: "key", type: "password", required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    "aria-describedby": "key-help",
  });
  const remember = el("input", { id: "remember", type: "checkbox" });
  const failure = el("p", { class: "failure", role: "alert" }, message);
  const go = el("button", { type: "submit", class: "primary" }, "Sign in");
  const form = el(
    "form",
    { class: "card" },
    el("h1", {}, el("img", { src: "console/icon.svg", alt: "", width: "28", height: "28" }), "sojourn"),
    el("label", { for: "key" }, "API key"),
    key,
    el("p", { class: "hint", id: "key-help" }, el("code", {}, "sojourn up"), " prints a development key; ", el("code", {}, "sojourn keys create"), " makes others."),
    el("label", { class: "check", for: "remember" }, remember, "Remember on this device"),
    failure,
    go,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    failure.textContent = "";
    try {
      const api = new Api(key.value.trim());
      const config = await api.get("console/config");
      saveKey(api.key, remember.checked);
      await enter(api, config);
    } catch (error) {
      failure.textContent = error.status === 401 ? `This key is not valid. ${errorText(error)}` : errorText(error);
      key.select();
      key.focus();
    } finally {
      go.disabled = false;
    }
  });
  queueMicrotask(() => key.focus());
  return el("main", { class: "door" }, form);
}
