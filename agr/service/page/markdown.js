/** The Markdown that model cards are written in, as elements: headings, paragraphs, lists, tables, `code`, **strong**. */

import { h } from "./dom.js";

/** Elements for a text. A heading goes one level down: the page has a first one already. */
export function markdown(text) {
  return text.trim().split(/\n\s*\n/).flatMap((block) => {
    const lines = block.split("\n");
    const heading = /^(#{1,5}) (.*)/.exec(lines[0]);
    if (heading) {
      const rest = lines.slice(1).join("\n");
      return [h(`h${heading[1].length + 1}`, {}, ...inline(heading[2])), ...(rest.trim() ? markdown(rest) : [])];
    }
    if (lines[0].startsWith("|")) return [table(lines)];
    if (/^[-*] /.test(lines[0])) return [list(lines)];
    return [h("p", {}, ...inline(lines.join(" ")))];
  });
}

/** The first paragraph of a card, which says how well the model did and on whom. */
export const firstParagraph = (text) => markdown(text).find((element) => element.localName === "p");

const inline = (text) =>
  text.split(/(\*\*.+?\*\*|`.+?`)/).map((part) => {
    if (part.startsWith("**")) return h("strong", {}, part.slice(2, -2));
    return part.startsWith("`") ? h("code", {}, part.slice(1, -1)) : part;
  });

function list(lines) {
  const items = lines.join("\n").split(/^[-*] /m).slice(1);
  return h("ul", {}, ...items.map((item) => h("li", {}, ...inline(item.replaceAll("\n", " ").trim()))));
}

function table([head, , ...rows]) {
  const cells = (line) => line.replace(/^\||\|\s*$/g, "").split("|").map((cell) => inline(cell.trim()));
  const row = (name) => (line) => h("tr", {}, ...cells(line).map((cell) => h(name, {}, ...cell)));
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, row("th")(head)), h("tbody", {}, ...rows.map(row("td")))));
}
