"""Does a model depend on what it must not? Change one input token and see which outputs move.

The result is a matrix, read like an attention matrix: row t is an output, column s an input, and `moved[t, s]` says
that changing input s changed output t. Beside it stands what is declared. An output that moves with an input that it
may not read is a leak. One example proves a leak; that there is none is shown only for the ids and weights that were
tried.

Comparison is exact, to the bit: the unchanged row is computed in a batch of the same shape and at the same place in it
as the changed one, so that the same instructions run on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import FLAGS, check_int, check_number, check_tensor, check_type
from ..errors import InputError
from ..objectives import Objective, Prediction
from ..objectives.model_calls import predictions
from .perturbation import candidate_ids, check_steady, differ, never_reach, repeat, replacements
from .receptive_field import declared_reads
from .scoring import in_full_precision

Output = str | Callable[[Any], Tensor] | None
"""Which output is watched: the name of an attribute, or a function of what the model returns."""


@dataclass(frozen=True, eq=False)
class LeakReport:
    """Which outputs moved with which inputs, beside what is declared.

    >>> import torch
    >>> from clozelab.evaluation import LeakReport
    >>> moved = torch.tensor([[1, 0, 0], [1, 1, 1], [0, 1, 1]]).bool()
    >>> report = LeakReport(moved, torch.ones(3, 3).tril().bool())
    >>> report.leaks, report.blind, report.passed, report.equal
    ([(1, 2)], [(2, 0)], False, False)
    >>> print(report)
    LEAK: output 1 moves with input 2, which it may not read
    x . .
    x x !
    o x x
    x moves, as declared; ! moves and may not; o is declared and did not move
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
        """(output, input) that is declared and did not move. A model may use less than it may read, but an objective
        whose prefix is read from the left alone shows here, and a leak at such a pair would not be seen."""
        return _pairs(self.declared & ~self.moved)

    @property
    def equal(self) -> bool:
        """Whether what moved is what is declared, as it must be for random weights in double precision."""
        return not self.across_rows and torch.equal(self.moved, self.declared)

    @property
    def inconclusive(self) -> bool:
        """Whether other tokens may be read, and none was: nothing is known about leaks."""
        others = self.declared.clone()
        if len(others) == others.shape[1]:
            others.fill_diagonal_(False)  # the residual stream alone moves an output with its own token
        return bool(others.any()) and not bool((others & self.moved).any())

    @property
    def passed(self) -> bool:
        """No leak, in a model that attends to other tokens at all."""
        return not (self.leaks or self.across_rows or self.inconclusive)

    @property
    def verdict(self) -> str:
        """One line: "as declared", "LEAK: ..." or "blind: ..."."""
        if self.across_rows:  # first: which change moved what is then unknown
            return "LEAK: a row moves with another row of its batch (statistics over the batch, or a shared state?)"
        if self.leaks:
            (output, source), more = self.leaks[0], len(self.leaks) - 1
            others = f" (and {more} more {'pair' if more == 1 else 'pairs'})" if more else ""
            return f"LEAK: output {output} moves with input {source}, which it may not read{others}"
        if self.inconclusive:
            return (
                "blind: no output moved with another token, so nothing is known about leaks: is the model untrained, "
                "with projections that start at zero? Train it, or give it random weights"
            )
        if self.blind:
            output, source = self.blind[0]
            return (
                f"as declared, but blind to {len(self.blind)} of {int(self.declared.sum())} declared pairs, such as "
                f"output {output} with input {source}"
            )
        return "as declared"

    def __str__(self) -> str:
        if max(self.moved.shape) > 64:
            return self.verdict
        signs = {(True, True): "x", (True, False): "!", (False, True): "o", (False, False): "."}
        lines = [
            " ".join(signs[pair] for pair in zip(*row)) for row in zip(self.moved.tolist(), self.declared.tolist())
        ]
        key = "x moves, as declared; ! moves and may not; o is declared and did not move"
        return "\n".join([self.verdict, *lines, key])


