"""One input changes, some outputs move: the ones that may, and no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab.data import SpecialIds
from clozelab.display import draw_leaks
from clozelab.errors import InputError
from clozelab.evaluation import LeakReport, probe, probe_objective, reach
from clozelab.models import DecoderOnly, EncoderDecoder, EncoderOnly, ModelConfig
from clozelab.models.attention_mask import among
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

V = 30
CONFIG = ModelConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
SAID = torch.tensor([[0, 11, 12, 13]])


def stirred(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def lower(n):
    return torch.ones(n, n).tril().bool()


class Maskless(DecoderOnly):
    """Its causal mask was forgotten, and its visibility still says that it is there."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, cache=None):
        x = self._embed(input_ids)
        visible = among(input_ids, causal=False)
        for block in self.blocks:
            x = block(x, visible, self._turns(0, visible.queries, x.device))
        return x


class Honest(Maskless):
    """Its mask is gone, and its visibility says so."""

    def _visible(self, ids, attention_mask, document_ids, cache=None):
        return among(ids, causal=False)


# ------------------------------------------------------------------ ours


def test_a_decoder_is_moved_from_the_left():
    report = probe(stirred(DecoderOnly(CONFIG)), {"input_ids": IDS})
    assert torch.equal(report.moved, lower(6))
    assert (report.verdict, report.passed, report.leaks, report.blind) == ("as declared", True, [], [])


def test_an_encoder_is_moved_from_both_sides():
    report = probe(stirred(EncoderOnly(CONFIG)), {"input_ids": IDS})
    assert report.moved.all()
    assert report.verdict == "as declared"


def test_an_encoder_decoder_is_moved_by_its_whole_text_and_by_its_own_past():
    model, inputs = stirred(EncoderDecoder(CONFIG)), {"input_ids": IDS, "decoder_input_ids": SAID}
    cross = probe(model, inputs)
    assert cross.moved.shape == (4, 6)
    assert cross.moved.all()
    own = probe(model, inputs, perturb="decoder_input_ids")
    assert torch.equal(own.moved, lower(4))
    assert cross.verdict == own.verdict == "as declared"


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_nobody_is_moved_by_padding_but_the_padding_itself(architecture, mask):
    mask = torch.tensor([mask])
    report = probe(stirred(architecture(CONFIG)), {"input_ids": IDS, "attention_mask": mask})
    real = mask[0].bool()
    assert not report.moved[real][:, ~real].any()
    assert report.verdict == "as declared"


@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_packed_documents_do_not_move_one_another(architecture):
    documents = torch.tensor([[1, 1, 1, 2, 2, 3]])
    report = probe(stirred(architecture(CONFIG)), {"input_ids": IDS, "document_ids": documents})
    assert not report.moved[documents[0][:, None] != documents[0]].any()
    assert report.verdict == "as declared"
    unpacked = probe(stirred(architecture(CONFIG)), {"input_ids": IDS}, declared=report.declared)
    assert "LEAK" in unpacked.verdict  # without the ids they do


