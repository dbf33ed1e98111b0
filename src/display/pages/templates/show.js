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
    const end = make("details", { class: "end" }, make("summary", {}, make("h2", {}, "Legend")), list);
    end.open = !document.body.matches(".embedded");
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
