"""Token order prediction: read from the left, predict the next token and, by a second head, the order of later ones."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, continue_text
from ..languages import MarkovSource
from ..models import TokenOrderDecoder, model_config
from .causal_lm import CausalLM, next_token_floor, upcoming_labels
from .cross_entropy import SoftLabels
from .loss import Target
from .model_calls import part_of
from .objective import FloorExercise, Likelihood, reads_of_one_stack
from .options import Bounds, NotNegative, options

MOST_CONTINUATIONS = 2**18
"""That the exact floor sums over."""


@options
class TokenOrderPrediction(CausalLM):
    """Causal language modelling with a second unembedding that predicts the order of the tokens to come.

        input_ids      4    3    1    3    2    0    1
        logits         3    1    3    2    0    1    .      the next token, as in causal LM
        order          3    1    3    2    0    1    .      the likeliest id, with a window of 3,
                       1    3    2    0    1    .    .      the second,
                       2    2    0    1    .    .    .      the third
                       .    0    1    .    .    .    .      and the last

    An id whose next occurrence is d positions after the next token has the score window - d, or -inf where d > window.
    The target is the softmax of the scores over the vocabulary. So an id has e^-d times the probability of the next
    token: at the first position 3, 1 and 2 have .7054, .2595 and .0351. The entropy of this target, 0.714 nats, would
    be the loss of a model that knows the future. A model that reads from the left has a higher loss, and a uniform
    guess has ln V.

    Ordering the upcoming tokens is easier than predicting the token exactly k positions ahead, as in multi-token
    prediction. Upcoming tokens are those of the same document. `logits` is the loss of causal LM, and so the likelihood
    of the text. Both parts are in nats per next token.

    >>> import torch
    >>> from clozelab.objectives import TokenOrderPrediction
    >>> text = torch.tensor([[4, 3, 1, 3, 2, 0, 1]])
    >>> target = TokenOrderPrediction(window=3).targets({"input_ids": text, "labels": text})["order"]
    >>> target.soft_labels.ids[0, 0], target.soft_labels.probabilities[0, 0]
    (tensor([3, 1, 3, 2]), tensor([0.7054, 0.2595, 0.0000, 0.0351]))

    Raises `InputError` for a model without the second unembedding, for labels that are already shifted, and for a batch
    that was made for another objective.

    Source: Zuhri et al. 2025 (Predicting the order of upcoming tokens improves language modeling), section 3. Their
    PyTorch code counts the token `window` positions after the next one, as here; their Triton kernel leaves it out.
    """

    name, canonical, architecture, colour = "top", "TOP-7B", "decoder-only", "#88CCEE"
    hides, attends_to = "the next tokens", "what comes before it"
    predicts, completes = "every next token, and in what order tokens come up", ("continue",)
    likelihood = Likelihood.EXACT  # of the first part
    exercise = FloorExercise(
        symbols=6, entropy=0.8, length=32, steps=1000, batch_size=64, learning_rate=5e-3, options={"window": 3}
    )
    export_refusal = (
        "its second table has no place in a decoder of transformers: export the trunk, which is a model of causal LM, "
        "clozelab.integrations.export.export(CausalLM(), model.trunk, folder)"
    )

    window: Annotated[int, Bounds(1, 64)] = 16
    """How far after the next token a token still counts; d positions after it, it has e^-d times its probability."""
    order_weight: NotNegative = 1.0
    """Weight of the second part in the total."""

    # read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> TokenOrderDecoder:
        return TokenOrderDecoder(model_config(self.architecture, size, vocab_size, **overrides))

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        return {(part, "input_ids"): reads_of_one_stack(batch) for part in ("logits", "order")}

    # predict

    def targets(self, batch: Batch) -> dict[str, Target]:
        upcoming = torch.stack(upcoming_labels(batch, self.window + 1), -1)  # (B, T, window + 1)
        following = upcoming[..., 0]
        order = Target(following, weight=self.order_weight, soft_labels=token_order(upcoming))
        return {"logits": Target(following), "order": order}

    # what others ask

    def uniform_values(self, vocab_size: int) -> dict[str, float]:
        return dict.fromkeys(("logits", "order"), super().uniform_values(vocab_size)["logits"])

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """Of the first part that of causal LM; of the second, the cross-entropy with the mean target given x[t].

        The model with the least loss predicts the mean of the targets over all that may follow. Raises `InputError`
        where that are too many continuations to sum over.
        """
        upcoming = torch.stack(upcoming_labels(batch, self.window + 1), -1)  # (B, T, window + 1)
        ids, probabilities = token_order(upcoming)
        ahead = (upcoming != IGNORED).sum(-1)  # (B, T)
        means = [mean_token_order(source, n).log() for n in range(int(ahead.max()), 0, -1)]  # the largest first
        symbols, others = (one.clamp(max=source.symbols - 1) for one in (batch["input_ids"], ids))
        log_mean = torch.stack(means[::-1])[(ahead - 1).clamp(min=0), symbols].gather(-1, others)
        costs = -(probabilities * log_mean.masked_fill(probabilities == 0, 0)).sum(-1)
        in_loss = upcoming[..., 0] != IGNORED
        return {"logits": next_token_floor(source, batch), "order": (costs * in_loss).sum(1)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Continue a text by the trunk, one token after the other: the second table only taught it."""
        return continue_text(part_of(model, "trunk"), tokenizer, text, **sampling)


def token_order(upcoming: Tensor) -> SoftLabels:
    """The order of upcoming tokens (..., n), the nearest first, as a distribution over their ids; -100 is no token.

    Of an id that comes up twice the nearer one counts. Probabilities are 0 where there is no token at all.

    >>> import torch
    >>> from clozelab.objectives.token_order import token_order
    >>> token_order(torch.tensor([3, 1, 3, 2])).probabilities
    tensor([0.7054, 0.2595, 0.0000, 0.0351])
    """
    n = upcoming.shape[-1]
    counts = upcoming != IGNORED
    for d in range(1, n):
        counts[..., d] &= (upcoming[..., :d] != upcoming[..., d : d + 1]).all(-1)
    distance = torch.arange(n, dtype=torch.float32, device=upcoming.device)
    probabilities = (-distance).expand(upcoming.shape).masked_fill(~counts, -torch.inf).softmax(-1)
    return SoftLabels(upcoming.clamp(min=0), probabilities.masked_fill(~counts, 0))


def mean_token_order(source: MarkovSource, n: int) -> Tensor:
    """(K, K) float64: the mean of `token_order` over all continuations of n symbols, given the symbol before them.

    Raises `InputError` for more than `MOST_CONTINUATIONS` of them.
    """
    k = source.symbols
    if k**n > MOST_CONTINUATIONS:
        raise InputError(
            f"the exact floor is a sum over all {n} upcoming symbols, and {k}^{n} are too many: choose a smaller window"
        )
    continuations = torch.cartesian_prod(*[torch.arange(k)] * n).view(-1, n)  # (N, n)
    ids, probabilities = token_order(continuations)
    targets = torch.zeros(len(ids), k, dtype=torch.float64).scatter_add_(1, ids, probabilities.double())
    first = source.transition[:, continuations[:, 0]]  # (K, N)
    rest = source.transition[continuations[:, :-1], continuations[:, 1:]].prod(1)  # (N,)
    return first * rest @ targets
