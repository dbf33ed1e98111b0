"""Exhibits of the museum of mistakes: ELECTRA, masked diffusion, multi-token prediction, fill-in-the-middle, and masked
next-token prediction."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from museum_shared import (
    AHEAD,
    BATCH,
    DIFFUSION,
    ELECTRA,
    FIM,
    HYBRID,
    LENGTH,
    ROLES,
    SOURCE,
    SPECIAL,
    Exhibit,
    correct,
    fresh,
    held_out,
    kit,
    prompts,
    student,
    unseen,
)
from torch import Tensor, nn

from clozelab.data import Batch, Examples
from clozelab.evaluation import evaluate
from clozelab.generation import generate
from clozelab.models import GeneratorDiscriminator, eval_mode, model_config
from clozelab.objectives import (
    Electra,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedNextToken,
    MultiTokenPrediction,
    Prediction,
    Target,
    options,
)
from clozelab.testing import check_objective

READING = ("reads", "documents", "answers")  # names of checks


class TaughtToBeFound(GeneratorDiscriminator):
    """The discriminator reads a straight-through sample: the drawn token, with the gradient of the expected one."""

    def forward(self, input_ids: Tensor, attention_mask=None, document_ids=None, sampling_noise=None):
        outputs = super().forward(input_ids, attention_mask, document_ids, sampling_noise)
        if sampling_noise is None:
            return outputs
        generated, sampled = outputs["generator"], outputs["discriminator"].sampled
        p = F.linear(generated.states, generated.table).softmax(-1) * (sampling_noise > 0)[..., None]
        passes = (p - p.detach()) @ self.discriminator.embedding.weight  # 0, with a gradient; correct: leave it out
        hook = self.discriminator.embedding.register_forward_hook(lambda _, __, embedded: embedded + passes)
        states = self.discriminator(sampled, attention_mask, document_ids)
        hook.remove()
        return {"generator": generated, "discriminator": Prediction(states, self.verdict, sampled)}


@options
class Conniving(Electra):
    """ELECTRA with that model."""

    name = "conniving"

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: int) -> TaughtToBeFound:
        return TaughtToBeFound(model_config("encoder-only", size, vocab_size, **overrides), self.generator_size)


def gradient_into_generator(seed: int, steps: int) -> Exhibit:
    """The discriminator's gradient passes through the sample, so the generator learns to be found out."""
    batch = unseen(seed, ELECTRA)

    def of_generator(model: nn.Module) -> float:
        return evaluate(ELECTRA, model, [batch]).parts["generator"].mean

    def on_other_fakes(model: nn.Module) -> float:
        """Of the discriminator, where 15% of the tokens are replaced by any of the symbols alike."""
        text, generator = SOURCE.sample(len(batch["labels"]), LENGTH, seed=-3), torch.Generator().manual_seed(seed)
        put = torch.randint(SOURCE.symbols, text.shape, generator=generator)
        read = torch.where(torch.rand(text.shape, generator=generator) < ELECTRA.mask_rate, put, text)
        with eval_mode(model):
            prediction = model(read)["discriminator"]
            logits = F.linear(prediction.states, prediction.table)
        return float(F.cross_entropy(logits.flatten(0, 1), (read != text).long().flatten()))

    right, wrong = correct(seed, steps, ELECTRA), student(seed, steps, Conniving(), fresh(seed, ELECTRA))
    detection = [evaluate(ELECTRA, model, [batch]).parts["discriminator"].mean for model, _ in (right, wrong)]
    return Exhibit(
        (right, wrong),
        f"the discriminator's own loss {'falls' if detection[1] < detection[0] else 'rises'} by the help: "
        f"{detection[0]:.3f} -> {detection[1]:.3f} nats a token",
        # Who reads whom is as it should be, and takes longest to check.
        tuple(lambda model=model: check_objective(ELECTRA, model, skip=READING) for model, _ in (right, wrong)),
        {"nats per hidden token": of_generator, "nats per token, of uniform fakes": on_other_fakes},
    )


@options
class Unweighted(MaskedDiffusion):
    """Each hidden token counts once, however many of the text are hidden."""

    name = "unweighted"

    def corrupt(self, examples: Examples) -> Batch:
        batch = super().corrupt(examples)
        return batch | {"weights": (batch["weights"] != 0).float()}  # correct: n / k


def weights_dropped(seed: int, steps: int) -> Exhibit:
    """The weights n / k of masked diffusion are left out: the loss looks half as high and is no bound."""
    right, wrong = correct(seed, steps, DIFFUSION), student(seed, steps, Unweighted(), fresh(seed, Unweighted()))
    text = held_out(seed, DIFFUSION)(right[0])
    dropped = evaluate(Unweighted(), right[0], [unseen(seed, Unweighted())]).nats
    return Exhibit(
        (right, wrong),
        f"the correct model costs at most {text:.3f} nats a token, and without the weights {dropped:.3f}, where the "
        f"language has {SOURCE.entropy_rate:.3f}",
        kit([(DIFFUSION, right[0]), (Unweighted(), wrong[0])], "uniform", "likelihood"),
        {"nats per token, at most": held_out(seed, DIFFUSION)},
    )


