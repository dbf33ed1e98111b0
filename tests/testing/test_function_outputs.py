"""Models that return a tuple, or logits under another name, are taken as they are; so are labels at padding a fault."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab import CausalLM, MaskedLM, SpecialIds
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.testing import CheckFailed, check_objective

V = 60
SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2)


def ragged(objective):
    texts = [torch.arange(3, 3 + n).tolist() for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


def own_loss(model, batch):
    output = model(**{key: value for key, value in batch.items() if key != "labels"})
    logits = output.prediction_logits if hasattr(output, "prediction_logits") else output[0]
    here = batch["labels"] != IGNORED
    return F.cross_entropy(logits[here], batch["labels"][here], reduction="sum"), here.sum()


class Tuple(nn.Module):
    """Logits without a linear layer, first of a tuple."""

    def __init__(self, second=None):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.second = nn.Embedding(V, 16), second

    def forward(self, input_ids, attention_mask):
        here = attention_mask[..., None]
        hidden = self.table(input_ids) * here
        hidden = hidden + 0.1 * (hidden * (1 + torch.arange(hidden.shape[1])[:, None])).sum(1, keepdim=True).tanh()
        return hidden @ self.table.weight.T, self.second


def bert(kind, **settings):
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    return getattr(transformers, kind)(transformers.BertConfig(vocab_size=V, pad_token_id=0, **size, **settings))


MODELS = {
    "prediction_logits": lambda: bert("BertForPreTraining"),
    "return_dict=False": lambda: bert("BertForMaskedLM", return_dict=False),
    "a tuple": Tuple,
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_logits_are_found_wherever_a_model_returns_them(model):
    for objective, batch in ((MaskedLM(), None), (own_loss, ragged(MaskedLM(mask_rate=0.3)))):
        report = check_objective(objective, model(), batch)
        assert report.passed
        assert report.not_checked == []


def test_hidden_states_and_a_loss_in_a_tuple_are_not_taken_for_logits():
    with pytest.raises(InputError, match=r"expected logits of 60 ids from BertModel, .* without a language-modelling"):
        check_objective(MaskedLM(), bert("BertModel", return_dict=False))
    with pytest.raises(InputError, match="a tuple with a number in it, a loss that would be dropped"):
        check_objective(MaskedLM(), Tuple(torch.tensor(0.5)))


def test_an_encoder_decoder_is_no_encoder_though_it_takes_the_batch():
    transformers = pytest.importorskip("transformers")
    config = transformers.BartConfig(vocab_size=V, d_model=16, encoder_layers=1, decoder_layers=1, pad_token_id=0)
    with pytest.raises(CheckFailed, match="BartForConditionalGeneration is an encoder-decoder, and masked is for"):
        check_objective(MaskedLM(), transformers.BartForConditionalGeneration(config))


def test_labels_at_padding_are_a_fault_that_says_so():
    """`labels = input_ids.clone()` of padded rows: all rows have as many loss positions, and the wrong ones."""
    batch = ragged(CausalLM())
    batch["labels"] = batch["input_ids"].clone()
    model = CausalLM().build_model(V, "tiny", d_model=16, n_layers=1, n_heads=2)

    def loss(model, batch):
        logits = model.unembed(model(batch["input_ids"], batch["attention_mask"]))[:, :-1]
        labels = batch["labels"][:, 1:]
        here = labels != IGNORED
        return F.cross_entropy(logits[here], labels[here], reduction="sum"), here.sum()

    for objective in (loss, CausalLM()):
        with pytest.raises(CheckFailed, match=r"FAULT +returns: .*32 labels of (the|this) batch stand at padding"):
            check_objective(objective, model, batch)


class LeftToRight(nn.Module):
    """A causal model of somebody's own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(V, 16), nn.Linear(16, V)

    def forward(self, input_ids, attention_mask):
        return self.head(self.table(input_ids).cumsum(1).tanh())


def test_a_model_that_reads_one_side_alone_is_no_model_for_both():
    with pytest.raises(CheckFailed, match=r"FAULT +reads: no output moves with a token on its right"):
        check_objective(MaskedLM(), LeftToRight())
    assert check_objective(CausalLM(), LeftToRight()).passed


class WrongBehindTheBlock(LeftToRight):
    """A causal mask by blocks, of which only the first has one; a table of so many positions."""

    def __init__(self, places):
        super().__init__()
        self.places = nn.Embedding(places, 16)

    def forward(self, input_ids, attention_mask):
        hidden = self.table(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        first, rest = hidden[:, :32].cumsum(1), hidden[:, 32:].sum(1, keepdim=True)
        return self.head(torch.cat([first, hidden[:, 32:] + rest], 1).tanh())


@pytest.mark.parametrize("places", [64, 256])
def test_a_mask_that_is_wrong_in_long_rows_is_found(places):
    with pytest.raises(CheckFailed, match=r"FAULT +reads: output 3\d moves with input_ids \d+ of a row of (64|150)"):
        check_objective(CausalLM(), WrongBehindTheBlock(places))


def test_how_long_a_row_was_tried_is_said():
    assert check_objective(CausalLM(), WrongBehindTheBlock(32)).findings["reads"].found.endswith("a row of 30 tokens")
