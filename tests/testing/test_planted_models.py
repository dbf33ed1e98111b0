"""Each fault that is planted in a model, or in a batch, is found by the check that is named for it."""

import pytest
import torch
from torch import nn

from clozelab import CausalLM, MaskedLM, PrefixLM, SpecialIds
from clozelab.models import DecoderOnly, ModelConfig
from clozelab.testing import CheckFailed, check_objective

V = 60
SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2)


def found(objective, model):
    """The checks that find a fault."""
    with pytest.raises(CheckFailed) as failed:
        check_objective(objective, model)
    return failed.value.report.faults


class DropsTheRank(DecoderOnly):
    """The prefix is read from the left alone: the model takes the rank and forgets it."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, reading_rank=None):
        return super().forward(input_ids, attention_mask, document_ids)


class DropsTheDocuments(DecoderOnly):
    def forward(self, input_ids, attention_mask=None, document_ids=None):
        return super().forward(input_ids, attention_mask)


class DropsThePadding(DecoderOnly):
    causal = False

    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids)


class ReadsAhead(DecoderOnly):
    causal = False


class Standardised(nn.Module):
    """Subtracts the mean of the batch, so rows depend on one another."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(V, 16), nn.Linear(16, V)

    def forward(self, input_ids, attention_mask=None):
        hidden = self.embedding(input_ids)
        return self.head(hidden - hidden.mean((0, 1)))


def plain(kind):
    torch.manual_seed(0)
    return kind(ModelConfig(V, d_model=16, n_layers=2, n_heads=2))


MODELS = {
    "drops the rank": (PrefixLM(), lambda: plain(DropsTheRank), "reads"),
    "drops the documents": (CausalLM(), lambda: plain(DropsTheDocuments), "documents"),
    "drops the padding": (MaskedLM(), lambda: plain(DropsThePadding), "reads"),
    "has no causal mask": (CausalLM(), lambda: plain(ReadsAhead), "answers"),
    "reads the batch": (MaskedLM(), Standardised, "reads"),
}


@pytest.mark.parametrize("what", MODELS)
def test_a_model_that_ignores_or_reads_what_it_must_not_is_found(what):
    objective, model, check = MODELS[what]
    assert check in found(objective, model())


def test_a_rank_that_the_model_does_not_take_is_refused_by_name():
    with pytest.raises(CheckFailed, match=r"FAULT +returns: raises InputError .*reads reading_rank of the batch"):
        check_objective(PrefixLM(), plain(DropsTheDocuments))


def ragged(objective, **settings):
    texts = [torch.arange(3, 3 + n).tolist() for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL, **settings)(
        [{"input_ids": text, "example_id": n} for n, text in enumerate(texts)]
    )


def test_an_unknown_key_of_the_batch_is_refused():
    batch = ragged(PrefixLM()) | {"prefix_lengths": torch.tensor([1, 2, 3, 4])}
    with pytest.raises(CheckFailed, match=r"FAULT +returns: raises InputError .*reads prefix_lengths of the batch"):
        check_objective(PrefixLM(), PrefixLM().build_model(V, "tiny", d_model=16, n_layers=2, n_heads=2), batch)


def test_documents_given_to_a_model_that_does_not_take_them_are_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(0)
    texts = [[5, 6, 7, 1, 8, 9, 10, 11, 1], [12, 13, 1, 14, 15]]
    packed = CausalLM().collator(SPECIAL, within_documents=True)(texts)
    with pytest.raises(CheckFailed, match=r"FAULT +returns: raises InputError .*reads document_ids of the batch"):
        check_objective(CausalLM(), transformers.LlamaForCausalLM(config), packed)
