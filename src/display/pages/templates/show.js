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

/** One objective: its batch, a target that is chosen, and what is said of it. */
class Card {
  constructor(show, card, number) {
    this.show = show;
    this.card = card;
    this.rate = card.rate ? card.rate.first : 0;
    this.pinned = null; // [output, position]
    const id = `${show.id}-${number}`;
    this.matrix = new Matrix((output) => {
      const here = output.why.filter((why) => why !== null).length;
      return `${card.name}: who reads whom. ${here} of ${counted(output.labels.length, "output")} in the loss.`;
    });
    this.says = make("p", { class: "why" });
    this.strips = make("div");
    this.options = make("p");
    this.counts = make("p");
    this.where = make("p", { class: "only-print" });
    const title = make("h2", { id: `${id}-title` }, card.name);
    title.append(make("span", { class: "kind" }, `${card.canonical}, ${card.architecture}`));
    const facts = make("dl", { class: "says" });
    for (const [term, text] of [["hides", card.hides], ["reads", card.attends_to], ["predicts", card.predicts]]) {
      facts.append(make("dt", {}, term), make("dd", {}, text));
    }
    const foot = make("div", { class: "foot" });
    if (card.rate) {
      const { name, values, first } = card.rate;
      foot.append(chooser(`${id}-rate`, name, values, first, (at) => {
        this.rate = at;
        this.render();
        this.show.tell(`${name} ${values[at]}. ${this.counts.textContent}`);
      }));
    }
    foot.append(this.counts, this.where);
    const head = make("div", { class: "head" }, title, this.matrix.element, facts);
    this.element = make("section", { class: "card", id, style: card.style, "aria-labelledby": `${id}-title` });
    this.element.append(head, this.strips, this.says, foot, make("div", { class: "notes" }, this.options));
    this.strips.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.markLines()).observe(this.strips);
  }

  get batch() {
    return this.card.batches[this.card.at[this.show.seed][this.show.epoch][this.rate]];
  }

  render() {
    const { card, batch, show } = this, { data } = show;
    this.targets = batch.outputs.map(() => []);
    this.reads = new Map();
    this.strips.replaceChildren();
    const inText = batch.sequences[0].in_text;
    const labels = [];
    if (!inText) this.strip([{ label: "text", cells: this.cells("text", card.text) }], null, labels);
    batch.sequences.forEach((sequence, s) => {
      const rows = inText ? [{ label: "text", cells: this.cells("text", card.text) }] : [];
      rows.push(...this.rowsOf(sequence, batch));
      if (s === batch.sequences.length - 1) batch.outputs.forEach((_, o) => rows.push(...this.rowsOfOutput(o, batch)));
      this.strip(rows, inText ? show.columns : null, labels);
    });
    const longest = Math.max(...labels.map((label) => label.length));
    this.strips.querySelectorAll(".strip").forEach((strip) => strip.style.setProperty("--label", `${longest * 0.43 + 0.5}rem`));
    this.counts.textContent = batch.outputs.map((output) => {
      const here = output.why.filter((why) => why !== null).length;
      const of = batch.outputs.length > 1 ? `${output.name}: ` : "";
      const divided = output.count === here ? "" : `, and their sum is divided by ${output.count}`;
      const weight = output.weight === 1 ? "" : `, with weight ${output.weight}`;
      return `${of}${here} of ${counted(output.labels.length, "output")} in the loss${divided}${weight}`;
    }).join("; ");
    this.options.textContent = card.options[this.rate] ?? "";
    this.where.textContent = [
      ["seed", data.seeds[show.seed]], ["epoch", data.epochs[show.epoch]],
      ...(card.rate ? [[card.rate.name, card.rate.values[this.rate]]] : []),
    ].map((pair) => pair.join(" ")).join(", ");
    this.choose(...(this.pinnedTarget() ?? [null]));
    this.markLines();
  }

  /** The target that is chosen where the hand points at none: the pinned one, or the nearest one to it. */
  pinnedTarget() {
    const all = this.targets.flatMap((row, o) => row.map((button) => [o, Number(button.dataset.at)]));
    if (!all.length) return null;
    if (!this.pinned) {
      const first = all.filter(([o]) => o === 0);
      return first[Math.floor(first.length / 2)] ?? all[0];
    }
    const [o, t] = this.pinned;
    const far = ([output, at]) => Math.abs(at - t) + (output === o ? 0 : 1000);
    return all.reduce((best, one) => (far(one) < far(best) ? one : best));
  }

  cells(kind, texts) {
    return texts.map((text) => make("span", { class: `cell ${kind}` }, text));
  }

  rowsOf(sequence, batch) {
    const { data } = this.show, several = batch.sequences.length > 1;
    const label = several ? (sequence.key.startsWith("decoder") ? "decoder" : "encoder") : "reads";
    const reads = sequence.ids.map((id, t) => {
      const how = sequence.hidden_as[t] ?? "";
      const special = id === data.mask ? "special mask" : data.special.includes(id) ? "special" : "";
      const kind = how === "random" || how === "kept" ? how : special;
      return make("span", { class: `cell read ${kind}`, title: `input ${t}, id ${id}` }, data.names[id]);
    });
    this.reads.set(sequence.key, reads);
    const rows = [{ label, cells: reads }];
    if (Object.keys(sequence.hidden_as).length) {
      rows.push({ label: "hidden as", cells: sequence.ids.map((_, t) => {
        const how = sequence.hidden_as[t] ?? "";
        return make("span", { class: `cell how ${how === "mask" ? "" : how}` }, how || " ");
      }) });
    }
    for (const { label: name, cells } of sequence.more) rows.push({ label: name, cells: this.cells("number more", cells) });
    return rows;
  }

  rowsOfOutput(o, batch) {
    const output = batch.outputs[o], several = batch.outputs.length > 1;
    const label = several ? output.name : output.asks;
    const cells = output.labels.map((id, t) => {
      if (output.why[t] === null) return make("span", { class: "cell none", "aria-hidden": "true" }, "·");
      const word = this.wordOf(output, t);
      const name = `${several ? `${output.name} ` : ""}${output.asks} ${word}, position ${t}`;
      const target = make("button", { type: "button", class: "cell target", "aria-label": name, "data-at": t }, word);
      target.addEventListener("pointerenter", () => this.choose(o, t));
      target.addEventListener("pointerleave", () => this.choose(...(this.pinnedTarget() ?? [null])));
      target.addEventListener("click", () => this.pin(o, t));
      target.addEventListener("focus", () => this.pin(o, t));
      this.targets[o].push(target);
      return target;
    });
    const rows = [{ label, cells }];
    for (const { label: name, cells: texts } of output.more) rows.push({ label: name, cells: this.cells("number", texts) });
    if (output.weights) {
      const weights = output.weights.map((weight, t) => (output.why[t] === null ? " " : String(weight)));
      rows.push({ label: "weight", cells: this.cells("number", weights) });
    }
    return rows;
  }

  wordOf(output, t) {
    return output.are_ids ? this.show.data.names[output.labels[t]] : String(output.labels[t]);
  }

  /** Rows as columns that wrap: the cells of a position stand together. */
  strip(rows, widths, labels) {
    const strip = make("ol", { class: "strip" });
    rows[0].cells.forEach((_, t) => {
      const column = make("li", { class: "column" });
      if (widths) column.style.setProperty("--w", widths[t]);
      for (const { label, cells } of rows) {
        cells[t].dataset.label = label;
        if (!cells[t].matches("button, [aria-hidden]")) cells[t].prepend(make("span", { class: "sr" }, `${label}: `));
        column.append(cells[t]);
      }
      strip.append(column);
    });
    labels.push(...rows.map((row) => row.label));
    this.strips.append(strip);
  }

  /** The first column of each line bears the labels. */
  markLines() {
    for (const strip of this.strips.children) {
      let top = null;
      for (const column of strip.children) {
        column.classList.toggle("first", column.offsetTop !== top);
        top = column.offsetTop;
      }
    }
  }

  pin(o, t) {
    this.pinned = [o, t];
    this.choose(o, t);
    this.show.tell(this.says.textContent);
  }

  /** Light up what a target reads, and say why it is in the loss; with null, nothing is chosen. */
  choose(o, t) {
    const { card, batch } = this, output = batch.outputs[o ?? 0];
    for (const cells of this.reads.values()) for (const cell of cells) cell.classList.remove("lit");
    for (const row of this.targets) for (const target of row) target.classList.remove("chosen");
    this.matrix.draw(card, batch, output, o === null ? null : t);
    if (o === null) {
      this.says.replaceChildren("Nothing is in the loss of this row.");
      return;
    }
    for (const [key, cells] of this.reads) {
      for (const [first, last] of runs(card.reads[output.reads[key]?.[t]])) {
        for (const cell of cells.slice(first, last + 1)) cell.classList.add("lit");
      }
    }
    this.targets[o].find((target) => Number(target.dataset.at) === t).classList.add("chosen");
    const sentence = make("span", {}, "In the loss because ", ...this.reason(output, t), ". ");
    sentence.append(this.readingOf(output, t), " ", this.weightOf(output, t));
    this.says.replaceChildren(make("span", { class: "word" }, this.wordOf(output, t)), sentence);
  }

  /** The clause of a target, its placeholders replaced by tokens. */
  reason(output, t) {
    const { names } = this.show.data, ids = this.batch.sequences[0].ids;
    const words = { read: names[ids[t]], read_next: names[ids[t + 1]] };
    return this.card.reasons[output.why[t]].split(/\{(read|read_next)\}/).map((part, n) =>
      n % 2 ? make("code", {}, words[part]) : part);
  }

  readingOf(output, t) {
    const several = this.batch.sequences.length > 1;
    const parts = this.batch.sequences.filter(({ key }) => output.reads[key]).map(({ key, ids }) => {
      const read = runs(this.card.reads[output.reads[key][t]]);
      const number = read.reduce((sum, [first, last]) => sum + last - first + 1, 0);
      const of = several ? (key.startsWith("decoder") ? " of the decoder" : " of the encoder") : "";
      if (number === ids.length) return `all ${counted(number, "input")}${of}`;
      const first = read.length === 1 && read[0][0] === 0 ? "the first " : "";
      return `${first}${number} of ${counted(ids.length, "input")}${of}`;
    });
    if (!parts.length) return "The objective does not say what its output reads,";
    return `Its output reads ${parts.join(" and ")},`;
  }

  weightOf(output, t) {
    const weight = output.weights ? output.weights[t] : 1;
    const part = output.weight === 1 ? "" : `, and this part of the loss has weight ${output.weight}`;
    return `and its weight is ${weight} in a sum that is divided by ${output.count}${part}.`;
  }

  /** Arrow keys: along a row, and to the nearest target of the row or card above and below. */
  key(event) {
    const o = this.targets.findIndex((row) => row.includes(event.target));
    if (o < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const row = this.targets[o], at = row.indexOf(event.target);
    const along = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: row.length - 1 };
    let next = null;
    if (event.key in along) next = row[along[event.key]];
    else if (event.key === "ArrowDown") next = this.beyond(o, 1, event.target);
    else if (event.key === "ArrowUp") next = this.beyond(o, -1, event.target);
    else return;
    event.preventDefault();
    next?.focus();
  }

  beyond(o, direction, from) {
    const rows = this.show.cards.flatMap((card) => card.targets).filter((row) => row.length);
    const next = rows[rows.indexOf(this.targets[o]) + direction];
    const at = Number(from.dataset.at);
    return next?.reduce((best, one) =>
      (Math.abs(one.dataset.at - at) < Math.abs(best.dataset.at - at) ? one : best));
  }
}