def test_cross_attention_stays_within_documents():
    flags = {"document_ids": torch.tensor([[1, 1, 1, 2, 2, 2]]), "decoder_document_ids": torch.tensor([[1, 1, 2, 2]])}
    inputs = {"input_ids": IDS, "decoder_input_ids": SAID, **flags}
    for declared in (None, "full"):
        report = probe(stirred(EncoderDecoder(CONFIG)), inputs, declared=declared)
        assert torch.equal(report.moved.int(), torch.tensor([[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2))
        assert report.verdict == "as declared"
    own = probe(stirred(EncoderDecoder(CONFIG)), inputs, perturb="decoder_input_ids")
    assert own.moved.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert own.passed


def test_a_padded_text_does_not_move_the_decoder():
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    report = probe(
        stirred(EncoderDecoder(CONFIG)), {"input_ids": IDS, "decoder_input_ids": SAID, "attention_mask": mask}
    )
    assert torch.equal(report.moved, mask.bool().expand(4, 6))
    assert report.verdict == "as declared"


# ------------------------------------------------------------------ leaks


def test_a_forgotten_causal_mask_is_found():
    report = probe(stirred(Maskless(CONFIG)), {"input_ids": IDS})
    assert report.verdict == "LEAK: output 0 moves with input 1, which it may not read (and 14 more pairs)"
    assert not report.passed
    assert set(report.leaks) == {(t, s) for t in range(6) for s in range(t + 1, 6)}
    assert "x ! ! ! ! !" in str(report)


def test_an_objective_finds_what_the_model_itself_would_excuse():
    model = stirred(Honest(CONFIG))
    assert probe(model, {"input_ids": IDS}).passed  # as it declares
    assert "LEAK" in probe(model, {"input_ids": IDS}, declared="causal").verdict
    reports = probe_objective(CausalLM(), model, {"input_ids": IDS, "labels": IDS})
    assert not reports["input_ids"].passed


class OffByOne(nn.Module):
    """One pair leaks: output 3 reads input 5 by its parity alone, so half of all replacements do not show it."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, 8)

    def forward(self, input_ids):
        x = self.embedding(input_ids)
        x = x.cumsum(1)
        x[:, 3] += (input_ids[:, 5] % 2)[:, None]
        return x


def test_one_leaking_pair_is_found_and_a_coincidence_does_not_hide_it():
    report = probe(stirred(OffByOne()), {"input_ids": IDS}, declared="causal")
    assert report.leaks == [(3, 5)]
    assert report.verdict == "LEAK: output 3 moves with input 5, which it may not read"
    hidden = probe(stirred(OffByOne()), {"input_ids": IDS}, declared="causal", ids=range(0, V, 2))
    assert hidden.passed  # 5 % 2 is 0 for all of these


class AcrossRows(nn.Module):
    """What batch normalisation in training does: a row reads the mean of its batch."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, 8)

    def forward(self, input_ids):
        x = self.embedding(input_ids).cumsum(1)
        return x - x.mean(0)


def test_a_row_that_reads_another_is_found():
    report = probe(stirred(AcrossRows()), {"input_ids": IDS}, declared="causal")
    assert report.across_rows
    assert not report.passed
    assert "another row" in report.verdict


# ------------------------------------------------------------------ what cannot be said


@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_an_untrained_model_proves_nothing(architecture):
    report = probe(architecture(CONFIG), {"input_ids": IDS})
    assert report.verdict.startswith("blind: no output moved")
    assert "untrained" in report.verdict
    assert not report.passed


def test_an_untrained_cross_attention_proves_nothing():
    report = probe(EncoderDecoder(CONFIG), {"input_ids": IDS, "decoder_input_ids": SAID})
    assert report.verdict.startswith("blind")
    assert not report.passed


def test_a_pair_that_never_moved_is_noted():
    report = probe(stirred(DecoderOnly(CONFIG)), {"input_ids": IDS}, declared="full")
    assert report.passed  # it reads less than it may
    assert report.verdict.startswith("as declared, but blind to 15 of 36")
    assert len(report.blind) == 15


class Noisy(nn.Module):
    def __init__(self, nan=False):
        super().__init__()
        self.embedding, self.nan = nn.Embedding(V, 8), nan

    def forward(self, input_ids):
        return F.dropout(self.embedding(input_ids), 0.5, training=True) * (float("nan") if self.nan else 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probe(Noisy(), {"input_ids": IDS}, declared="full"), "second time"),
        (lambda: probe(Noisy(nan=True), {"input_ids": IDS}, declared="full"), "NaN"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}), "does not say who may read whom"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared="left"), "'causal' or 'full'"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared=lower(5)), r"declaration \(6, 6\)"),
        (lambda: probe(OffByOne(), {"input_ids": IDS.repeat(2, 1)}, declared="full"), "one row"),
        (lambda: probe(OffByOne(), {"labels": IDS}), "input_ids"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared="full", ids=[5]), "nothing can stand"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared="full", output="logits"), "no tensor 'logits'"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared="full", alternatives=0), "alternatives"),
        (lambda: reach(torch.ones(2, 3).bool()), "who may read whom"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ------------------------------------------------------------------ how it is done


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_batching_of_replacements_changes_nothing(batch_size):
    report = probe(stirred(DecoderOnly(CONFIG)), {"input_ids": IDS}, batch_size=batch_size)
    assert report.verdict == "as declared"


def test_a_model_and_its_inputs_are_left_as_they_were():
    model, ids = stirred(DecoderOnly(CONFIG)).train(), IDS.clone()
    probe(model, {"input_ids": ids})
    assert model.training
    assert torch.equal(ids, IDS)


def test_a_tolerance_forgives_small_movements():
    report = probe(stirred(Maskless(CONFIG)), {"input_ids": IDS}, tolerance=1e9)
    assert not report.moved.any()


def test_an_output_may_be_chosen_by_a_function():
    model = stirred(DecoderOnly(CONFIG))
    report = probe(model, {"input_ids": IDS}, output=model.unembed)
    assert report.verdict == "as declared"
    shifted = probe(model, {"input_ids": IDS}, output=lambda hidden: hidden[:, 1:], declared=lower(6)[1:])
    assert shifted.verdict == "as declared"


def test_a_window_reaches_further_with_each_layer():
    window = torch.ones(6, 6).tril().triu(-1).bool()
    assert torch.equal(reach(window, 1), window)
    assert torch.equal(reach(window, 3), torch.ones(6, 6).tril().triu(-3).bool())
    assert torch.equal(reach(window), lower(6))
    assert torch.equal(reach(lower(6)), lower(6))


@pytest.mark.parametrize(
    "objective", [CausalLM(), MaskedLM(), SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0)], ids=repr
)
def test_every_stream_of_an_objective_is_as_declared(objective, special):
    model = stirred(objective.build_model(100, "tiny", d_model=16, n_layers=2, n_heads=2))
    batch = objective.collator(special)(
        [{"input_ids": torch.arange(5, 5 + n), "example_id": n} for n in (10, 14)]  # the first row is padded
    )
    for row in (0, 1):
        reports = probe_objective(objective, model, batch, row=row, ids=special.replacements)
        assert set(reports) == {"input_ids", "decoder_input_ids"} & set(batch)
        assert {report.verdict for report in reports.values()} == {"as declared"}