def probe(
    model: nn.Module,
    inputs: Mapping[str, Any],
    *,
    perturb: str = "input_ids",
    declared: Tensor | None = None,
    output: Output = None,
    is_token: Tensor | None = None,
    ids: Sequence[int] | Tensor | None = None,
    alternatives: int = 3,
    tolerance: float = 0.0,
    batch_size: int = 64,
) -> LeakReport:
    """Change one input token at a time, see which outputs move, and compare with what is declared.

    - `inputs`: what the model takes, one row: `input_ids` (1, S), `attention_mask`, `document_ids`,
      `decoder_input_ids` (1, T), ...;
    - `perturb`: whose tokens are changed. With `input_ids` of an encoder-decoder it is cross-attention that is probed;
    - `declared`: a bool matrix (T, S), which inputs may move which outputs, through all layers. None asks the model's
      own `attention_matrix`, which our models have;
    - `output`: which output is watched. None: the tensor that a model returns, else `.logits`, else
      `.last_hidden_state`; else the name of an attribute, or a function from what the model returns to (B, T, ...);
    - `is_token` (T,) bool: False for outputs at padding, which the report leaves out;
    - `ids`: what may replace a token, by default the whole vocabulary without the padding id. Each token is replaced
      by `alternatives` of them in turn, so that a coincidence cannot hide a leak;
    - `tolerance`: how far an output may change without having moved. Zero, to the bit, unless the sums of a device
      differ from run to run;
    - `batch_size`: rows of a forward pass; one of them is an unchanged control, which must not move.

    >>> import torch
    >>> from clozelab.evaluation import probe
    >>> from clozelab.models import DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=20, d_model=16, n_layers=2, n_heads=2))
    >>> print(probe(model, {"input_ids": torch.tensor([[7, 8, 9]])}).verdict[:35])  # blocks begin as the identity
    blind: no output moved with another
    >>> for weight in model.parameters():
    ...     _ = torch.nn.init.normal_(weight, std=0.3)
    >>> print(probe(model, {"input_ids": torch.tensor([[7, 8, 9]])}))
    as declared
    x . .
    x x .
    x x x
    x moves, as declared; ! moves and may not; o is declared and did not move

    Raises `InputError` for more than one row, a declaration that is missing or of another shape, a model whose output
    differs from run to run or is NaN, and a vocabulary that has no other id for a token.
    """
    row = _checked(model, inputs, perturb, alternatives, tolerance, batch_size)
    tokens = row[perturb][0]  # (S,)
    places, changed = replacements(tokens, candidate_ids(model, ids), alternatives)  # (N,), (N,)
    rows = min(batch_size, len(places) + 1)
    controls = min(rows - 1, 1)

    def run(perturbed: Tensor) -> Tensor:
        copies = {key: repeat(value, rows) for key, value in row.items()}
        outputs = _watched(model(**{**copies, perturb: perturbed}), output)
        if outputs.dim() < 2 or len(outputs) != rows:
            raise InputError(f"expected an output (B, T, ...) for each of {rows} rows, got {tuple(outputs.shape)}")
        return outputs

    across = False
    with in_full_precision(model):
        unchanged = tokens.repeat(rows, 1)
        before = run(unchanged)
        check_steady(before, run(unchanged), tolerance)
        moved = torch.zeros(len(tokens), before.shape[1], dtype=torch.int64, device=before.device)  # counts, (S, T)
        for at, put in zip(places.split(max(rows - 1, 1)), changed.split(max(rows - 1, 1))):
            perturbed = unchanged.clone()
            at_rows = torch.arange(len(at), device=at.device) + controls
            perturbed[at_rows, at] = put
            differs = differ(before, run(perturbed), tolerance)  # (rows, T)
            moved.index_add_(0, at, differs[at_rows].long())
            differs[at_rows] = False
            across |= bool(differs.any())
    seen = (moved.T > 0).cpu()  # (T, S)
    if declared is None:
        declared = declared_reads(model, row, perturb, of_encoder=isinstance(output, str) and "encoder" in output)
    may = check_tensor(declared, "the declared matrix", "(T, S)", FLAGS).cpu()
    if may.shape != seen.shape:
        raise InputError(
            f"expected the declared matrix {tuple(seen.shape)}, a row for each output and a column for each input, got "
            f"{tuple(may.shape)}"
        )
    if is_token is not None:
        counted = check_tensor(is_token, "is_token", "(T)", FLAGS).cpu()[:, None]
        seen, may = seen & counted, may & counted
    return LeakReport(seen, may, perturb, across)


