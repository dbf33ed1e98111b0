"""Does a model read what it must not? Change one input token and see which outputs move.

The answer is a matrix, read like those of `clozelab.models.visibility`: row t is an output, column s an input, and
`moved[t, s]` says that changing input s changed output t. Beside it stands what was declared. An output that moves
with an input which it may not read is a leak, and a leak is proved by one example; that there is none is shown only for
the ids and weights that were tried.

Comparison is exact, to the bit. That is fair because the unchanged row is computed in a batch of the same shape and at
the same place in it as the changed one, so that the same instructions run on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import check_int, check_number, check_tensor, check_type
from ..errors import InputError
from ..models.attention_mask import Visibility
from ..objectives import Objective
from ..objectives.objective import MODEL_KEYS
from .scoring import in_full_precision

Output = str | Callable[[Any], Tensor] | None
"""Which output is watched: by the name of an attribute, or a function of what the model returns."""

RULES = ("causal", "full")


@dataclass(frozen=True, eq=False)
class LeakReport:
    """Which outputs moved with which inputs, beside which may.

    >>> moved = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 1, 1]]).bool()
    >>> report = LeakReport(moved, torch.ones(3, 3).tril().bool())
    >>> report.leaks, report.blind, report.passed
    ([(1, 2)], [(2, 0)], False)
    >>> print(report)
    LEAK: output 1 moves with input 2, which it may not read
    x . .
    x x !
    o x x
    x moves and may; ! moves and may not; o may and never moved
    """

    moved: Tensor
    """(T, S) bool: output t moved with input s."""
    declared: Tensor
    """(T, S) bool: output t may move with input s, through all layers."""
    perturbed: str = "input_ids"
    """Which input was changed."""
    across_rows: bool = False
    """Whether a row that was not changed moved with another row of its batch."""

    @property
    def leaks(self) -> list[tuple[int, int]]:
        """(output, input) that moved and may not."""
        return _pairs(self.moved & ~self.declared)

    @property
    def blind(self) -> list[tuple[int, int]]:
        """(output, input) that may and never moved: no fault by itself, but there a leak would not be seen either."""
        return _pairs(self.declared & ~self.moved)

    @property
    def sees_nothing(self) -> bool:
        """Whether others may be read, and none was: nothing can be said about leaks."""
        others = self.declared.clone()
        if len(others) == others.shape[1]:
            others.fill_diagonal_(
                False
            )  # that an output moves with its own token, by the residual stream, says nothing
        return bool(others.any()) and not bool((others & self.moved).any())

    @property
    def passed(self) -> bool:
        """No leak, in a model that does read."""
        return not (self.leaks or self.across_rows or self.sees_nothing)

    @property
    def verdict(self) -> str:
        """One line: "as declared", "LEAK: ..." or "blind: ..."."""
        if self.across_rows:  # first, since then nobody knows whose change moved what
            return "LEAK: a row moves with another row of its batch (statistics over the batch, or a shared state?)"
        if self.leaks:
            (output, input), more = self.leaks[0], len(self.leaks) - 1
            others = f" (and {more} more {'pair' if more == 1 else 'pairs'})" if more else ""
            return f"LEAK: output {output} moves with input {input}, which it may not read{others}"
        if self.sees_nothing:
            return (
                "blind: no output moved with another's input, so nothing is shown: is the model untrained, with "
                "projections that start at zero? Train it, or give it random weights"
            )
        if self.blind:
            output, input = self.blind[0]
            return (
                f"as declared, but blind to {len(self.blind)} of {int(self.declared.sum())} declared pairs, such as "
                f"output {output} with input {input}"
            )
        return "as declared"

    def __str__(self) -> str:
        if max(self.moved.shape) > 64:
            return self.verdict
        signs = {(True, True): "x", (True, False): "!", (False, True): "o", (False, False): "."}
        lines = [
            " ".join(signs[pair] for pair in zip(*row)) for row in zip(self.moved.tolist(), self.declared.tolist())
        ]
        key = "x moves and may; ! moves and may not; o may and never moved"
        return "\n".join([self.verdict, *lines, key])


def probe(
    model: nn.Module,
    inputs: Mapping[str, Any],
    *,
    perturb: str = "input_ids",
    declared: str | Tensor | None = None,
    output: Output = None,
    ids: Sequence[int] | Tensor | None = None,
    alternatives: int = 3,
    tolerance: float = 0.0,
    batch_size: int = 64,
) -> LeakReport:
    """Change one input token at a time, see which outputs move, and compare with what is declared.

    - `inputs`: what the model takes, one row: `input_ids` (1, S), `attention_mask`, `document_ids`,
      `decoder_input_ids` (1, T), ... Labels are not given to it;
    - `perturb`: whose tokens are changed. With `input_ids` of an encoder-decoder it is cross-attention that is probed;
    - `declared`: who may move whom. None asks the model's own `visibility`, which ours have. "causal" and "full" are
      rules for any model, on which `attention_mask` and `document_ids` (and the decoder's) are laid; a bool matrix
      (T, S) is taken as it is, over all layers: `reach` makes it from what one layer may read;
    - `output`: which output is watched. None: the tensor that a model returns, else `.logits`, else
      `.last_hidden_state`; else the name of an attribute, or a function from what the model returns to (B, T, ...);
    - `ids`: what may stand in place of a token, by default the whole vocabulary without the padding id. Each token is
      replaced by `alternatives` of them in turn, so that a coincidence cannot hide a leak;
    - `tolerance`: how far an output may go without having moved. Zero, to the bit, unless a device's sums come out
      differently from run to run;
    - `batch_size`: rows that a model reads at a time; one of them is an unchanged control, which must not move.

    >>> from clozelab.models import DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=20, d_model=16, n_layers=2, n_heads=2))
    >>> print(probe(model, {"input_ids": torch.tensor([[7, 8, 9]])}).verdict[:38])  # blocks begin as the identity
    blind: no output moved with another's
    >>> for weight in model.parameters():
    ...     _ = torch.nn.init.normal_(weight, std=0.3)
    >>> print(probe(model, {"input_ids": torch.tensor([[7, 8, 9]])}))
    as declared
    x . .
    x x .
    x x x
    x moves and may; ! moves and may not; o may and never moved

    Raises `InputError` for more than one row, a declaration that is missing or of another shape, a model whose output
    is not the same twice or not a number, and a vocabulary with nothing to replace a token by.
    """
    check_number(tolerance, "tolerance")
    check_int(alternatives, "alternatives")
    check_int(batch_size, "batch_size")
    check_type(model, nn.Module, "the model")
    check_type(inputs, Mapping, "the inputs")
    if tolerance < 0 or alternatives < 1 or batch_size < 1:
        raise InputError(
            "expected tolerance >= 0, alternatives >= 1 and batch_size >= 1, got "
            f"{tolerance}, {alternatives} and {batch_size}"
        )
    row = {key: value for key, value in inputs.items() if key != "labels" and value is not None}
    if not isinstance(row.get(perturb), Tensor) or row[perturb].dim() != 2:
        raise InputError(f"expected inputs with {perturb!r} (1, S), got {sorted(row)}")
    if any(isinstance(value, Tensor) and value.shape[:1] != (1,) for value in row.values()):
        raise InputError("expected one row: give {key: value[:1] ...} of a batch")
    tokens = row[perturb][0]  # (S,)
    places, changed = _replacements(model, tokens, ids, alternatives)  # (N,), (N,)
    rows = min(batch_size, len(places) + 1)
    controls = min(rows - 1, 1)

    def run(perturbed: Tensor) -> Tensor:
        copies = {key: _repeat(value, rows) for key, value in row.items()}
        outputs = _watched(model(**{**copies, perturb: perturbed}), output)
        if outputs.dim() < 2 or len(outputs) != rows:
            raise InputError(f"expected an output (B, T, ...) for each of {rows} rows, got {tuple(outputs.shape)}")
        return outputs.flatten(2) if outputs.dim() > 2 else outputs[..., None]

    across = False
    with in_full_precision(model):
        unchanged = tokens.repeat(rows, 1)
        before = run(unchanged)
        if bool(before.isnan().any()):
            raise InputError("some outputs are NaN, and NaN moves with nothing: leave padding out, or mend the model")
        if bool(_differ(before, run(unchanged), tolerance).any()):
            raise InputError(
                "the same input gives another output the second time, by more than the tolerance: does the model draw "
                "at random, or remember? For sums that come out differently on an accelerator, give a tolerance"
            )
        moved = torch.zeros(len(tokens), before.shape[1], dtype=torch.int64, device=before.device)  # counts, (S, T)
        for at, put in zip(places.split(max(rows - 1, 1)), changed.split(max(rows - 1, 1))):
            perturbed = unchanged.clone()
            at_rows = torch.arange(len(at), device=at.device) + controls
            perturbed[at_rows, at] = put
            differs = _differ(before, run(perturbed), tolerance)  # (rows, T)
            moved.index_add_(0, at, differs[at_rows].long())
            differs[at_rows] = False
            across |= bool(differs.any())
    seen = (moved.T > 0).cpu()  # (T, S)
    if isinstance(declared, Tensor):
        may = declared.cpu()
    else:
        to_encoder = isinstance(output, str) and output.startswith("encoder")
        may = _declare(model, declared, row, perturb, to_encoder).cpu()
    if may.dtype != torch.bool or may.shape != seen.shape:
        raise InputError(
            f"expected a declaration {tuple(seen.shape)} of bools, a row for each output and a column for each input, "
            f"got {may.dtype} {tuple(may.shape)}"
        )
    return LeakReport(seen, may, perturb, across)


def probe_objective(
    objective: Objective,
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    row: int = 0,
    ids: Sequence[int] | Tensor | None = None,
    **settings: Any,
) -> dict[str, LeakReport]:
    """`probe` every stream of a batch: {"input_ids": report}, and "decoder_input_ids" where there is one.

    Declared is what the *objective* allows: from the left for a decoder, both sides for an encoder, on the batch's own
    padding and documents. So a model of ours whose mask was taken away is found too, which its own `visibility` would
    excuse. Works for any model that takes the keys of a batch by name. `settings` go to `probe`.

    >>> from clozelab.objectives import CausalLM
    >>> objective, special = CausalLM(), SpecialIds(vocab_size=20, pad=0, eos=1)
    >>> model = objective.build_model(20, "tiny", d_model=16, n_layers=1, n_heads=2)
    >>> for weight in model.parameters():
    ...     _ = torch.nn.init.normal_(weight, std=0.3)
    >>> batch = objective.collator(special).block(torch.tensor([[5, 6, 7]]), [0])
    >>> {stream: report.verdict for stream, report in probe_objective(objective, model, batch).items()}
    {'input_ids': 'as declared'}

    Raises `InputError` as `probe` does, and for an objective of an unknown architecture.
    """
    check_type(objective, Objective, "the objective")
    check_type(batch, Mapping, "the batch")
    rules = {
        "decoder-only": {"input_ids": "causal"},
        "encoder-only": {"input_ids": "full"},
        "encoder-decoder": {"input_ids": "full", "decoder_input_ids": "causal"},
    }
    if objective.architecture not in rules:
        raise InputError(f"expected an objective of {' or '.join(rules)}, got {objective.architecture!r}: use probe")
    inputs = {key: batch[key][row : row + 1] for key in MODEL_KEYS if key in batch}
    return {
        stream: probe(model, inputs, perturb=stream, declared=rule, ids=ids, **settings)
        for stream, rule in rules[objective.architecture].items()
    }


def reach(readable: Tensor, layers: int | None = None) -> Tensor:
    """(T, T) bool: what may move an output through `layers` layers, each of which reads by `readable` (T, T) bool.

    A token carries its own past along (the residual stream), and hands on what it has read. Causal, full and document
    masks reach no further by that, but a window does:

    >>> window = torch.ones(4, 4).tril().triu(-1).bool()  # itself and the one before it
    >>> reach(window, n_layers=2).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1]], dtype=torch.int32)

    `layers=None`: as many as it takes until nothing is added. Raises `InputError` for another shape.
    """
    check_tensor(readable, "who may read whom", "(..., T)")
    if readable.dim() != 2 or readable.shape[0] != readable.shape[1] or readable.dtype != torch.bool:
        raise InputError(f"expected who may read whom (T, T) of bools, got {readable.dtype} {tuple(readable.shape)}")
    step = readable | torch.eye(len(readable), dtype=torch.bool, device=readable.device)
    reached = torch.eye(len(readable), dtype=torch.bool, device=readable.device)
    for _ in range(len(readable) if layers is None else layers):
        further = _through(reached, step)
        if bool((further == reached).all()):
            break
        reached = further
    return reached


# --------------------------------------------------------------------------- what is declared


def _declare(model: nn.Module, rule: str | None, row: Mapping[str, Any], perturb: str, to_encoder: bool) -> Tensor:
    """(T, S) bool, through all layers: by the model's own visibility, or by a rule and the flags of the row."""
    if rule is None:
        if not hasattr(model, "visibility"):
            raise InputError(
                f"{type(model).__name__} does not say who may read whom: give declared='causal', 'full' or a bool "
                "matrix (outputs, inputs)"
            )
        seen: Any = model.visibility(**row)  # type: ignore[operator]
        if isinstance(seen, Tensor):
            return reach(seen[0])
        encoder, decoder, cross = (seen[name][0] for name in ("encoder", "decoder", "cross"))
    else:
        if rule not in RULES:
            raise InputError(f"expected declared to be {' or '.join(map(repr, RULES))} or a matrix, got {rule!r}")
        text, said = row["input_ids"], row.get("decoder_input_ids")
        flags = (row.get("attention_mask"), row.get("document_ids"))
        if said is None:
            return reach(_readable(text, text, rule, flags[0], flags[1], flags[1]))
        # In an encoder-decoder the rule is that of the stream which is changed; the other stream has its usual one.
        documents = row.get("decoder_document_ids")
        encoder = _readable(text, text, rule if to_encoder else "full", flags[0], flags[1], flags[1])
        own = rule if perturb == "decoder_input_ids" else "causal"
        decoder = _readable(said, said, own, row.get("decoder_attention_mask"), documents, documents)
        cross = _readable(said, text, "full", flags[0], documents, flags[1])
        if rule == "causal" and perturb == "input_ids" and not to_encoder:
            raise InputError("a decoder reads the encoder's tokens from no side: declare 'full' or a matrix")
    if perturb == "decoder_input_ids":
        return reach(decoder)
    return reach(encoder) if to_encoder else _through(_through(reach(decoder), cross), reach(encoder))