/** The objectives of one text, and what is common to them: seed and epoch. */
class Show {
  constructor(root, number) {
    this.data = JSON.parse(root.querySelector("script").textContent);
    this.id = `show-${number}`;
    this.seed = this.epoch = 0;
    this.status = make("div", { class: "sr", role: "status" });
    this.cards = this.data.objectives.map((card, at) => new Card(this, card, at));
    root.append(this.family(), this.steps(), ...this.cards.map((card) => card.element), this.end(), this.status);
    this.render();
    for (const card of this.cards) {
      card.thumbnail?.draw(card.card, card.batch, card.batch.outputs[0]);
    }
    addEventListener("beforeprint", () => this.cards.forEach((card) => card.markLines()));
  }

  render() {
    this.columns = this.widths();
    this.cards.forEach((card) => card.render());
  }

  /** How many characters wide each token of the text is at most, so that it stands in one line down the page. */
  widths() {
    const { names } = this.data;
    const length = (word = "") => Math.min([...word].length, 24);
    const widths = [];
    for (const { batch, card } of this.cards) {
      if (!batch.sequences[0].in_text) continue;
      const labels = batch.outputs.filter((output) => output.are_ids).map((output) => output.labels);
      const words = [batch.sequences[0].ids, ...labels].map((ids) => ids.map((id) => names[id]));
      for (const row of [card.text, ...words]) {
        row.forEach((word, t) => { widths[t] = Math.max(widths[t] ?? 1, length(word)); });
      }
    }
    return widths;
  }

