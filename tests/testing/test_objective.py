"""Right objectives, models and functions are never faulted, and what could not be checked is not called passed."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.testing import CheckFailed, check_objective
from clozelab.testing.objective import CHECKS, ESSENTIAL

from .schemes import one_multiple_of_ten, window

V = 60
SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2, sentinels=range(59, 39, -1))


def small(objective):
    torch.manual_seed(0)
    return objective.build_model(V, "tiny", d_model=16, n_layers=2, n_heads=2)


def ragged(objective):
    texts = [torch.arange(3, 3 + n).tolist() for n in (9, 20, 5, 14)]
    return objective.collator(SPECIAL)([{"input_ids": text, "example_id": n} for n, text in enumerate(texts)])


OF_ONE_OBJECTIVE = {"separate parts": "electra", "replaced": "electra"}
"""Checks of what one objective alone has: parts that teach each other nothing, and ids that a model draws."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_passes_every_check_on_its_own_model(name):
    objective = OBJECTIVES[name]()
    report = check_objective(objective, small(objective))
    assert report.passed
    applying = [check for check in CHECKS if OF_ONE_OBJECTIVE.get(check, name) == name]
    assert list(report.findings) == applying  # a check that wrongly finds itself without a use is missing here
    assert report.counts == {"passed": len(applying), "failed": 0, "not checked": 0}


def test_a_check_that_only_some_objectives_have_a_use_for_is_tried_on_one():
    assert CHECKS.keys() >= OF_ONE_OBJECTIVE.keys()
    assert {*OBJECTIVES} >= {*OF_ONE_OBJECTIVE.values()}


OPTIONS = [
    MaskedLM(mask_rate=0.4, mask_replace_prob=0.5, random_replace_prob=0.0, scheme="bernoulli"),
    MaskedLM(scheme=window, label_smoothing=0.1),
    SpanCorruption(noise_density=0.5, mean_noise_span_length=1.5, final_sentinel=True),
    MaskedDiffusion(exact_count=False),
    FillInTheMiddle(fim_rate=1.0, form="spm"),
]
MORE_OPTIONS = [
    CausalLM(label_smoothing=0.1, z_loss=1e-3),
    MaskedLM(mask_rate=1.0, mask_replace_prob=1.0, random_replace_prob=0.0),
    MaskedLM(scheme="whole-words"),
    MaskedLM(scheme=one_multiple_of_ten),
    SpanCorruption(scheme=window),
    PrefixLM(z_loss=1e-3),
    MaskedDiffusion(label_smoothing=0.1, z_loss=1e-3),
    FillInTheMiddle(fim_rate=0.0),
]
"""Tried with `-m slow`: each costs seconds."""


@pytest.mark.parametrize(
    "objective", [*OPTIONS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_OPTIONS)], ids=repr
)
def test_options_make_no_objective_faulty(objective):
    report = check_objective(objective, small(objective))
    assert report.passed
    assert report.not_checked == []


# ------------------------------------------------------------------ models of other people


class HandWritten(nn.Module):
    """A GPT with a table of positions and no `.config`, which ignores padding on the right."""

    def __init__(self, causal=True):
        super().__init__()
        self.tokens, self.places, self.causal = nn.Embedding(V, 16), nn.Embedding(32, 16), causal
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, V)

    def forward(self, input_ids, attention_mask=None):
        length = input_ids.shape[1]
        mask = torch.full((length, length), float("-inf"), dtype=self.head.weight.dtype).triu(1)
        x = self.tokens(input_ids) + self.places(torch.arange(length))
        if self.causal:
            return self.head(self.blocks(x, mask))
        padding = torch.zeros(input_ids.shape, dtype=x.dtype).masked_fill(attention_mask == 0, float("-inf"))
        return self.head(self.blocks(x, src_key_padding_mask=padding))


@pytest.mark.parametrize(("objective", "causal"), [(CausalLM(), True), (MaskedLM(), False), (MaskedDiffusion(), False)])
def test_a_hand_written_model_without_a_config_is_right(objective, causal):
    torch.manual_seed(0)
    report = check_objective(objective, HandWritten(causal))
    assert report.passed
    assert "document_ids" in report.findings["documents"].found  # which this model does not take


class Window(HandWritten):
    """Each token reads itself and the one before: less than causal LM allows, and no fault."""

    def forward(self, input_ids, attention_mask=None):
        x = self.tokens(input_ids)
        return self.head(x + F.pad(x, (0, 0, 1, 0))[:, :-1].tanh())


def test_a_model_that_reads_less_than_it_may_is_noted_and_not_faulted():
    report = check_objective(CausalLM(), Window())
    assert report.findings["reads"].verdict == "note"
    assert "declared pairs" in report.findings["reads"].found


class Alone(HandWritten):
    def forward(self, input_ids, attention_mask=None):
        return self.head(self.tokens(input_ids))


def test_a_model_that_reads_no_other_token_leaves_its_reads_unchecked():
    report = check_objective(CausalLM(), Alone())
    assert not report.faults
    assert "reads" in report.missing
    assert not report.passed
    assert report.headline.endswith("essential, and not checked: reads")


def hugging_face(name):
    transformers = pytest.importorskip("transformers")
    ids = {"vocab_size": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    torch.manual_seed(0)
    if name == "gpt2":
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, **ids))
    if name == "bert":
        size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        return transformers.BertForMaskedLM(transformers.BertConfig(**size, **ids))
    config = transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, **ids)
    return transformers.T5ForConditionalGeneration(config)


