"""Noise that is frozen, shared, correlated or from a fixed set is found; so are wrong special ids and progress."""

import dataclasses

import pytest
import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import IGNORED, Collator, Noise, shift_targets
from clozelab.data.span_masking import random_spans_mask
from clozelab.objectives import Likelihood, Target, options
from clozelab.testing import check_objective

from .catalogue_objectives import found, small


def constant(examples, seeds):
    """The same noise for every example: the keys of other ids."""
    return dataclasses.replace(examples, noise=Noise.of(0, 0, seeds))


@options
class OneNoiseForAllRows(MaskedLM):
    name = "one-noise"

    def corrupt(self, examples):
        return super().corrupt(constant(examples, [0] * len(examples.tokens)))


@options
class OnePrefixForAllRows(PrefixLM):
    name, reads = "one-prefix", PrefixLM.reads

    def corrupt(self, examples):
        return super().corrupt(constant(examples, [3] * len(examples.tokens)))


@options
class NoiseOfTheText(MaskedLM):
    """Each text keeps its mask for ever."""

    name = "noise-of-the-text"

    def corrupt(self, examples):
        return super().corrupt(constant(examples, [sum(row) for row in examples.token_lists()]))


@options
class PlacesOfTheText(MaskedLM):
    """Each text keeps its hidden places; the random replacements are fresh."""

    name = "places-of-the-text"

    def choose(self, examples, maskable):
        return super().choose(constant(examples, [sum(row) for row in examples.token_lists()]), maskable)


@options
class EpochsAlike(MaskedLM):
    name = "epochs-alike"

    def collator(self, special, **settings):
        made = super().collator(special, **settings)

        class Frozen(Collator):
            def set_epoch(self, epoch):
                super().set_epoch(0)

        return Frozen(made.corrupt, special, **settings)


@options
class ThreeMasks(MaskedLM):
    name = "three-masks"

    def corrupt(self, examples):
        return super().corrupt(constant(examples, (examples.uniform_row(5)[:, 0] * 3).long()))


@options
class OneSentinel(SpanCorruption):
    name = "one-sentinel"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        known = torch.tensor(examples.special.sentinels)
        for key in ("input_ids", "decoder_input_ids", "labels"):
            batch[key] = batch[key].masked_fill(torch.isin(batch[key], known), int(known[0]))
        return batch

    def choose(self, examples):
        return random_spans_mask(examples.maskable, examples.uniform(0), 0.3, 1.0)


@options
class SentinelsOutOfStep(SpanCorruption):
    name = "sentinels-out-of-step"

    def corrupt(self, examples):
        batch, known = super().corrupt(examples), examples.special.sentinels
        for key in ("decoder_input_ids", "labels"):
            one, two = batch[key] == known[0], batch[key] == known[1]
            batch[key] = batch[key].masked_fill(one, known[1]).masked_fill(two, known[0])
        return batch


@options
class StartsWithPad(SpanCorruption):
    name = "starts-with-pad"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"decoder_input_ids": shift_targets(batch["labels"].clamp(min=0), examples.special.pad)}


@options
class NoEndOfText(SpanCorruption):
    name = "no-end"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special.eos, IGNORED)}


@options
class EndOfMiddleNotInTheLoss(FillInTheMiddle):
    name = "end-not-in-the-loss"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special["fim_end"], IGNORED)}


def replaced_by(which):
    @options
    class Replaced(MaskedLM):
        name = "replaced"

        def corrupt(self, examples):
            batch, special = super().corrupt(examples), examples.special
            random = (batch["input_ids"] != examples.tokens) & (batch["input_ids"] != special.mask)
            return batch | {"input_ids": batch["input_ids"].masked_fill(random, which(special))}

    return Replaced


@options
class PaysTheNextDocument(CausalLM):
    """The last token of a document predicts the first of the next."""

    name = "pays-the-next-document"

    def targets(self, batch):
        labels = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        return {"logits": Target(labels.masked_fill(batch["attention_mask"] == 0, IGNORED))}


@options
class StartOnceInAPackedRow(SpanCorruption):
    """A later document begins with the last answer of the one before."""

    name = "start-once"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        start = examples.special["decoder_start"]
        return batch | {"decoder_input_ids": shift_targets(batch["labels"].clamp(min=0), start)}


@options
class HiddenProgress(MaskedLM):
    """A schedule of the masked share that the class does not declare."""

    name = "hidden-progress"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        early = batch["labels"] != IGNORED if examples.progress < 0.01 else torch.zeros_like(batch["labels"]).bool()
        return batch | {"input_ids": batch["input_ids"].masked_fill(early, examples.special.mask)}


@options
class NoProgress(MaskedLM):
    name, uses_progress = "no-progress", True


@options
class DeclaredProgress(HiddenProgress):
    name, uses_progress = "declared-progress", True


@options
class DeclaresNoReads(MaskedLM):
    name = "declares-no-reads"

    def reads(self, batch):
        return {}


@options
class ReadsOneSideOnly(SpanCorruption):
    name = "one-side-only"

    def reads(self, batch):
        return {pair: matrix for pair, matrix in super().reads(batch).items() if pair[1] == "input_ids"}


