// The API key: in this tab's storage, in the browser's only if the user ticked "remember". Never in a URL.

const NAME = "sojourn.key";

export function savedKey() {
  return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);
}

export function saveKey(key, remember) {
  forgetKey();
  (remember ? localStorage : sessionStorage).setItem(NAME, key);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
}
