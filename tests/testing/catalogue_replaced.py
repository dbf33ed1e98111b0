"""Planted faults of replaced-token detection: what is drawn, what it teaches, and what the discriminator is asked."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from clozelab.data import IGNORED
from clozelab.models import GeneratorDiscriminator, Prediction, model_config
from clozelab.objectives import Electra, Target, options

from .catalogue_objectives import objective


def plant_model(model, *checks, says=""):
    """Plant an `Electra` with another model."""

    @options
    class Planted(Electra):
        name = "planted-electra"
        reads = Electra.reads

        def build_model(self, vocab_size, size="tiny", **overrides):
            return model(model_config(self.architecture, size, vocab_size, **overrides), self.generator_size)

    Planted.__name__, Planted.__doc__ = model.__name__, model.__doc__
    objective(*checks, says=says)(Planted)
    return model


def planted(*checks, says=""):
    return lambda model: plant_model(model, *checks, says=says)


# ------------------------------------------------------------------ what is drawn


@planted("separate parts", says="discriminator has a gradient at .* of generator")
class GradientThroughTheSample(GeneratorDiscriminator):
    """The discriminator reads a straight-through sample, so that it teaches the generator to be found out."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, sampling_noise=None):
        outputs = super().forward(input_ids, attention_mask, document_ids, sampling_noise)
        generated, sampled = outputs["generator"], outputs["discriminator"].sampled
        p = F.linear(generated.states, generated.table).softmax(-1)
        passes = (p - p.detach()) @ self.discriminator.embedding.weight  # zero, with a gradient
        handle = self.discriminator.embedding.register_forward_hook(lambda _, __, embedded: embedded + passes)
        states = self.discriminator(sampled, attention_mask, document_ids)
        handle.remove()
        return {"generator": generated, "discriminator": Prediction(states, self.verdict, sampled)}


class Altered(GeneratorDiscriminator):
    """The ids that the discriminator reads are altered by `alter`."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, sampling_noise=None):
        outputs = super().forward(input_ids, attention_mask, document_ids, sampling_noise)
        if sampling_noise is None:
            return outputs
        sampled = self.alter(outputs, input_ids, sampling_noise > 0)
        states = self.discriminator(sampled, attention_mask, document_ids)
        return {**outputs, "discriminator": Prediction(states, self.verdict, sampled)}

    def logits(self, outputs):
        return F.linear(outputs["generator"].states, outputs["generator"].table)


@planted("replaced", says="are not drawn from what generator predicts")
class TheLikeliestId(Altered):
    """The generator puts its best guess instead of a sample, so that a good one replaces nearly nothing."""

    def alter(self, outputs, input_ids, hidden):
        return torch.where(hidden, self.logits(outputs).argmax(-1), input_ids)


@planted("replaced", says="are not drawn from what generator predicts")
class UniformIds(Altered):
    """The ids are uniform over the vocabulary, whatever the generator predicts."""

    def alter(self, outputs, input_ids, hidden):
        place = torch.arange(input_ids.shape[1])
        return torch.where(hidden, (input_ids.sum(1, keepdim=True) * 31 + place * 17) % 30 + 20, input_ids)


@planted("replaced", says="drawn for an example alone")
class NoiseOfTheProcess(Altered):
    """The ids are drawn from the global random state: another number of processes trains another model."""

    def alter(self, outputs, input_ids, hidden):
        generator = torch.Generator().manual_seed(len(input_ids))
        logits = self.logits(outputs)
        noise = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
        return torch.where(hidden, (logits - (-noise.log()).log()).argmax(-1), input_ids)


@planted("reads", says="which it may not read")
class DiscriminatorReadsTheMasks(Altered):
    """The discriminator reads the generator's input, where every mask stands for a token that may be replaced."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, sampling_noise=None):
        outputs = super(Altered, self).forward(input_ids, attention_mask, document_ids, sampling_noise)
        states = self.discriminator(input_ids, attention_mask, document_ids)
        return {**outputs, "discriminator": replace(outputs["discriminator"], states=states)}


# ------------------------------------------------------------------ what the discriminator is asked


@objective("replaced", says="drawn ids are the text's own")
@options
class SampledOriginalIsReplaced(Electra):
    """Every hidden token counts as replaced, also where the generator hit the very token of the text."""

    name = "sampled-original-is-replaced"
    reads = Electra.reads

    def loss(self, outputs, batch):
        one = outputs["discriminator"]
        hit = (batch["sampling_noise"] > 0) & (one.sampled == batch["labels"])
        missed = replace(one, sampled=one.sampled + hit.long())
        return super().loss({"generator": outputs["generator"], "discriminator": missed}, batch)


@objective("replaced", says="is asked about")
@options
class HiddenPositionsAlone(Electra):
    """The discriminator is asked about hidden tokens alone, of which nearly all are replaced."""

    name = "hidden-positions-alone"
    reads = Electra.reads

    def targets(self, batch):
        right = super().targets(batch)
        hidden = batch["labels"].masked_fill(batch["sampling_noise"] == 0, IGNORED)
        return {**right, "discriminator": replace(right["discriminator"], labels=hidden)}


@objective("uniform")
@options
class OneMeanForBoth(Electra):
    """Both sums are divided by one count, so that the generator hardly learns."""

    name = "one-mean-for-both"
    reads = Electra.reads

    def targets(self, batch):
        right = super().targets(batch)
        together = sum(target.row_counts for target in right.values())
        return {name: replace(target, count=together) for name, target in right.items()}


@objective("replaced", says="special ids or pads are replaced")
@options
class EndsAreReplaced(Electra):
    """Ends of text are hidden too, and a replaced end is found at once."""

    name = "ends-are-replaced"
    reads = Electra.reads

    def choose(self, examples, maskable):
        return super().choose(examples, examples.maskable)


@objective("replaced", says="are not drawn from what generator predicts")
@options
class OneNoiseForAll(Electra):
    """The noise of the draws is a constant: every draw is the median of its distribution."""

    name = "one-noise-for-all"
    reads = Electra.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return {**batch, "sampling_noise": (batch["sampling_noise"] > 0) * 0.5}


@objective("returns", says="which sampled ids|of each sampled id|predicts the labels")
@options
class DiscriminatorPredictsIds(Electra):
    """The discriminator's labels are the ids of the text, and its two classes cannot hold them."""

    name = "discriminator-predicts-ids"
    reads = Electra.reads

    def targets(self, batch):
        return {**super().targets(batch), "discriminator": Target(batch["labels"], weight=50.0)}