def _readable(
    queries: Tensor, keys: Tensor, rule: str, mask: Tensor | None, of_queries: Tensor | None, of_keys: Tensor | None
) -> Tensor:
    """(T, S) bool: what one layer may read."""
    return Visibility.of(
        queries.shape[1],
        keys.shape[1],
        causal=rule == "causal",
        device=keys.device,
        attention_mask=mask,
        query_documents=of_queries,
        key_documents=of_keys,
    ).matrix_of(1)[0]


def _through(first: Tensor, second: Tensor) -> Tensor:
    """(T, U) and (U, S) bool -> (T, S): what is read by those whom one reads."""
    return (first.float() @ second.float()) > 0


# --------------------------------------------------------------------------- what is changed, and what moves


def _replacements(
    model: nn.Module, tokens: Tensor, ids: Sequence[int] | Tensor | None, alternatives: int
) -> tuple[Tensor, Tensor]:
    """Places (N,) and the ids (N,) that are put there: up to `alternatives` for each token, spread over all others."""
    if ids is None:
        candidates = torch.arange(_vocabulary(model))
        pad = getattr(getattr(model, "config", None), "pad_token_id", None)  # some count positions by it
        if isinstance(pad, int):
            candidates = candidates[candidates != pad]
    else:
        candidates = torch.as_tensor(ids).flatten().cpu().unique()
    places, changed = [], []
    for place, token in enumerate(tokens.tolist()):
        others = candidates[candidates != token]
        count = min(alternatives, len(others))
        if not count:
            raise InputError(f"nothing can stand in place of token {token}: give more ids than that one")
        spread = torch.arange(count) * len(others) // count + place
        places += [place] * count
        changed.append(others[spread % len(others)])
    if not changed:
        raise InputError("there is no token to change: the row is empty")
    return torch.tensor(places, device=tokens.device), torch.cat(changed).to(tokens)


