"""Multi-token prediction: read from the left, predict the next token and, by further heads, those after it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..generation import Completion, continue_text
from ..languages import MarkovSource, step_costs
from ..models import MultiTokenDecoder, model_config
from .causal_lm import CausalLM, upcoming_labels
from .loss import Target
from .model_calls import part_of
from .objective import FloorExercise, Likelihood, reads_of_one_stack
from .options import NotNegative, options


@options
class MultiTokenPrediction(CausalLM):
    """Causal language modelling with `depth` further heads, each of which predicts one token further ahead.

        input_ids    5    6    7    8    9
        labels       5    6    7    8    9     not shifted, as in causal LM
        logits       6    7    8    9    .     count 4
        ahead_1      7    8    9    .    .     count 3: parallel reads 5 and predicts 7, sequential reads 5 and 6
        ahead_2      8    9    .    .    .     count 2

    There are two designs, which are different objectives. **Parallel** heads (Meta) all read x[0..t], so head k has to
    predict across a gap: on a Markov source its floor is H(x[t+1+k] | x[t]), which rises with k. In the **sequential**
    design (DeepSeek-V3) head k also reads x[t+k], the token before the one that it predicts, and its floor is the
    entropy rate at every depth.

    Each part is in nats per loss position of its own. `logits` is the loss of causal LM, and so the likelihood of the
    text; the purpose of the further heads is what their gradient teaches the trunk. Their weights sum to
    `ahead_weight`; with `design="parallel"`, `depth=3`, `ahead_weight=3` the loss is Meta's plain sum of four heads.

    >>> import torch
    >>> from clozelab.models import Prediction
    >>> from clozelab.objectives import MultiTokenPrediction
    >>> objective, text = MultiTokenPrediction(depth=2), torch.tensor([[5, 6, 7, 8, 9]])
    >>> for name, target in objective.targets({"input_ids": text, "labels": text}).items():
    ...     print(f"{name:8}", *(f"{label:5}" for label in target.labels[0].tolist()))
    logits       6     7     8     9  -100
    ahead_1      7     8     9  -100  -100
    ahead_2      8     9  -100  -100  -100

    Raises `InputError` for a model without the heads, for labels that are already shifted, and for a batch that was
    made for another objective.

    Source: Gloeckle et al. 2024, section 2 (parallel); DeepSeek-AI 2024 (DeepSeek-V3), section 2.2 (sequential; weight
    0.3, later 0.1). `detach_heads` is Megatron's option of that name.
    """

    name, canonical, architecture, colour = "mtp", "DeepSeek-V3", "decoder-only", "#AA4499"
    hides, attends_to = "the next tokens", "what comes before it"
    predicts, completes = "every next token, and by further heads those behind it", ("continue",)
    likelihood = Likelihood.EXACT  # of the first part
    exercise = FloorExercise(symbols=12, entropy=1.2, length=32, steps=1000, batch_size=64, learning_rate=5e-3)
    export_refusal = (
        "its heads have no place in a decoder of transformers: export the trunk, which is a model of causal LM, "
        "clozelab.integrations.export.export(CausalLM(), model.trunk, folder)"
    )

    depth: Literal[1, 2, 3, 4, 5, 6, 7, 8] = 1
    """Further tokens that are predicted."""
    design: Literal["sequential", "parallel"] = "sequential"
    """Each head reads one token more than the one before it, or all read the same tokens."""
    ahead_weight: NotNegative = 0.3
    """Weight of all further heads together; each has an equal share."""
    detach_heads: bool = False
    """The gradient of the further heads stops before the trunk; it reaches only the heads and the shared embedding."""

    # read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> MultiTokenDecoder:
        config = model_config(self.architecture, size, vocab_size, **overrides)
        sequential = self.design == "sequential"
        return MultiTokenDecoder(config, self.depth, sequential=sequential, detached=self.detach_heads)

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """From the left; head k of the sequential design k tokens further, as far as the document goes."""
        both_sides = reads_of_one_stack(batch, causal=False)
        place = torch.arange(both_sides.shape[1], device=both_sides.device)
        told = [k if self.design == "sequential" else 0 for k in range(self.depth + 1)]
        parts = zip(self._parts(), told)
        return {(part, "input_ids"): both_sides & (place <= place[:, None] + further) for part, further in parts}

    # predict

    def targets(self, batch: Batch) -> dict[str, Target]:
        weights = [1.0, *[self.ahead_weight / self.depth] * self.depth]
        parts = zip(self._parts(), upcoming_labels(batch, self.depth + 1), weights)
        return {part: Target(labels, weight=weight) for part, labels, weight in parts}

    # what others ask

    def uniform_values(self, vocab_size: int) -> dict[str, float]:
        return dict.fromkeys(self._parts(), super().uniform_values(vocab_size)["logits"])

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """Sequential: -ln p(x[t+1+k] | x[t+k]) for every head; parallel: -ln p(x[t+1+k] | x[t])."""
        floors = {}
        for k, (part, target) in enumerate(self.targets(batch).items()):
            told = k if self.design == "sequential" else 0
            here = target.labels[:, : -1 - k] != IGNORED  # (B, T - 1 - k), at t
            floors[part] = step_costs(source, batch["input_ids"][:, told:], 1 + k - told, here).sum(1)
        return floors

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text by the trunk, one token after the other: the further heads only taught it."""
        return continue_text(part_of(model, "trunk"), tokenizer, text, **sampling)

    def _parts(self) -> list[str]:
        return ["logits", *(f"ahead_{k}" for k in range(1, self.depth + 1))]
