"""Planted faults of losses that people write as a function (model, batch) -> (sum, count) or a mean."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from clozelab import CausalLM, MaskedDiffusion, MaskedLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.testing import check_objective

from .catalogue import faults_of, plant
from .catalogue_objectives import V, small

SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2, sentinels=range(V - 1, V - 11, -1))
MASKED, CAUSAL, DIFFUSION, SPAN = MaskedLM(mask_rate=0.3), CausalLM(), MaskedDiffusion(), SpanCorruption()


def ragged(objective):
    """Four texts of 5 to 20 tokens, collated."""
    texts = [torch.arange(3, 3 + n).tolist() for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


def packed(objective):
    """Two rows of two documents."""
    return objective.collator(SPECIAL, within_documents=True)([[5, 6, 7, 1, 8, 9, 10, 11, 1], [12, 13, 1, 14, 15]])


def function(objective, *checks: str, batch: Callable = ragged, says: str = "") -> Callable[[Callable], Callable]:
    """Plant a loss, on a batch and the model of an objective."""

    def decorate(loss: Callable) -> Callable:
        find = lambda: faults_of(check_objective, loss, small(objective, n_layers=2), batch(objective))  # noqa: E731
        plant("function", loss, checks, find, says)
        return loss

    return decorate


def logits_of(model, batch, **more):
    return model.unembed(model(batch["input_ids"], batch["attention_mask"], **more))


def masked_sum(logits, labels):
    here = labels != IGNORED
    return F.cross_entropy(logits[here], labels[here], reduction="sum"), here.sum()


def shift(labels):
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def in_place(model, batch):
    """The right loss of a masked LM."""
    return masked_sum(logits_of(model, batch), batch["labels"])


def next_tokens(model, batch):
    """The right loss of a causal LM."""
    return masked_sum(logits_of(model, batch), shift(batch["labels"]))


# ------------------------------------------------------------------ how it is averaged


@function(MASKED, "accumulation")
def mean_of_means(model, batch):
    """cross_entropy's own mean, batch by batch."""
    return F.cross_entropy(logits_of(model, batch).flatten(0, 1), batch["labels"].flatten())


@function(MASKED, "gradient")
def mean_over_rows(model, batch):
    """The mean of each row, and then the mean over rows: tokens of short texts weigh more."""
    means = [F.cross_entropy(*pair) for pair in zip(logits_of(model, batch), batch["labels"])]
    return torch.stack(means).sum(), torch.tensor(len(means))


@function(MASKED, "gradient")
def averaged_before_multiplied(model, batch):
    """A mean over all positions is taken first, and multiplied by the loss mask afterwards."""
    labels = batch["labels"]
    loss = F.cross_entropy(logits_of(model, batch).flatten(0, 1), labels.clamp(min=0).flatten())
    return (loss * (labels != IGNORED)).sum() / (labels != IGNORED).sum()


@function(MASKED, "uniform")
def divided_by_all_places(model, batch):
    """The sum over hidden tokens is divided by B x T, which makes the loss depend on padding and rate."""
    return in_place(model, batch)[0], torch.tensor(batch["labels"].numel())


@function(CAUSAL, "uniform")
def divided_by_all_tokens(model, batch):
    """n tokens have n - 1 next tokens, and the sum is divided by n."""
    return next_tokens(model, batch)[0], batch["attention_mask"].sum()


@function(MASKED, "uniform")
def sum_for_a_mean(model, batch):
    """reduction="sum", and nobody divides."""
    return in_place(model, batch)[0]


@function(MASKED, "uniform")
def wrong_sign(model, batch):
    """log p instead of -log p."""
    total, count = in_place(model, batch)
    return -total, count


@function(MASKED, "nothing to predict")
def constant_zero(model, batch):
    """Without labels the loss is a new tensor, on which backward() raises."""
    if not (batch["labels"] != IGNORED).any():
        return torch.tensor(0.0), torch.tensor(0)
    return in_place(model, batch)


@function(MASKED, "gradient")
def smoothing_of_padding(model, batch):
    """A smoothing term over all positions, where the nll alone was masked."""
    logits = logits_of(model, batch)
    total, count = masked_sum(logits, batch["labels"])
    return total - 0.1 * logits.log_softmax(-1).mean(-1).sum(), count