def _vocabulary(model: nn.Module) -> int:
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if isinstance(size, int):
        return size
    tables = [module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)]
    if not tables:
        raise InputError(f"the vocabulary of {type(model).__name__} is not known: give ids that may replace a token")
    if len(tables) > 1:
        raise InputError(f"{type(model).__name__} has tables of {tables} entries: give ids that may replace a token")
    return tables[0]


def _repeat(value: Any, rows: int) -> Any:
    return value.repeat(rows, *[1] * (value.dim() - 1)) if isinstance(value, Tensor) else value


def _watched(outputs: Any, output: Output) -> Tensor:
    if callable(output):
        return output(outputs)
    if output is not None:
        watched = getattr(outputs, output, None)
        if not isinstance(watched, Tensor):
            raise InputError(f"{type(outputs).__name__} has no tensor {output!r} to watch")
        return watched
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(outputs, name, None), Tensor):
            return getattr(outputs, name)
    raise InputError(f"which output of {type(outputs).__name__} is watched? Give output=, a name or a function")


def _differ(before: Tensor, after: Tensor, tolerance: float) -> Tensor:
    """(B, T, ...) twice -> (B, T) bool: where any number went further than `tolerance`, or became NaN."""
    near = before == after
    if tolerance:
        near |= (before - after).abs() <= tolerance
    return ~near.all(-1)


def _pairs(matrix: Tensor) -> list[tuple[int, int]]:
    return [(int(t), int(s)) for t, s in matrix.nonzero()]