RIGHT = [("gpt2", CausalLM()), ("bert", MaskedLM()), ("bert", MaskedDiffusion()), ("t5", SpanCorruption())]


@pytest.mark.parametrize(("name", "objective"), [*RIGHT, ("gpt2", FillInTheMiddle())], ids=repr)
def test_a_model_of_hugging_face_is_right(name, objective):
    assert check_objective(objective, hugging_face(name)).passed


def test_a_decoder_of_hugging_face_cannot_read_a_prefix_on_both_sides():
    with pytest.raises(CheckFailed, match="reading_rank"):
        check_objective(PrefixLM(), hugging_face("gpt2"))


def test_an_encoder_decoder_is_refused_by_an_objective_for_encoders():
    with pytest.raises(CheckFailed, match="is an encoder-decoder, and masked is for encoder-only"):
        check_objective(MaskedLM(), hugging_face("t5"))


# ------------------------------------------------------------------ functions


def own_loss(model, batch):
    """The loss of Hugging Face's models, as a sum and a count."""
    labels = batch["labels"]
    logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    if type(model).__name__.startswith("GPT2"):
        labels = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    here = labels != IGNORED
    return F.cross_entropy(logits[here], labels[here], reduction="sum"), here.sum()


@pytest.mark.parametrize(("name", "objective"), [RIGHT[0], RIGHT[1], RIGHT[3]], ids=repr)
def test_a_right_function_on_a_model_of_hugging_face_passes_every_check(name, objective):
    report = check_objective(own_loss, hugging_face(name), ragged(objective))
    assert report.passed
    assert report.not_checked == []


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_the_mean_that_hugging_face_returns_is_a_mean_of_means(name):
    objective = {"gpt2": CausalLM(), "bert": MaskedLM(), "t5": SpanCorruption()}[name]
    model = hugging_face(name)
    with pytest.raises(CheckFailed) as failed:
        check_objective(lambda model, batch: model(**batch).loss, model, ragged(objective))
    assert failed.value.report.faults == ["accumulation", "nothing to predict"]


class LossInside(nn.Module):
    """nanoGPT's form: the forward returns (logits, loss), with labels that are shifted already."""

    def __init__(self):
        super().__init__()
        self.gpt = HandWritten()

    def forward(self, idx, targets):
        logits = self.gpt(idx)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def test_a_loss_that_is_computed_inside_the_model_is_seen_through_its_last_layer():
    batch = ragged(CausalLM())
    batch["labels"] = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)

    def loss(model, batch):
        return model(batch["input_ids"], batch["labels"])[1], (batch["labels"] != IGNORED).sum()

    report = check_objective(loss, LossInside(), batch)
    assert report.passed
    assert report.not_checked == []


class Hidden(nn.Module):
    """Nothing of its outputs can be seen: no linear layer, and a loss alone is returned."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(V, 8))

    def forward(self, ids, labels):
        here = labels != IGNORED
        return F.cross_entropy((self.table[ids] @ self.table.T)[here], labels[here], reduction="sum"), here.sum()


def test_what_cannot_be_seen_is_not_checked_and_not_passed():
    report = check_objective(
        lambda model, batch: model(batch["input_ids"], batch["labels"]), Hidden(), ragged(MaskedLM())
    )
    assert report.missing == ["uniform", "gradient", "reads", "answers"]
    assert set(report.missing) < set(ESSENTIAL)
    assert not report.passed
    first_line = str(report).splitlines()[0]
    assert first_line.endswith("0 failed, 4 not checked; essential, and not checked: uniform, gradient, reads, answers")


def test_a_loss_of_several_objectives_is_accumulated_by_its_parts():
    objective = MaskedDiffusion()
    report = check_objective(lambda model, batch: objective(model, batch), small(objective), ragged(objective))
    assert not report.faults
    assert report.missing == ["uniform"]  # weights and count make any value possible


def test_something_that_is_no_loss_is_one_fault():
    with pytest.raises(CheckFailed) as failed:
        check_objective(lambda model, batch: model(batch["input_ids"]), small(MaskedLM()), ragged(MaskedLM()))
    assert failed.value.report.faults == ["returns"]
    assert failed.value.report.counts == {"passed": 0, "failed": 1, "not checked": 7}


# ------------------------------------------------------------------ the caller's things


def test_the_model_and_the_random_state_are_left_as_they_were():
    objective = SpanCorruption()
    model = small(objective)
    before = copy.deepcopy(model.state_dict())
    model.train()
    state = torch.get_rng_state()
    check_objective(objective, model)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_tried_says_why():
    objective = MaskedLM()
    with pytest.raises(InputError, match="would look like a mean"):
        check_objective(objective, small(objective), {"input_ids": torch.ones(2, 3).long(), "labels": torch.ones(2, 3)})
    with pytest.raises(InputError, match="only clozelab's objectives"):
        check_objective(lambda model, batch: None, small(objective))
    with pytest.raises(InputError, match="not input_ids"):
        check_objective(objective, nn.Linear(2, 2))
    with pytest.raises(InputError, match="10 ids are too few"):
        check_objective(objective, objective.build_model(10, "tiny", d_model=16, n_layers=1, n_heads=2))
