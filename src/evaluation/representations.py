"""Representations: one vector per text from a model's hidden states, and how much of a label it holds.

`embed` makes the vector; `linear_probe` and `nearest_neighbours` measure how well a label follows from it, by a linear
classifier and by distance. `bag_of_words` is the baseline: a vector of token counts alone, which a representation must
beat.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import WHOLE, check_int, check_tensor
from ..data.special_ids import MAX_IDS
from ..errors import InputError
from ..models import EncoderDecoder, eval_mode
from ..models.language_model import check_flags


def embed(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    pool: str = "mean",
    batch_size: int = 64,
) -> Tensor:
    """The mean of a model's last hidden states over the tokens of each text: (B, D) of texts (B, T).

    `pool="last"` takes the last token's alone, the only one that attends to the whole text in a causal model. An
    encoder-decoder gives its encoder's. Padding is left out; there is no dropout and there are no gradients.

    >>> import torch
    >>> from clozelab.evaluation import embed
    >>> from clozelab.models import build
    >>> embed(build("encoder-only", "tiny", vocab_size=50), torch.tensor([[7, 8, 9], [7, 8, 0]])).shape
    torch.Size([2, 128])

    Raises `InputError` for a text without tokens, for another `pool`, and for a model that returns no hidden states, as
    those of Hugging Face. Source: Reimers and Gurevych 2019 (Sentence-BERT), section 3.
    """
    mask = _mask_of(input_ids, attention_mask)
    if not bool(mask.any(1).all()):
        raise InputError("expected at least one token in each text: an empty text has no representation")
    if pool not in ("mean", "last"):
        raise InputError(f"pool must be mean or last, got {pool!r}")
    encode = model.encode if isinstance(model, EncoderDecoder) else model
    batch_size = check_int(batch_size, "batch_size", 1)
    parts = []
    with eval_mode(model):
        for ids, is_token in zip(input_ids.split(batch_size), mask.split(batch_size)):
            hidden = encode(ids, is_token)  # (b, T, D)
            if not isinstance(hidden, Tensor):
                raise InputError(f"expected a model that returns hidden states (B, T, D), got {type(hidden).__name__}")
            if pool == "last":
                last = (is_token * torch.arange(1, ids.shape[1] + 1, device=ids.device)).argmax(1)  # (b,)
                parts.append(hidden[torch.arange(len(hidden), device=last.device), last].float())
            else:
                parts.append((hidden.float() * is_token[..., None]).sum(1) / is_token.sum(1, keepdim=True))
    return torch.cat(parts)


def bag_of_words(input_ids: Tensor, attention_mask: Tensor | None, vocab_size: int) -> Tensor:
    """(B, V): the square roots of the counts of each id in each text (B, T), scaled to length one.

    >>> import torch
    >>> from clozelab.evaluation import bag_of_words
    >>> bag_of_words(torch.tensor([[2, 2, 0]]), torch.tensor([[1, 1, 0]]), vocab_size=3)
    tensor([[0., 0., 1.]])

    Raises `InputError` for ids outside the vocabulary.
    """
    check_int(vocab_size, "vocab_size", 1, MAX_IDS)
    mask = _mask_of(input_ids, attention_mask)
    if input_ids.numel() and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < vocab_size:
        raise InputError(f"ids must lie in 0 .. {vocab_size - 1}, got {int(input_ids.min())} .. {int(input_ids.max())}")
    counts = torch.zeros(len(input_ids), vocab_size).scatter_add_(1, input_ids, mask.float())
    return F.normalize(counts.sqrt(), dim=1)


def linear_probe(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, decay: float = 1e-3) -> float:
    """Accuracy of a linear classifier on test vectors (N, D) with labels (N,), fitted to the training vectors.

    Logistic regression on standardised features, with weight decay, fitted to its optimum (L-BFGS), so that nothing
    depends on a seed or a learning rate.

    >>> import torch
    >>> from clozelab.evaluation import linear_probe
    >>> points = torch.tensor([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.1]])
    >>> linear_probe(points, torch.tensor([0, 0, 1, 1]), points, torch.tensor([0, 0, 1, 1]))
    1.0

    Raises `InputError` for vectors and labels that do not fit together, vectors that are not finite, and labels other
    than classes 0, 1, ... Source: Alain and Bengio 2016, section 3.
    """
    _check(train, labels, test, test_labels)
    mean, scale = train.mean(0), train.std(0, correction=0).clamp(min=1e-6)
    train, test = (train - mean) / scale, (test - mean) / scale
    classes, labels = labels.long().unique(return_inverse=True)  # a classifier of those that there are
    weight = torch.zeros(len(classes), train.shape[1], requires_grad=True)
    bias = torch.zeros(len(classes), requires_grad=True)
    fit = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        fit.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), labels) + decay * weight.square().sum()
        loss.backward()
        return loss

    fit.step(closure)
    return float((classes[F.linear(test, weight, bias).argmax(1)] == test_labels).float().mean())


def nearest_neighbours(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Share of test vectors (N, D) whose nearest training vector, by cosine, has their label. Nothing is fitted.

    >>> import torch
    >>> from clozelab.evaluation import nearest_neighbours
    >>> nearest_neighbours(torch.eye(2), torch.tensor([0, 1]), torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
    1.0

    Raises `InputError` for what `linear_probe` refuses.
    """
    _check(train, labels, test, test_labels)
    mean = train.mean(0)  # common to all texts, so it distinguishes none
    near = F.normalize(test - mean, dim=1) @ F.normalize(train - mean, dim=1).T  # (N, M)
    return float((labels[near.argmax(1)] == test_labels).float().mean())


def _mask_of(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """(B, T), 1 for a token and 0 for padding."""
    check_tensor(input_ids, "input_ids", "(B, T)", WHOLE)
    check_flags(input_ids, attention_mask=attention_mask)
    return torch.ones_like(input_ids) if attention_mask is None else attention_mask


def _check(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> None:
    for vectors, names, what in ((train, labels, "to learn from"), (test, test_labels, "to test on")):
        check_tensor(vectors, f"the vectors {what}", "(..., D)")
        check_tensor(names, f"the labels {what}", "(..., N)")
        if vectors.dim() != 2 or names.shape != vectors.shape[:1] or not len(vectors):
            raise InputError(
                f"expected vectors (N, D) and a label (N,) for each, at least one, got {tuple(vectors.shape)} and "
                f"{tuple(names.shape)} {what}"
            )
        if not (vectors.is_floating_point() and bool(vectors.isfinite().all())):
            raise InputError(f"expected vectors of finite numbers {what}: did the model diverge?")
        if names.is_floating_point() or int(names.long().min()) < 0:
            raise InputError(f"expected labels 0, 1, ... {what}, got {names.dtype} from {names.min()} on")
    if train.shape[1] != test.shape[1]:
        raise InputError(f"expected vectors of one size, got {train.shape[1]} to learn from and {test.shape[1]}")
