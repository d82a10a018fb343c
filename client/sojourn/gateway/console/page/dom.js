// Making elements. Data becomes text nodes and attributes, never markup: nothing here or elsewhere parses HTML.

/** An element. `props`: `class`, `on` (listeners), `data` (dataset); a boolean sets or omits an attribute. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name === "on") for (const [kind, listener] of Object.entries(value)) node.addEventListener(kind, listener);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

/** Append what is given: nodes, texts, arrays of them; nothing for null, undefined and false. */
export function add(node, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** Show exactly these children, touching nothing if they are shown already. */
export function show(node, ...children) {
  const wanted = children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
  node.replaceChildren(...wanted);
}

/** A button that does something and says so while it does. */
export function button(label, act, props = {}) {
  const node = el("button", { type: "button", ...props, on: { click: () => busy(node, act) } }, label);
  return node;
}

async function busy(node, act) {
  const result = act();
  if (!(result instanceof Promise)) return;
  node.disabled = true;
  try {
    await result;
  } finally {
    node.disabled = false;
  }
}

/** Tell users of a screen reader. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** True where a key press is text for a field. */
export function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
