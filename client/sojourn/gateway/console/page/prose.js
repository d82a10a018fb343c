// Text of agents: a little of Markdown (code, headings, bold) as elements around text nodes. Links, images and HTML stay
// text on purpose: what an agent writes may come from a page it has read.

import { add, el } from "./dom.js";

const FENCE = /^ {0,3}(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*$/;

/** Elements for a text. */
export function prose(text) {
  const blocks = [];
  let lines = [];
  let fence = null;
  const flush = () => {
    const said = lines.join("\n").replace(/^\n+|\s+$/g, "");
    if (fence) blocks.push(code(lines.join("\n"), fence[2]));
    else if (said) blocks.push(...said.split(/\n{2,}/).map(paragraph));
    lines = [];
  };
  for (const line of text.split("\n")) {
    const edge = FENCE.exec(line);
    if (edge && (!fence || (edge[1].startsWith(fence[1]) && !edge[2]))) {
      flush();
      fence = fence ? null : edge;
    } else lines.push(line);
  }
  flush();
  return blocks;
}

function code(text, language) {
  return el("pre", { class: "code", tabindex: "0", "data-language": language || null }, el("code", {}, text));
}

function paragraph(text) {
  const heading = /^#{1,6}\s+([^\n]+)$/.exec(text);
  if (heading) return add(el("p", { class: "heading" }), inline(heading[1]));
  return add(el("p"), inline(text));
}

/** `code` and **bold**; all else is text. */
function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (/^`[^`\n]+`$/.test(part)) return el("code", {}, part.slice(1, -1));
    if (/^\*\*[^*\n]+\*\*$/.test(part)) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}