FAULTS = {
    OneNoiseForAllRows: "noise",
    OnePrefixForAllRows: "noise",
    NoiseOfTheText: "noise",
    PlacesOfTheText: "noise",
    EpochsAlike: "noise",
    ThreeMasks: "noise",
    OneSentinel: "special ids",
    SentinelsOutOfStep: "special ids",
    StartsWithPad: "special ids",
    NoEndOfText: "special ids",
    EndOfMiddleNotInTheLoss: "special ids",
    replaced_by(lambda special: special.eos): "special ids",
    replaced_by(lambda special: int(special.replacements[5])): "special ids",
    PaysTheNextDocument: "documents",
    StartOnceInAPackedRow: "documents",
    HiddenProgress: "progress",
    NoProgress: "progress",
    DeclaresNoReads: "reads",
    ReadsOneSideOnly: "reads",
}


@pytest.mark.parametrize(("fault", "check"), FAULTS.items(), ids=lambda one: getattr(one, "name", one))
def test_a_fault_of_the_noise_or_the_ids_is_found_by_its_check(fault, check):
    assert check in found(fault(), small(fault(), n_layers=1))


# ------------------------------------------------------------------ right things


def every_seventh(tokens, maskable, generator):
    first = int(torch.randint(7, (1,), generator=generator))
    mask = maskable & (torch.arange(len(tokens)) % 7 == first)
    return mask if bool(mask.any()) else maskable & (torch.arange(len(tokens)) == int(maskable.nonzero()[0]))


@options
class HalfPrefix(PrefixLM):
    """No noise at all: the first half is the prefix."""

    name, reads, likelihood = "half-prefix", PrefixLM.reads, Likelihood.EXACT

    def corrupt(self, examples):
        from clozelab.objectives.prefix_lm import places_in_documents, prefix_batch

        place, length, _ = places_in_documents(examples)
        return prefix_batch(examples, place, (length + 1) // 2)


@pytest.mark.parametrize(
    "objective",
    [DeclaredProgress(), HalfPrefix(), MaskedLM(scheme=every_seventh), SpanCorruption(scheme="rolled-spans")],
)
def test_what_looks_like_such_a_fault_and_is_none_passes(objective):
    report = check_objective(objective, small(objective, n_layers=1))
    assert report.passed
    assert report.not_checked == []


def test_a_scheme_that_asks_for_data_is_tried_with_it():
    def of_a_kind(tokens, maskable, generator, kinds):
        free = maskable & (kinds == 1)
        return free if bool(free.any()) else maskable

    def scheme(tokens, maskable, generator, kinds):
        noise = torch.rand(len(tokens), generator=generator).masked_fill(~of_a_kind(tokens, maskable, None, kinds), 2)
        return noise == noise.min()

    objective = MaskedLM(scheme=scheme)
    report = check_objective(
        objective, small(objective, n_layers=1), example=lambda ids: {"kinds": [token % 2 for token in ids]}
    )
    assert report.passed
    assert report.not_checked == []


# ------------------------------------------------------------------ levels of diffusion


@options
class NeverSmall(MaskedDiffusion):
    """Of n tokens at least half are hidden."""

    name = "never-small"

    def corrupt(self, examples):
        level = 0.5 + 0.5 * examples.uniform_row(0)
        return diffused(examples, level, examples.uniform(1))


@options
class OneStream(MaskedDiffusion):
    """The level is the first number of the noise that chooses the tokens."""

    name = "one-stream"

    def corrupt(self, examples):
        return diffused(examples, examples.uniform_row(1), examples.uniform(1))


@options
class NeverAll(MaskedDiffusion):
    name = "never-all"

    def corrupt(self, examples):
        n = examples.is_token.sum(1, keepdim=True)
        return diffused(examples, examples.uniform_row(0) * (n - 1).clamp(min=1) / n, examples.uniform(1))


def diffused(examples, level, noise):
    from clozelab.data import smallest

    text = examples.is_token
    n = text.sum(1, keepdim=True)
    k = 1 + (level * n).long().clamp(max=n - 1)
    hidden = smallest(noise, k, text)
    return {
        "input_ids": examples.tokens.masked_fill(hidden, examples.special.mask),
        "labels": examples.answers.masked_fill(~hidden, IGNORED),
        "weights": (n.double() / k * text).float(),
        "count": n[:, 0],
        **examples.reading_keys(),
    }


@options
class RightLevels(MaskedDiffusion):
    """Or the tests above would prove nothing."""

    name, likelihood = "right-levels", Likelihood.BOUND

    def corrupt(self, examples):
        return diffused(examples, examples.uniform_row(0), examples.uniform(1))


@pytest.mark.parametrize("fault", [NeverSmall, OneStream, NeverAll])
def test_a_level_that_is_drawn_wrongly_is_found(fault):
    assert found(fault(), small(fault(), n_layers=1)) == ["likelihood"]


def test_a_level_that_is_drawn_uniformly_passes():
    assert check_objective(RightLevels(), small(RightLevels(), n_layers=1)).passed


@options
class WritesIntoTheTokens(MaskedLM):
    name = "writes"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        examples.tokens.copy_(batch["input_ids"])
        return batch


@options
class TargetsCut(SpanCorruption):
    """Short texts are whole."""

    name = "targets-cut"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {key: batch[key][:, :5] for key in ("decoder_input_ids", "labels")}


@pytest.mark.parametrize(("fault", "check"), [(WritesIntoTheTokens, "corruption"), (TargetsCut, "text")])
def test_text_that_is_written_over_or_cut_is_found(fault, check):
    assert check in found(fault(), small(fault(), n_layers=1))
