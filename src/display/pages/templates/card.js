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
