/** Elements, made without markup: text from outside is never read as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** Find an element by its id. */
export const find = (id) => document.getElementById(id);

/** Make an element: h("button", { class: "quiet", onclick: stop }, "Stop"). */
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);

/** Make an element of a drawing: s("rect", { x: 0, width: 3 }). */
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

function fill(element, attributes = {}, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Tell a screen reader something that is also seen on the page. */
export function announce(text) {
  find("status").textContent = text;
}