def probe_objective(
    objective: Objective,
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    row: int = 0,
    ids: Sequence[int] | Tensor | None = None,
    **settings: Any,
) -> dict[tuple[str, str], LeakReport]:
    """`probe` every pair that an objective declares: {(output, input key): report}, for one row of a batch.

    The declared matrix is `objective.reads(batch)`, by the definition of the objective, so a model whose mask was lost
    is found, which its own `attention_matrix` would excuse. Works for any model that the objective accepts. Outputs at
    padding are left out. An output that reads ids that its model draws may move with an input only if another id was
    drawn. `settings` go to `probe`.

    >>> import torch
    >>> from clozelab import CausalLM, SpecialIds
    >>> from clozelab.evaluation import probe_objective
    >>> objective, special = CausalLM(), SpecialIds(vocab_size=20, pad=0, eos=1)
    >>> model = objective.build_model(20, "tiny", d_model=16, n_layers=1, n_heads=2)
    >>> for weight in model.parameters():
    ...     _ = torch.nn.init.normal_(weight, std=0.3)
    >>> batch = objective.collator(special).block(torch.tensor([[5, 6, 7]]), [0])
    >>> {pair: report.verdict for pair, report in probe_objective(objective, model, batch).items()}
    {('logits', 'input_ids'): 'as declared'}

    Raises `InputError` as `probe` does, and for a row that the batch does not have.
    """
    check_type(objective, Objective, "the objective")
    check_type(model, nn.Module, "the model")
    check_type(batch, Mapping, "the batch")
    rows = len(check_tensor(batch.get("input_ids"), "the input_ids of the batch", "(B, T)"))
    start = check_int(row, "row", 0, rows - 1)
    one = {key: value[start : start + 1] for key, value in batch.items()}
    inputs = objective.model_inputs(model, one)

    settings |= {"is_token": _is_token(one), "ids": ids}
    reports = {}
    for (name, key), declared in objective.reads(one).items():

        def of(returned: Any, name: str = name) -> Prediction:
            return predictions(model, returned)[name]

        report = probe(model, inputs, perturb=key, declared=declared[0], output=lambda one: of(one).states, **settings)
        tried = replacements(inputs[key][0], candidate_ids(model, ids), settings.get("alternatives", 3))
        with in_full_precision(model):
            unread = never_reach(lambda inputs: of(model(**inputs)).sampled, inputs, key, *tried)
        reports[name, key] = report if unread is None else replace(report, declared=report.declared & ~unread)
    return reports


def _is_token(row: Mapping[str, Tensor]) -> Tensor:
    """(T,) bool of a batch of one row: which outputs do not stand at padding."""
    tokens, flags = ("decoder_input_ids", "decoder_attention_mask"), ("input_ids", "attention_mask")
    of_outputs, mask = tokens if "decoder_input_ids" in row else flags
    return row.get(mask, torch.ones_like(row[of_outputs]))[0] != 0


def _checked(
    model: nn.Module, inputs: Mapping[str, Any], perturb: str, alternatives: int, tolerance: float, batch_size: int
) -> dict[str, Any]:
    """The inputs without those that are None."""
    check_type(model, nn.Module, "the model")
    check_type(inputs, Mapping, "the inputs")
    check_int(alternatives, "alternatives", 1)
    check_int(batch_size, "batch_size", 1)
    if not check_number(tolerance, "tolerance") >= 0:
        raise InputError(f"tolerance must be at least 0, got {tolerance}")
    row = {key: value for key, value in inputs.items() if key != "labels" and value is not None}
    if not isinstance(row.get(perturb), Tensor) or row[perturb].dim() != 2:
        raise InputError(f"expected inputs with {perturb!r} (1, S), got {', '.join(sorted(row)) or 'none'}")
    if any(isinstance(value, Tensor) and value.shape[:1] != (1,) for value in row.values()):
        raise InputError("expected one row: give {key: value[:1] ...} of a batch")
    return row


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


def _pairs(matrix: Tensor) -> list[tuple[int, int]]:
    return [(int(t), int(s)) for t, s in matrix.nonzero()]
