"use strict";
// Draws the batches that the page holds. All text is put in as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; those that are strings become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function svg(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** "0-4,7" as [[0, 4], [7, 7]]. */
function runs(text) {
  if (!text) return [];
  return text.split(",").map((run) => run.split("-").map(Number)).map(([first, last = first]) => [first, last]);
}

const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** Radio buttons in a row: one of several values. */
function chooser(name, label, values, chosen, onChange) {
  const group = make("fieldset", { class: "step" }, make("legend", {}, label));
  values.forEach((value, at) => {
    const input = make("input", { type: "radio", name, value: at });
    input.checked = at === chosen;
    input.addEventListener("change", () => onChange(at));
    group.append(make("label", {}, input, make("span", {}, String(value))));
  });
  return group;
}

/** Who reads whom: a row for each output, a column for each input; rows that are not in the loss are pale. */
class Matrix {
  constructor(label) {
    this.element = svg("svg", { class: "matrix", role: "img" });
    this.label = label;
  }

  draw(card, batch, output, chosen = null) {
    const widths = batch.sequences.map((one) => one.ids.length);
    const across = widths.reduce((sum, width) => sum + width), down = output.labels.length;
    const paths = { "cells pale": "", cells: "" };
    batch.sequences.forEach((sequence, s) => {
      const left = widths.slice(0, s).reduce((sum, width) => sum + width, 0);
      (output.reads[sequence.key] ?? []).forEach((row, t) => {
        const kind = output.why[t] === null ? "cells pale" : "cells";
        for (const [first, last] of runs(card.reads[row])) {
          paths[kind] += `M${left + first} ${t}h${last - first + 1}v1h${first - last - 1}z`;
        }
      });
    });
    this.element.setAttribute("viewBox", `-0.2 -0.2 ${across + 0.4} ${down + 0.4}`);
    this.element.setAttribute("aria-label", this.label(output));
    this.element.replaceChildren(svg("rect", { class: "frame", width: across, height: down }));
    for (const [kind, path] of Object.entries(paths)) this.element.append(svg("path", { class: kind, d: path }));
    if (widths.length > 1) {
      this.element.append(svg("path", { class: "between", d: `M${widths[0]} 0v${down}` }));
    }
    if (chosen !== null) this.element.append(svg("rect", { class: "row", y: chosen, width: across, height: 1 }));
  }
}
