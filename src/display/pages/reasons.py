"""Why each target is in the loss: one clause for each position, from the tensors of the batch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ...data import IGNORED
from ...objectives.loss import Target
from ..picture import Picture

HIDDEN = {
    "mask": "it is hidden: the model reads {read} in its place",
    "random": "it is hidden: the model reads {read}, another token drawn at random, in its place",
    "kept": "it was drawn like the hidden tokens but stays visible, so the model cannot trust what it reads",
}
"""By what stands in the place of a hidden token."""
EARLIER = ". The output one place earlier predicts it"
NEXT = "it is the next token, which is not read yet"
AHEAD = "it is the token {distance} places further on, which is not read yet"
LEAK = "it is a token to come. But it is read already, which is a leak"
SENTINEL = "it is a sentinel: it says which hidden run comes next"
RUN = "it is in the hidden run behind {sentinel}, which the encoder does not read"
END = "it ends the targets: the model must predict where they end"
LIKELIEST = "the output predicts a distribution over tokens, and this is the likeliest of them"
REPLACED = "each token is: the output says whether the token that the generator drew here is another one"
ORIGINAL = "each token is: the output must say that this one was not replaced"
NAMED = "the objective predicts {what}"


def reasons(picture: Picture, target: Target, reads: Tensor | None) -> list[str | None]:
    """For each position of an output the clause after "It is in the loss because", or None where it is not.

    `reads` (T, S) says which inputs of its own sequence the output reads, None where that is not known. `{read}` stands
    for the token that is read at the position of the output, `{read_next}` for the one behind it.
    """
    batch = picture.batch
    labels = target.labels[0].tolist()
    if target.soft_labels is not None:
        found: Iterator[str] = (LIKELIEST for _ in labels)
    elif target.detects_replaced:
        inputs = batch["input_ids"][0].tolist()
        found = (ORIGINAL if read == label else REPLACED for read, label in zip(inputs, labels))
    elif "decoder_input_ids" in batch:
        found = _of_decoder(picture, labels)
    else:
        found = _of_one_stack(picture, labels, reads)
    return [reason if label != IGNORED else None for reason, label in zip(found, labels)]


def _of_decoder(picture: Picture, labels: list[int]) -> Iterator[str]:
    special = picture.tokenizer.special
    sentinels, behind = {*special.sentinels}, None
    of_kinds = _of_kinds(picture, len(labels))
    for t, label in enumerate(labels):
        behind = label if label in sentinels else behind
        if label in sentinels:
            yield SENTINEL
        elif label == special.eos and t + 1 == len(labels):
            yield END
        elif behind is not None:
            yield RUN.format(sentinel=picture.words([behind])[0])
        else:
            yield of_kinds[t]


def _of_kinds(picture: Picture, length: int) -> list[str]:
    """What the objective predicts, and of which kind each position is, where it tells them apart."""
    objective = picture.objective
    named = NAMED.format(what=objective.predicts)
    for name, values in objective.breakdown(picture.batch).items():
        if values.dim() == 2 and name in objective.kinds:
            return [f"{named}. This token is {objective.kind(name, value)}" for value in values[0].tolist()]
    return [named] * length


def _of_one_stack(picture: Picture, labels: list[int], reads: Tensor | None) -> Iterator[str]:
    inputs, text, mask = picture.batch["input_ids"][0].tolist(), picture.text, picture.tokenizer.special.mask
    ahead = _distance(inputs, labels)
    named = _of_kinds(picture, len(labels))
    for t, label in enumerate(labels):
        if t in picture.hidden_as and text[t] == label:
            yield HIDDEN[picture.hidden_as[t]]
        elif t + 1 in picture.hidden_as and text[t + 1] == label:
            yield HIDDEN[picture.hidden_as[t + 1]].replace("{read}", "{read_next}") + EARLIER
        elif mask is not None and inputs[t] == mask:
            yield HIDDEN["mask"]
        elif ahead is None or reads is None or label == IGNORED:
            yield named[t]
        elif bool(reads[t, t + ahead]):
            yield LEAK
        else:
            yield NEXT if ahead == 1 else AHEAD.format(distance=ahead)


def _distance(inputs: list[int], labels: list[int]) -> int | None:
    """How many places behind its output each target stands in the inputs; None where that is not one number."""
    in_loss = [(t, label) for t, label in enumerate(labels) if label != IGNORED]
    for ahead in range(1, len(inputs)):
        if in_loss and all(t + ahead < len(inputs) and inputs[t + ahead] == label for t, label in in_loss):
            return ahead
    return None