  /** Say something to those who do not see it. */
  tell(text) {
    this.status.textContent = text;
  }

  family() {
    if (this.cards.length < 3) return "";
    const nav = make("nav", { class: "family", "aria-label": "Objectives: who reads whom in each" });
    for (const card of this.cards) {
      card.thumbnail = new Matrix(() => "");
      card.thumbnail.element.setAttribute("aria-hidden", "true");
      const { name, style } = card.card;
      nav.append(make("a", { href: `#${card.element.id}`, style }, card.thumbnail.element, make("span", {}, name)));
    }
    return nav;
  }

  steps() {
    const { seeds, epochs, objectives } = this.data;
    const differ = (values) => new Set(values.map((value) => JSON.stringify(value))).size > 1;
    const bar = make("div", { class: "steps" });
    if (objectives.some(({ at }) => differ(at))) bar.append(this.stepper("seed", seeds));
    if (objectives.some(({ at }) => at.some(differ))) bar.append(this.stepper("epoch", epochs));
    const more = objectives.some(({ batches }) =>
      batches.some(({ sequences }) => sequences.some((sequence) => sequence.more.length)));
    if (more) {
      const box = make("input", { type: "checkbox" });
      box.addEventListener("change", () => this.cards.forEach(({ element }) =>
        element.classList.toggle("all-keys", box.checked)));
      bar.append(make("label", { class: "keys" }, box, "further keys of the batch"));
    }
    return bar.children.length ? bar : "";
  }

