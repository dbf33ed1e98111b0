"""Replaced-token detection (ELECTRA): a generator fills hidden tokens, a discriminator says which were replaced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..checks import check_same_shape, check_tensor
from ..data.examples import IGNORED, Batch, Examples
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion
from ..languages import (
    HiddenMarkovSource,
    MarkovSource,
    detection_costs,
    masked_posteriors,
    replaced_probabilities,
)
from ..models import GeneratorDiscriminator, Prediction, eval_mode, model_config
from ..models.generator_discriminator import sample_ids
from .loss import Target
from .masked_lm import MaskedLM
from .model_calls import ReadRecorder, part_of
from .objective import FloorExercise, Objective, reads_of_one_stack
from .options import Bounds, NotNegative, Probability, options

SAMPLE = 2  # stream of an example's noise; which tokens are hidden and what stands there are masked LM's


@options
class Electra(MaskedLM):
    """Hide some tokens, let a small masked LM fill them, and classify every token as original or replaced.

        text            the   cat   sat   on    the   mat
        input_ids       the   [M]   sat   [M]   the   [M]     what the generator reads
        sampling_noise   0   0.61    0   0.17    0   0.83     0: nothing is drawn
        labels          the   cat   sat   on    the   mat
        generator        .    cat    .    on     .    mat     count 3: the hidden tokens, as in masked LM
        sampled         the   dog   sat   on    the   rug     what the discriminator reads
        discriminator    0     1     0     0     0     1      count 6: every token; a token that was hit counts as real

    The loss is the mean of the generator over the hidden tokens, plus `discriminator_weight` times the mean of the
    discriminator over all tokens of the text, including ends of text and other special ids but not padding. Both models
    read both sides. Special ids are never hidden, so they are never replaced.

    Of the hidden tokens 85% become [MASK] and the rest stay unchanged; the generator predicts and replaces all of them.
    It samples with noise from the batch, which belongs to the example, so the same tokens are replaced on any number of
    processes and in any micro-batches (`sample_ids` states the limits). Sampling has no gradient: the discriminator
    teaches the generator nothing, except through the token embedding, which both share as in the paper. The batch
    determines the loss positions and both counts; only the discriminator's classes depend on the samples
    (`Target.detects_replaced`).

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import Electra
    >>> objective = Electra(mask_rate=0.5)
    >>> model = objective.build_model(10, "tiny", d_model=16, n_layers=1, n_heads=2)
    >>> batch = objective.collator(SpecialIds(vocab_size=10, pad=0, eos=1, mask=2))([[5, 6, 7, 8, 5, 9]])
    >>> {part: int(count) for part, count in objective.counts(batch).items()}
    {'generator': 3, 'discriminator': 6}
    >>> round(objective(model, batch)["discriminator"].mean.item(), 4)  # untrained: ln 2
    0.6931

    Raises `InputError` for options out of bounds, for a model that is not a pair of generator and discriminator, and
    for a batch that was made for another objective.

    Source: Clark et al. 2020 (ELECTRA), sections 2 and 3.2, and appendix A; 85% and 15% as in its code.
    """

    name, canonical, architecture, colour = "electra", "ELECTRA", "encoder-only", "#999933"
    hides, attends_to = "some tokens, at random", "both sides"
    predicts = "the hidden tokens, and which tokens a generator replaced"
    roles, completes = ("mask",), ("fill",)
    model_for_transformers = "clozelab.integrations.electra.ElectraPair"
    exercise = FloorExercise(options={"scheme": "bernoulli", "generator_size": 1.0})
    export_refusal = (
        "no model of transformers is a generator and a discriminator: the encoder that is kept goes there as a body, "
        "without its verdict, by clozelab.integrations.export.export(MaskedLM(), model.discriminator, folder)"
    )

    mask_replace_prob: Probability = 0.85
    """Share of the hidden tokens that becomes the mask token,"""
    random_replace_prob: Probability = 0.0
    """share that becomes a random token; the rest stays as it is."""
    generator_size: Annotated[float, Bounds(1 / 16, 1)] = 0.25
    """Width of the generator, as a share of the discriminator's; it has as many layers."""
    discriminator_weight: NotNegative = 50.0
    """Weight of the discriminator's mean in the total."""

    # hide

    def corrupt(self, examples: Examples) -> Batch:
        hidden = self.choose(examples, examples.text_maskable)
        noise = (1 - examples.uniform(SAMPLE)).float()  # in (0, 1]
        return Batch(
            input_ids=self.hide(examples, hidden),
            labels=examples.answers,
            sampling_noise=noise.masked_fill(~hidden, 0),
            **examples.reading_keys(),
        )

    # read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> GeneratorDiscriminator:
        config = model_config(self.architecture, size, vocab_size, **overrides)
        return GeneratorDiscriminator(config, self.generator_size)

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """Both sides; the discriminator reads what is hidden only by way of what the generator makes of it."""
        return dict.fromkeys(
            [("generator", "input_ids"), ("discriminator", "input_ids")], reads_of_one_stack(batch, causal=False)
        )

    # predict

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {
            "generator": Target(_of_hidden(batch)),
            "discriminator": Target(batch["labels"], weight=self.discriminator_weight, detects_replaced=True),
        }

    # what others ask

    def separate_parts(self) -> set[tuple[str, str]]:
        return {("discriminator", "generator")}

    def uniform_values(self, vocab_size: int) -> dict[str, float]:
        return {"generator": super().uniform_values(vocab_size)["logits"], "discriminator": math.log(2)}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        Objective.check_batch(self, batch)
        super().check_batch(ReadRecorder(self, "batch", {**batch, "labels": _of_hidden(batch)}))

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """The generator's: masked LM's. The discriminator's: its least loss behind the ideal generator.

        The ideal generator draws by the noise of the batch from its posteriors, and the best discriminator knows the
        language, the rates and that generator (`replaced_probabilities`). It is the value at which training ends, and
        no bound on the way: a worse generator gives itself away more often, and is more often wrong.
        """
        if self.random_replace_prob > 0 or self.scheme != "bernoulli" or self.schedule:
            raise InputError(
                "the discriminator's exact floor needs tokens hidden independently at one rate, scheme='bernoulli', "
                "and no random ones among them, random_replace_prob=0"
            )
        ideal = self.hidden_posteriors(source, batch, special)  # (B, T, K)
        sampled = sample_ids(Prediction(ideal.log()), batch["input_ids"], batch["sampling_noise"])
        rate, is_token = self.mask_rate * self.mask_replace_prob, batch["attention_mask"] != 0
        replaced = replaced_probabilities(source, sampled, rate, is_token=is_token)
        here = batch["labels"] != IGNORED
        costs = -torch.where(sampled != batch["labels"], replaced, 1 - replaced).log().masked_fill(~here, 0)
        generator = self.posterior_costs(source, {**batch, "labels": _of_hidden(batch)}, special)
        return {"generator": generator.sum(1), "discriminator": costs.sum(1)}

    def detection_bound(
        self,
        source: MarkovSource | HiddenMarkovSource,
        model: GeneratorDiscriminator,
        batch: Batch,
        special: SpecialIds,
        hide_rate: float | None = None,
    ) -> Tensor:
        """(B, T) nats: no discriminator behind the generator of this model has a lower loss; rows have no padding.

        Unlike the floor it is a bound at any time of the training. It is lower than what can be reached, for the reader
        whose cost it is knows all true tokens but one (`detection_costs`). `hide_rate=1` is for tokens that are known
        to be hidden. It takes a pass of the generator for each position.

        Raises `InputError` unless every hidden token becomes a mask, each independently and at one rate.
        """
        if self.mask_replace_prob < 1 or self.scheme != "bernoulli" or self.schedule:
            raise InputError(
                "the bound needs tokens hidden independently at one rate, scheme='bernoulli', that all become masks, "
                "mask_replace_prob=1"
            )
        text, k = batch["labels"].long(), source.symbols
        with eval_mode(model):
            sampled = model(batch["input_ids"], sampling_noise=batch["sampling_noise"])["discriminator"].sampled
            drawn = []
            for t in range(text.shape[1]):
                ids = batch["input_ids"].clone()
                ids[:, t] = special["mask"]
                logits = model.generator.unembed(model.generator(ids)[:, t])
                drawn.append(logits.double().softmax(1).gather(1, sampled[:, t, None]))
        others = masked_posteriors(source, text, torch.eye(k), torch.ones(k, k))  # (B, T, K): given all other tokens
        fits = others.gather(2, sampled.clamp(max=k - 1)[..., None])[..., 0] * (sampled < k)  # no special id fits
        rate = self.mask_rate if hide_rate is None else hide_rate
        return detection_costs(fits, torch.cat(drawn, 1), sampled != text, rate)

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text by the generator, one token for each `___`."""
        return super().complete(part_of(model, "generator"), tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again by the generator, the most certain one first."""
        return super().sample(part_of(model, "generator"), tokenizer, text, **sampling)


def _of_hidden(batch: Mapping[str, Tensor]) -> Tensor:
    """(B, T): the labels of the tokens that the generator fills; -100 elsewhere."""
    labels, noise = (check_tensor(batch[key], key, "(B, T)") for key in ("labels", "sampling_noise"))
    check_same_shape(labels=labels, sampling_noise=noise)
    return labels.masked_fill(noise == 0, IGNORED)