def test_packed_batches_of_the_collator_are_as_declared():
    special = SpecialIds(vocab_size=V, pad=0, eos=1, mask=2)
    rows = torch.tensor([[5, 6, 1, 7, 8, 9, 1, 10]])
    for objective in (CausalLM(), MaskedLM()):
        batch = objective.collator(special, within_documents=True).block(rows, [0])
        assert "document_ids" in batch
        report = probe_objective(objective, stirred(objective.build_model(V, d_model=16, n_heads=2)), batch)[
            "input_ids"
        ]
        assert report.passed
        assert not report.declared.all()


# ------------------------------------------------------------------ Hugging Face


def test_gpt2_is_moved_from_the_left():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=V, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    model = stirred(transformers.GPT2LMHeadModel(config))
    report = probe(model, {"input_ids": IDS}, declared="causal")
    assert report.verdict == "as declared"
    assert report.moved.shape == (6, 6)
    assert probe_objective(CausalLM(), model, {"input_ids": IDS, "labels": IDS})["input_ids"].passed


def test_bert_is_moved_from_both_sides_and_not_by_padding():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = stirred(transformers.BertForMaskedLM(config))
    assert probe(model, {"input_ids": IDS}, declared="full").verdict == "as declared"
    assert "LEAK" in probe(model, {"input_ids": IDS}, declared="causal").verdict
    padded = {"input_ids": IDS, "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]])}
    report = probe(model, padded, declared="full", output="logits")
    assert not report.moved[:4, 4:].any()
    assert report.verdict == "as declared"


def test_t5_is_moved_by_its_whole_text_and_by_its_own_past():
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(vocab_size=V, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    model = stirred(transformers.T5ForConditionalGeneration(config))
    inputs = {"input_ids": IDS, "decoder_input_ids": SAID, "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0]])}
    reports = probe_objective(SpanCorruption(), model, {**inputs, "labels": SAID})
    assert {stream: tuple(report.moved.shape) for stream, report in reports.items()} == {
        "input_ids": (4, 6),
        "decoder_input_ids": (4, 4),
    }
    assert {report.verdict for report in reports.values()} == {"as declared"}
    encoder = probe(model, inputs, declared="full", output="encoder_last_hidden_state")
    assert encoder.moved.shape == (6, 6)
    assert encoder.verdict == "as declared"
    with pytest.raises(InputError, match="from no side"):
        probe(model, inputs, declared="causal")


# ------------------------------------------------------------------ pictures


def test_a_picture_tells_all_four_kinds_apart_without_colour(tmp_path):
    from matplotlib.figure import Figure

    moved = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 1]]).bool()
    figure = Figure(layout="tight")
    axes = draw_leaks(figure.subplots(), LeakReport(moved, lower(3)))
    marks = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() in ("x", "o")}
    assert marks == {"x": [[1, 0]], "o": [[0, 1]]}
    assert axes.images[0].get_array().tolist() == [[1, 3, 0], [2, 1, 0], [1, 1, 1]]
    assert axes.get_ylabel() == "output position"
    assert axes.get_xlabel().startswith("input position")
    assert "LEAK" in axes.get_title()
    figure.savefig(tmp_path / "leaks.png")
    assert (tmp_path / "leaks.png").stat().st_size > 0
