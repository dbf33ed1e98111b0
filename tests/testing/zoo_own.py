"""Right schemes, collators, and objectives of clozelab; right losses of others as functions."""

from __future__ import annotations

import random
from functools import partial

import torch
from torch.nn.utils.rnn import pad_sequence

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import IGNORED, exact_count_mask, random_spans_mask, shift_targets, whole_word_mask
from clozelab.testing import check_collator, check_mask_scheme, check_objective

from .catalogue_collators import SPECIAL, Masked
from .catalogue_functions import CAUSAL, MASKED, SPAN, in_place, masked_sum, next_tokens, ragged
from .catalogue_objectives import small
from .catalogue_schemes import right as at_least_one
from .schemes import bernoulli, exact_count, noise_of, random_spans
from .zoo import right

# ------------------------------------------------------------------ masking schemes


def rolled_spans(tokens, maskable, generator):
    """T5's spans, rolled by an offset of their own."""
    if not len(tokens):
        return maskable
    mask = random_spans_mask(maskable, noise_of(tokens, generator), 0.15, 3.0)
    free = maskable.nonzero()[:, 0]
    shift = int(torch.randint(max(len(free), 1), (1,), generator=generator))
    return torch.zeros_like(maskable).index_put((free,), mask[free].roll(shift))


def whole_words(tokens, maskable, generator, word_ids):
    """Whole words, where the rows bring them."""
    return whole_word_mask(maskable, noise_of(tokens, generator), 0.15, word_ids)


def everything(tokens, maskable, generator):
    """A rate of 1, as in the last step of diffusion."""
    return maskable.clone()


def a_quarter_or_three(tokens, maskable, generator):
    """Half of the time a quarter, or else three quarters."""
    rate = 0.25 if float(torch.rand(1, generator=generator)) < 0.5 else 0.75
    return exact_count_mask(maskable, noise_of(tokens, generator), rate)


def spans_of_spanbert(tokens, maskable, generator):
    """Spans of geometric lengths at random starts, until the budget is used up."""
    free = maskable.nonzero()[:, 0].tolist()
    budget, taken = (max(1, round(0.15 * len(free))) if free else 0), set()
    while len(taken) < budget:
        start = int(torch.randint(len(free), (1,), generator=generator))
        length = 1 + int(torch.empty(1).geometric_(0.4, generator=generator))
        taken |= set(free[start : start + min(length, budget - len(taken))])
    return torch.zeros_like(maskable).index_fill(0, torch.tensor(sorted(taken), dtype=torch.int64), True)


def seeded_numpy_free(tokens, maskable, generator):
    """Python's own random numbers, seeded from the generator that is given."""
    own = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
    free = maskable.nonzero()[:, 0].tolist()
    chosen = own.sample(free, max(1, round(0.15 * len(free)))) if free else []
    return torch.zeros_like(maskable).index_fill(0, torch.tensor(chosen, dtype=torch.int64), True)


def entities(tokens, maskable, generator, entity_ids):
    """One entity of the text, whole: what is hidden follows from data of the example."""
    free = maskable & (entity_ids > 0)
    if not free.any():
        return exact_count_mask(maskable, noise_of(tokens, generator), 0.15)
    names = entity_ids[free].unique()
    return free & (entity_ids == names[torch.randint(len(names), (1,), generator=generator)])


def sentences(tokens, maskable, generator):
    """One sentence of the text, where id 9 is the full stop."""
    sentence = (tokens == 9).long().cumsum(0) - (tokens == 9).long()
    names = sentence[maskable].unique()
    return maskable & (sentence == names[torch.randint(len(names), (1,), generator=generator)])


def nouns(tokens, maskable, generator):
    """A noun, of which a table says that they are the ids below 20."""
    here = maskable & (tokens < 20)
    noise = noise_of(tokens, generator).masked_fill(~here, 2)
    return here & (noise == noise.min())


TEXTS = [[13, 30, 40, 9, 15, 50, 60, 9, 17, 18, 70, 9], [12, 31, 9, 32, 16, 9], [19, 14, 33, 9, 34, 35, 11, 36, 9]]
ENTITIES = [
    {"input_ids": text, "entity_ids": [token if token < 20 and token != 9 else 0 for token in text]} for text in TEXTS
]

for scheme, rate in (
    (at_least_one, 0.15),
    (bernoulli, 0.15),
    (exact_count, 0.15),
    (random_spans, 0.15),
    (rolled_spans, 0.15),
    (whole_words, None),
    (everything, 1.0),
    (a_quarter_or_three, 0.5),
    (spans_of_spanbert, 0.15),
    (seeded_numpy_free, 0.15),
):
    right("scheme", scheme.__name__, partial(check_mask_scheme, scheme, rate=rate, count=200))