@function(MASKED, "gradient")
def z_loss_of_padding(model, batch):
    """A z-loss over all positions."""
    logits = logits_of(model, batch)
    total, count = masked_sum(logits, batch["labels"])
    return total + 1e-3 * logits.logsumexp(-1).square().sum(), count


# ------------------------------------------------------------------ which label for which output


@function(CAUSAL, "answers")
def not_shifted(model, batch):
    """A causal LM whose outputs predict the tokens that they read."""
    return in_place(model, batch)


@function(CAUSAL, "gradient")
def shifted_twice(model, batch):
    """Labels are shifted by the data and by the loss."""
    return masked_sum(logits_of(model, batch), shift(shift(batch["labels"])))


@function(CAUSAL, "gradient", batch=lambda objective: (b := ragged(objective)) | {"labels": shift(b["labels"])})
def shifted_before(model, batch):
    """The collator shifted them already, as nanoGPT's does."""
    return next_tokens(model, batch)


@function(CAUSAL, "gradient")
def shifted_back(model, batch):
    """logits[:, 1:] against labels[:, :-1]: the token before is predicted."""
    return masked_sum(logits_of(model, batch)[:, 1:], batch["labels"][:, :-1])


@function(CAUSAL, "gradient")
def shifted_after_flattening(model, batch):
    """Shifted once the rows are one: the end of a row predicts the beginning of the next."""
    return masked_sum(logits_of(model, batch).flatten(0, 1)[:-1], batch["labels"].flatten()[1:])


@function(CAUSAL, "gradient")
def last_token_alone(model, batch):
    """Only the last output of a row is trained."""
    labels = shift(batch["labels"])
    return masked_sum(logits_of(model, batch)[:, -4:], labels[:, -4:])


@function(MASKED, "answers", batch=lambda o: (b := ragged(o)) | {"input_ids": unmasked(b)})
def inputs_not_masked(model, batch):
    """The labels are those of a masked LM, and the inputs are the text."""
    return in_place(model, batch)


@function(CAUSAL, "returns", batch=lambda o: (b := ragged(o)) | {"labels": b["input_ids"]}, says="at padding")
def labels_at_padding(model, batch):
    """labels = input_ids.clone(): padding is predicted."""
    return next_tokens(model, batch)


def unmasked(batch):
    return torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])


@function(SPAN, "answers")
def decoder_not_shifted(model, batch):
    """The decoder is given the labels themselves."""
    given = batch["labels"].clamp(min=0)
    hidden = model(batch["input_ids"], given, attention_mask=batch["attention_mask"])
    return masked_sum(model.unembed(hidden), batch["labels"])


# ------------------------------------------------------------------ what is ignored


@function(MASKED, "reads")
def without_mask(model, batch):
    """The attention mask is not passed on."""
    return masked_sum(model.unembed(model(batch["input_ids"])), batch["labels"])


@function(MASKED, "reads")
def mask_upside_down(model, batch):
    """The mask is given as PyTorch's key_padding_mask, 1 = padding, to a model that takes 1 = token."""
    return in_place(model, batch | {"attention_mask": 1 - batch["attention_mask"]})


@function(SPAN, "reads")
def encoder_without_mask(model, batch):
    """The encoder's mask is forgotten, in training alone."""
    hidden = model(batch["input_ids"], batch["decoder_input_ids"])
    return masked_sum(model.unembed(hidden), batch["labels"])


@function(CAUSAL, "keys", batch=packed)
def without_documents(model, batch):
    """Rows are packed with document ids, which reach no model."""
    return next_tokens(model, batch)


@function(DIFFUSION, "keys")
def without_weights(model, batch):
    """The weights of diffusion are not used."""
    return in_place(model, batch)[0], batch["count"].sum()


@function(DIFFUSION, "keys")
def normalised_by_the_weights(model, batch):
    """A weighted mean, divided by the sum of the weights: no bound of anything, whatever the level."""
    here = batch["labels"] != IGNORED
    costs = F.cross_entropy(logits_of(model, batch)[here], batch["labels"][here], reduction="none")
    weights = batch["weights"][here]
    return (weights * costs).sum() * here.sum() / weights.sum().clamp(min=1e-9), here.sum()
