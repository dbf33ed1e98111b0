"""Fill-in-the-middle: move a middle to the end, read from the left, predict every next token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..data.examples import Batch, Examples
from ..data.rearrangement import rearrange_documents
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..generation import Completion, complete_middle_text, sample_middle_text
from ..languages import MarkovSource
from .causal_lm import check_next_tokens
from .loss import Target, next_token_labels
from .objective import FloorExercise, Likelihood, Objective
from .options import Probability, options

WHETHER, FORM, CUTS = 0, 1, 2  # streams of an example's noise
ROLES = ("fim_prefix", "fim_suffix", "fim_middle", "fim_end")


@options
class FillInTheMiddle(Objective):
    """Cut a text at two places, move its middle to the end, and learn the row from the left like any text.

        text   the  cat  sat  on   the  mat     cut after "cat" and after "on"
        psm    PRE  the  cat  SUF  the  mat  MID  sat  on   END
        spm    PRE  SUF  the  mat  MID  the  cat  sat  on   END
        labels    each row itself, not shifted, as in causal LM

    The model continues texts as a causal one does, and fills a gap of unknown length after reading what follows the
    gap. The cuts are uniform in 0 .. n and may coincide, so a middle may be empty. Each document of a packed row is cut
    separately, and its end of text stays after it. The four role ids make a moved document longer, and the row is
    *widened* rather than cut, since the end of a middle teaches where to stop. The loss is in nats per next token, role
    ids included.

    >>> import torch
    >>> from clozelab import FillInTheMiddle, SpecialIds
    >>> roles = {"fim_prefix": 90, "fim_suffix": 91, "fim_middle": 92, "fim_end": 93}
    >>> special = SpecialIds(vocab_size=94, pad=0, eos=1, roles=roles)
    >>> objective = FillInTheMiddle(fim_rate=1.0, form="psm")
    >>> batch = objective.collator(special).block(torch.arange(10, 16)[None], example_ids=[1])
    >>> batch["input_ids"]
    tensor([[90, 10, 11, 91, 15, 92, 12, 13, 14, 93]])
    >>> objective(torch.zeros(1, 10, 94), batch)  # a uniform guess among 94: each ln 94
    Loss(logits: 4.5433 nats over 9)

    Raises `InputError` for options out of bounds, a vocabulary without the four roles, and a text that contains one of
    them.

    Source: Bavarian et al. 2022 (FIM), sections 3 and 4.
    """

    name, canonical, architecture, colour = "fim", "Codex", "decoder-only", "#E69F00"
    hides, attends_to = "the next token; a middle moved to the end", "what comes before it"
    predicts, completes = "every next token", ("continue", "fill")
    likelihood, roles = Likelihood.BOUND, ROLES
    exercise = FloorExercise(symbols=6, entropy=0.8, length=20, steps=6000, batch_size=64, learning_rate=4e-3)

    fim_rate: Probability = 0.5
    """Share of the documents whose middle is moved."""
    form: Literal["psm", "spm", "joint"] = "joint"
    """Prefix, suffix, middle; or suffix, prefix, middle; or each for half of the moved documents."""

    def corrupt(self, examples: Examples) -> Batch:
        ids = RoleIds.of(examples.special)
        # One number a document for whether and how, two for its cuts; documents are numbered within their row.
        whether, form = examples.uniform(WHETHER) < self.fim_rate, examples.uniform(FORM) < self.spm_share
        cuts = examples.noise.uniform(CUTS, 2 * examples.tokens.shape[1]).unflatten(1, (-1, 2))

        def move(b: int, d: int, document: list[int]) -> list[int]:
            if not bool(whether[b, d]):
                return document
            first, second = sorted((cuts[b, d] * (len(document) + 1)).long().tolist())
            return move_middle(document, first, second, ids, spm=bool(form[b, d]))

        return rearrange_documents(examples, move, marks=ids)

    @property
    def spm_share(self) -> float:
        """Share of the moved documents whose suffix comes first."""
        return {"psm": 0.0, "spm": 1.0, "joint": 0.5}[self.form]

    def source_length(self, length: int) -> int:
        """Four tokens less than the row: room for the roles of one moved document."""
        if length <= len(ROLES):
            raise InputError(
                f"a row of {length} tokens has no text between the {len(ROLES)} role ids: use a longer one"
            )
        return length - len(ROLES)

    def targets(self, batch: Batch) -> dict[str, Target]:
        return {"logits": Target(next_token_labels(batch))}

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        super().check_batch(batch)
        check_next_tokens(batch)

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        """-ln p(text) - ln p(cuts and form, as far as the row tells them), given the row's first token."""
        ids, nats = RoleIds.of(special), []
        for row, is_token in zip(batch["input_ids"], batch["attention_mask"]):
            tokens = row[is_token != 0].tolist()
            text, before, after = restore_middle(tokens, ids)
            cost = -source.log_prob(torch.tensor(text))
            if tokens[0] == ids.prefix:
                cost = cost - math.log(self._cut_probability(len(text), before, after))
            else:
                cost = cost + source.stationary[text[0]].log()
            nats.append(cost)
        return {"logits": torch.stack(nats)}

    def _cut_probability(self, n: int, before: int, after: int) -> float:
        """Of the forms and cuts that give a moved row of n tokens with so many of them before and behind SUF.

        Two cuts lie at each pair of places in two orders, and at one place in one. SPM does not show the first cut;
        with nothing before it, PSM looks like SPM.
        """
        psm = 2 if before + after < n else 1
        spm = 2 * (n - after) + 1 if before == 0 else 0
        return ((1 - self.spm_share) * psm + self.spm_share * spm) / (n + 1) ** 2

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the one blank `___` of a text with as many tokens as the model predicts, or continue one without."""
        return complete_middle_text(model, tokenizer, text, suffix_first=self.form == "spm", **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Take the middle third out of a text and fill it."""
        return sample_middle_text(model, tokenizer, text, suffix_first=self.form == "spm", **sampling)