  stepper(name, values) {
    return chooser(`${this.id}-${name}`, name, values, 0, (at) => {
      this[name] = at;
      this.render();
      this.tell(`${name} ${values[at]}`);
    });
  }

  end() {
    const { legend, left_out: leftOut, refused, tokens, objectives } = this.data;
    const cell = (kind, word) => make("span", { class: `cell ${kind}` }, word);
    const hidden = objectives.flatMap(({ batches }) => batches.flatMap(({ sequences }) =>
      sequences.flatMap((sequence) => Object.values(sequence.hidden_as))));
    const list = make("dl", { class: "legend", style: objectives[0].style });
    const add = (sign, meaning) => list.append(make("dt", {}, sign), make("dd", {}, meaning));
    add(cell("read lit", "word"), "an input that the chosen target reads");
    add(cell("read", "word"), "an input that it does not read");
    add(cell("target", "word"), "a target: it must be predicted, and is in the loss");
    add(cell("target chosen", "word"), "the chosen target");
    add("·", "an output that is not in the loss");
    if (hidden.includes("random")) add(cell("read random", "word"), "another token, drawn at random, in the place of a hidden one");
    if (hidden.includes("kept")) add(cell("read kept", "word"), "a token that must be predicted, and is not hidden");
    for (const [sign, meaning] of legend) add(sign, meaning);
    const end = make("section", { class: "end" }, make("h2", {}, "Legend"), list);
    const notes = make("div", { class: "notes" });
    notes.append(make("p", {}, "The small squares show who reads whom: a row for each output, a column for each input. " +
      "Rows that are not in the loss are pale. Of an encoder-decoder the outputs are the decoder's, and the inputs " +
      "those of the encoder, then those of the decoder."));
    const rest = tokens - objectives[0].text.length; // of a text that was cut
    if (rest > 0) notes.append(make("p", {}, `Not shown: ${rest} of the ${tokens} tokens of the text.`));
    if (leftOut.length) notes.append(make("p", {}, `Not shown of the batches: ${leftOut.join(", ")}.`));
    for (const line of refused) notes.append(make("p", {}, `Not possible: ${line}.`));
    end.append(notes);
    return end;
  }
}

document.querySelectorAll(".show").forEach((root, number) => new Show(root, number));