@options
class Against(MultiTokenPrediction):
    """The further head is subtracted."""

    name, reads = "against", MultiTokenPrediction.reads

    def targets(self, batch: Batch) -> dict[str, Target]:
        first, *further = super().targets(batch).items()
        return dict([first, *((name, replace(target, weight=-target.weight)) for name, target in further)])


def sign_of_a_weight(seed: int, steps: int) -> Exhibit:
    """The weight of the further head has the wrong sign: the model is taught not to know the token after the next."""
    right, wrong = correct(seed, steps, AHEAD), student(seed, steps, Against(), fresh(seed, AHEAD))
    batch = unseen(seed, AHEAD)

    def part(name: str) -> Callable[[nn.Module], float]:
        return lambda model: evaluate(AHEAD, model, [batch]).parts[name].mean

    return Exhibit(
        (right, wrong),
        f"the further head costs {part('ahead_1')(wrong[0]):.1f} nats, where a uniform guess costs "
        f"{math.log(SPECIAL.vocab_size):.1f}",
        kit([(AHEAD, right[0]), (Against(), wrong[0])], "returns"),
        {"nats per token after the next": part("ahead_1"), "nats per next token": part("logits")},
    )


@options
class CutMiddle(FillInTheMiddle):
    """A moved text is four tokens longer, and is cut to its old length."""

    name = "cut-middle"

    def corrupt(self, examples: Examples) -> Batch:
        rows = super().corrupt(examples)
        length = examples.tokens.shape[1]  # correct: texts are four tokens shorter than the rows
        return {key: value[:, :length] if value.dim() > 1 else value for key, value in rows.items()}


def middle_cut(seed: int, steps: int) -> Exhibit:
    """Texts are moved and then cut to the length of a row: the end of the middle is lost, and its end of text."""
    other = CutMiddle(fim_rate=FIM.fim_rate, form=FIM.form)
    right, wrong = correct(seed, steps, FIM), student(seed, steps, other, fresh(seed, other))
    seen = [int((fresh(seed, one)(0)["labels"] == ROLES["fim_end"]).sum()) for one in (FIM, other)]

    def ended(model: nn.Module) -> float:
        text, marks = prompts(12), [ROLES[role] for role in ("fim_prefix", "fim_suffix")]
        column = torch.tensor([*marks, ROLES["fim_middle"]]).expand(len(text), 3)
        rows = torch.cat([column[:, :1], text[:, :6], column[:, 1:2], text[:, 6:], column[:, 2:]], 1)
        generator = torch.Generator().manual_seed(seed)
        row = generate(model, rows, max_new_tokens=LENGTH, eos=ROLES["fim_end"], generator=generator)
        return 100 * float((row[:, rows.shape[1] :] == ROLES["fim_end"]).any(1).float().mean())

    return Exhibit(
        (right, wrong),
        f"of {BATCH} texts {seen[1]} have the end of a middle in the loss, instead of {seen[0]}",
        kit([(FIM, right[0]), (other, wrong[0])], "text", "special ids"),
        {f"% of middles that end within {LENGTH} tokens": ended, "nats per token": held_out(seed, FIM)},
    )


@options
class HalfEach(MaskedNextToken):
    """The mean of causal rows and the mean of masked rows are averaged."""

    name, reads = "half-each", MaskedNextToken.reads

    def targets(self, batch: Batch) -> dict[str, Target]:
        [(name, target)] = super().targets(batch).items()
        causal = batch["causal"][:, None].float()
        share = torch.where(causal == 1, causal.mean(), 1 - causal.mean())  # of the rows of its kind
        return {name: replace(target, weights=target.weights / (2 * share))}  # correct: the weights as they are


def means_of_kinds(seed: int, steps: int) -> Exhibit:
    """Rows of two kinds have a mean each, and both means count half: an eighth of the rows is half of the loss."""
    other = HalfEach(causal_share=HYBRID.causal_share)
    right, wrong = correct(seed, steps, HYBRID), student(seed, steps, other, fresh(seed, other))
    batch = unseen(seed, HYBRID)

    def of_kind(causal: int) -> Callable[[nn.Module], float]:
        rows = {key: value[batch["causal"] == causal] for key, value in batch.items()}
        return lambda model: evaluate(HYBRID, model, [rows]).nats

    share = float(fresh(seed, HYBRID)(0)["causal"].float().mean())
    return Exhibit(
        (right, wrong),
        f"a causal row counts {(1 - share) / share:.0f} times as much as a masked one in the first batch",
        kit([(HYBRID, right[0]), (other, wrong[0])], "uniform", "accumulation"),
        {"nats per token of masked rows": of_kind(0), "nats per token of causal rows": of_kind(1)},
    )


EXHIBITS: dict[str, Callable[[int, int], Exhibit]] = {
    "gradient into the generator": gradient_into_generator,
    "weights dropped": weights_dropped,
    "sign of a weight": sign_of_a_weight,
    "end of the middle cut": middle_cut,
    "mean of means of two kinds": means_of_kinds,
}