class RoleIds(NamedTuple):
    """The four ids of a moved document."""

    prefix: int
    suffix: int
    middle: int
    end: int

    @classmethod
    def of(cls, special: SpecialIds) -> RoleIds:
        """Those of a vocabulary; raises `InputError` where it lacks one."""
        return cls(*(special[role] for role in ROLES))


def move_middle(text: Sequence[int], first: int, second: int, ids: RoleIds, *, spm: bool) -> list[int]:
    """A text (n,) cut at two places as a row of n + 4 ids.

    >>> from clozelab.objectives.fill_in_the_middle import RoleIds, move_middle
    >>> ids = RoleIds(90, 91, 92, 93)
    >>> move_middle([10, 11, 12, 13, 14, 15], 2, 4, ids, spm=False)
    [90, 10, 11, 91, 14, 15, 92, 12, 13, 93]
    >>> move_middle([10, 11, 12, 13, 14, 15], 2, 4, ids, spm=True)
    [90, 91, 14, 15, 92, 10, 11, 12, 13, 93]
    """
    prefix, middle, suffix = text[:first], text[first:second], text[second:]
    if spm:
        return [ids.prefix, ids.suffix, *suffix, ids.middle, *prefix, *middle, ids.end]
    return [ids.prefix, *prefix, ids.suffix, *suffix, ids.middle, *middle, ids.end]


def restore_middle(row: Sequence[int], ids: RoleIds) -> tuple[list[int], int, int]:
    """The inverse of `move_middle`: the text, and how many of its tokens stand before SUF and behind it.

    A row that was not moved is its own text.

    >>> from clozelab.objectives.fill_in_the_middle import RoleIds, restore_middle
    >>> restore_middle([90, 10, 11, 91, 14, 15, 92, 12, 13, 93], RoleIds(90, 91, 92, 93))
    ([10, 11, 12, 13, 14, 15], 2, 2)

    Raises `InputError` for a moved row whose end was cut.
    """
    row = list(row)
    if row[0] != ids.prefix:
        return row, len(row), 0
    if row[-1] != ids.end or ids.suffix not in row or ids.middle not in row:
        raise InputError(f"this row was moved, and its end was cut: it ends in {row[-3:]} and not in {ids.end}")
    suffix, middle = row.index(ids.suffix), row.index(ids.middle)
    return row[1:suffix] + row[middle + 1 : -1] + row[suffix + 1 : middle], suffix - 1, middle - suffix - 1