right("scheme", "entities of the example", partial(check_mask_scheme, entities, rows=ENTITIES))
right("scheme", "sentences of its own rows", partial(check_mask_scheme, sentences, rows=TEXTS))
right("scheme", "nouns of its own rows", partial(check_mask_scheme, nouns, rows=TEXTS))

# ------------------------------------------------------------------ collators


def next_token_pairs(examples):
    """nanoGPT's x and y: y is x one place on, and the last token is predicted and not read."""
    texts = [torch.as_tensor(example["input_ids"]) for example in examples]
    x = pad_sequence([text[:-1] for text in texts], batch_first=True, padding_value=0)
    y = pad_sequence([text[1:] for text in texts], batch_first=True, padding_value=IGNORED)
    return {"input_ids": x, "labels": y, "attention_mask": (y != IGNORED).long()}


def left_padded(examples):
    """Causal LM with padding on the left, as for generation."""
    width = max(len(example["input_ids"]) for example in examples)
    rows = [[0] * (width - len(one["input_ids"])) + list(one["input_ids"]) for one in examples]
    ids = torch.tensor(rows)
    return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, IGNORED), "attention_mask": (ids != 0).long()}


class LikeSeqio:
    """T5's collator by seqio's parts: spans, then `input_ids`, `decoder_input_ids` and labels, by hand."""

    special, epoch = SPECIAL, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __call__(self, examples):
        rows = [self.row(torch.as_tensor(example["input_ids"])) for example in examples]
        ids = pad_sequence([one for one, _ in rows], batch_first=True, padding_value=0)
        labels = pad_sequence([two for _, two in rows], batch_first=True, padding_value=IGNORED)
        decoder = shift_targets(labels.masked_fill(labels == IGNORED, 0), 0)
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "decoder_input_ids": decoder, "labels": labels}

    def row(self, text):
        seed = hash((self.epoch, *text.tolist())) % 2**31  # integers are not salted
        noise = torch.rand(len(text), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        hidden = random_spans_mask(torch.ones(len(text), dtype=torch.bool), noise, 0.15, 3.0)
        return (self.side(text, hidden), self.side(text, ~hidden))

    def side(self, text, hidden):
        """seqio's `noise_span_to_unique_sentinel`, and the end of text."""
        first = hidden & ~torch.cat([torch.tensor([False]), hidden[:-1]])
        numbered = torch.where(first, 200 - first.long().cumsum(0), text)
        return torch.cat([numbered[~hidden | first], torch.tensor([SPECIAL.eos])])


right("collator", "masked LM, wrapped", partial(check_collator, Masked()))
right("collator", "x and y one place on", partial(check_collator, next_token_pairs, SPECIAL, kind="next-token"))
right("collator", "padded on the left", partial(check_collator, left_padded, SPECIAL))
right("collator", "like seqio", partial(check_collator, LikeSeqio(), spans=(0.15, 3.0)))
right(
    "collator",
    "masked LM by spans",
    partial(check_collator, MaskedLM(scheme=random_spans).collator(SPECIAL)),
    slow=True,
)
right(
    "collator",
    "spans rolled",
    partial(check_collator, SpanCorruption(scheme="rolled-spans").collator(SPECIAL)),
)
right(
    "collator",
    "padded to a multiple",
    partial(check_collator, MaskedLM().collator(SPECIAL, pad_to_multiple_of=16)),
)

# ------------------------------------------------------------------ objectives and functions

for objective in (
    CausalLM(z_loss=1e-4),
    MaskedLM(mask_rate=0.3, scheme="bernoulli"),
    MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0),
    MaskedLM(scheme=random_spans),
    SpanCorruption(scheme="rolled-spans"),
    PrefixLM(label_smoothing=0.1),
    MaskedDiffusion(exact_count=False, z_loss=1e-4),
    FillInTheMiddle(fim_rate=0.9, form="joint"),
):
    right("objective", repr(objective), lambda one=objective: check_objective(one, small(one)), slow=True)


def seq2seq(model, batch):
    """The decoder's loss, with every mask."""
    hidden = model(batch["input_ids"], batch["decoder_input_ids"], attention_mask=batch["attention_mask"])
    return masked_sum(model.unembed(hidden), batch["labels"])


for loss, objective in ((in_place, MASKED), (next_tokens, CAUSAL), (seq2seq, SPAN)):
    name = loss.__name__.replace("_", " ")
    right("function", name, lambda f=loss, o=objective: check_objective(f, small(o, n_layers=2), ragged(o)))
