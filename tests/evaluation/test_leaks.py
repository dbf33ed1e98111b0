"""One input changes, some outputs move: those that are declared, and no others."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab.display import draw_leaks
from clozelab.errors import InputError
from clozelab.evaluation import LeakReport, probe, probe_objective, receptive_field
from clozelab.models import DecoderOnly, EncoderDecoder, EncoderOnly, ModelConfig, causal_mask, full_mask
from clozelab.models.attention_mask import self_attention_mask
from clozelab.objectives import CausalLM, MaskedLM, PrefixLM

from ..objectives.cases import SPECIAL, batch_of, each_objective, from_the_left, reading_model

V = 30
CONFIG = ModelConfig(vocab_size=V, d_model=16, n_layers=2, n_heads=2)
WITH_ROLES = ModelConfig(vocab_size=SPECIAL.vocab_size, d_model=16, n_layers=2, n_heads=2)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
DECODER_IDS = torch.tensor([[0, 11, 12, 13]])


def randomised(model, seed=0):
    """Random weights everywhere: fresh blocks are the identity, and attend to nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


class Maskless(DecoderOnly):
    """Its causal mask was forgotten, and its attention matrix still shows it."""

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        mask = self_attention_mask(input_ids, causal=False)
        for block in self.blocks:
            x = block(x, mask, self.rotary_freqs(None, mask, x.device))
        return x


class Open(Maskless):
    """Its mask is gone, and its attention matrix shows that."""

    def attention_matrix(self, input_ids):
        return self_attention_mask(input_ids, causal=False).expand(len(input_ids))


# ------------------------------------------------------------------ every objective


@each_objective
@pytest.mark.parametrize("row", [0, 1])
def test_what_moved_is_what_the_objective_declares(objective, row):
    """To the bit, on random weights in double precision; the second row is padded."""
    batch, model = batch_of(objective, lengths=(14, 9)), reading_model(objective)
    reports = probe_objective(objective, model, batch, row=row)
    assert reports.keys() == objective.reads(batch).keys()
    for report in reports.values():
        assert report.equal, report
        assert report.moved.any()
        assert (report.verdict, report.passed) == ("as declared", True)


@each_objective
def test_packed_documents_move_as_the_objective_declares(objective):
    rows = torch.tensor([[5, 6, 7, 8, SPECIAL.eos, 9, 10, 11, 12, SPECIAL.eos, 13, 14]])
    batch = objective.collator(SPECIAL, within_documents=True).block(rows, [0])
    assert "document_ids" in batch
    for report in probe_objective(objective, reading_model(objective), batch).values():
        assert report.equal, report
        assert not report.declared.all()


def test_a_prefix_moves_earlier_outputs_and_what_follows_does_not():
    """The required dependence: a prefix of 3 is read on both sides."""
    objective = PrefixLM()
    batch = {
        "input_ids": IDS,
        "labels": torch.tensor([[-100, -100, -100, 8, 9, 10]]),
        "reading_rank": torch.tensor([[0, 0, 0, 1, 2, 3]]),
    }
    report = probe_objective(objective, reading_model(objective), batch)["logits", "input_ids"]
    rows = ["111000", "111000", "111000", "111100", "111110", "111111"]
    assert ["".join(str(int(cell)) for cell in row) for row in report.moved] == rows
    assert report.equal


def test_a_prefix_that_is_read_from_the_left_only_is_found():
    """The reading rank was dropped on the way to the model: no leak, and not what is declared."""

    class LeftToRight(DecoderOnly):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids, attention_mask)

    objective, batch = PrefixLM(), batch_of(PrefixLM(), lengths=(12,))
    prefix = int((batch["labels"] == -100).sum())
    assert prefix > 1
    model = randomised(LeftToRight(WITH_ROLES)).double()
    report = probe_objective(objective, model, batch)["logits", "input_ids"]
    assert not report.equal
    assert not report.leaks
    assert report.blind == [(t, s) for t in range(prefix) for s in range(t + 1, prefix)]


@pytest.mark.parametrize("objective", from_the_left(), ids=repr)
def test_a_causal_mask_that_was_lost_is_found(objective):
    """In every row but those that may be read on both sides throughout."""
    batch = batch_of(objective, lengths=(12,) * 4)
    model = randomised(Open(WITH_ROLES)).double()
    hidden = [b for b, reads in enumerate(objective.reads(batch)["logits", "input_ids"]) if not reads.all()]
    assert hidden
    for b in hidden:
        report = probe_objective(objective, model, batch, row=b)["logits", "input_ids"]
        assert report.leaks
        assert not report.passed


def test_a_model_that_attends_to_padding_is_found():
    class ReadsPadding(EncoderOnly):
        def forward(self, input_ids):
            return super().forward(input_ids)

    objective = MaskedLM()
    model = randomised(ReadsPadding(WITH_ROLES)).double()
    report = probe_objective(objective, model, batch_of(objective, lengths=(9, 5)), row=1)["logits", "input_ids"]
    assert set(report.leaks) == {(t, s) for t in range(5) for s in range(5, 9)}


# ------------------------------------------------------------------ ours


def test_a_decoder_is_moved_from_the_left():
    report = probe(randomised(DecoderOnly(CONFIG)), {"input_ids": IDS})
    assert torch.equal(report.moved, causal_mask(6))
    assert (report.verdict, report.passed, report.leaks, report.blind) == ("as declared", True, [], [])


def test_an_encoder_is_moved_from_both_sides():
    report = probe(randomised(EncoderOnly(CONFIG)), {"input_ids": IDS})
    assert report.moved.all()
    assert report.verdict == "as declared"


def test_an_encoder_decoder_is_moved_by_its_whole_text_and_by_its_own_past():
    model, inputs = randomised(EncoderDecoder(CONFIG)), {"input_ids": IDS, "decoder_input_ids": DECODER_IDS}
    cross = probe(model, inputs)
    assert cross.moved.shape == (4, 6)
    assert cross.moved.all()
    own = probe(model, inputs, perturb="decoder_input_ids")
    assert torch.equal(own.moved, causal_mask(4))
    assert cross.verdict == own.verdict == "as declared"


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_nobody_is_moved_by_padding_but_the_padding_itself(architecture, mask):
    mask = torch.tensor([mask])
    report = probe(randomised(architecture(CONFIG)), {"input_ids": IDS, "attention_mask": mask})
    real = mask[0].bool()
    assert not report.moved[real][:, ~real].any()
    assert report.verdict == "as declared"


@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_packed_documents_do_not_move_one_another(architecture):
    documents = torch.tensor([[1, 1, 1, 2, 2, 3]])
    report = probe(randomised(architecture(CONFIG)), {"input_ids": IDS, "document_ids": documents})
    assert not report.moved[documents[0][:, None] != documents[0]].any()
    assert report.verdict == "as declared"
    unpacked = probe(randomised(architecture(CONFIG)), {"input_ids": IDS}, declared=report.declared)
    assert "LEAK" in unpacked.verdict  # without the ids they do


def test_cross_attention_stays_within_documents():
    flags = {"document_ids": torch.tensor([[1, 1, 1, 2, 2, 2]]), "decoder_document_ids": torch.tensor([[1, 1, 2, 2]])}
    inputs, model = {"input_ids": IDS, "decoder_input_ids": DECODER_IDS, **flags}, randomised(EncoderDecoder(CONFIG))
    cross = probe(model, inputs)
    assert cross.moved.int().tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0, 0, 0, 1, 1, 1]] * 2
    own = probe(model, inputs, perturb="decoder_input_ids")
    assert own.moved.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert cross.equal
    assert own.equal


def test_a_padded_text_does_not_move_the_decoder():
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    report = probe(
        randomised(EncoderDecoder(CONFIG)), {"input_ids": IDS, "decoder_input_ids": DECODER_IDS, "attention_mask": mask}
    )
    assert torch.equal(report.moved, mask.bool().expand(4, 6))
    assert report.verdict == "as declared"


# ------------------------------------------------------------------ leaks


def test_a_forgotten_causal_mask_is_found():
    report = probe(randomised(Maskless(CONFIG)), {"input_ids": IDS})
    assert report.verdict == "LEAK: output 0 moves with input 1, which it may not read (and 14 more pairs)"
    assert not report.passed
    assert set(report.leaks) == {(t, s) for t in range(6) for s in range(t + 1, 6)}
    assert "x ! ! ! ! !" in str(report)


def test_an_objective_finds_what_the_model_itself_would_excuse():
    model = randomised(Open(CONFIG))
    assert probe(model, {"input_ids": IDS}).passed  # as it declares
    assert "LEAK" in probe(model, {"input_ids": IDS}, declared=causal_mask(6)).verdict
    reports = probe_objective(CausalLM(), model, {"input_ids": IDS, "labels": IDS})
    assert not reports["logits", "input_ids"].passed


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
    report = probe(randomised(OffByOne()), {"input_ids": IDS}, declared=causal_mask(6))
    assert report.leaks == [(3, 5)]
    assert report.verdict == "LEAK: output 3 moves with input 5, which it may not read"
    hidden = probe(randomised(OffByOne()), {"input_ids": IDS}, declared=causal_mask(6), ids=range(0, V, 2))
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
    report = probe(randomised(AcrossRows()), {"input_ids": IDS}, declared=causal_mask(6))
    assert report.across_rows
    assert not report.passed
    assert "another row" in report.verdict


# ------------------------------------------------------------------ what a probe cannot show


@pytest.mark.parametrize("architecture", [DecoderOnly, EncoderOnly])
def test_an_untrained_model_proves_nothing(architecture):
    report = probe(architecture(CONFIG), {"input_ids": IDS})
    assert report.verdict.startswith("blind: no output moved")
    assert "untrained" in report.verdict
    assert not report.passed


def test_an_untrained_cross_attention_proves_nothing():
    report = probe(EncoderDecoder(CONFIG), {"input_ids": IDS, "decoder_input_ids": DECODER_IDS})
    assert report.verdict.startswith("blind")
    assert not report.passed


def test_a_pair_that_never_moved_is_noted():
    report = probe(randomised(DecoderOnly(CONFIG)), {"input_ids": IDS}, declared=full_mask(6, 6))
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
        (lambda: probe(Noisy(), {"input_ids": IDS}, declared=full_mask(6, 6)), "second time"),
        (lambda: probe(Noisy(nan=True), {"input_ids": IDS}, declared=full_mask(6, 6)), "NaN"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}), "OffByOne has no attention_matrix"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared="left"), "declared matrix as a tensor"),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared=causal_mask(5)), r"declared matrix \(6, 6\)"),
        (lambda: probe(OffByOne(), {"input_ids": IDS.repeat(2, 1)}, declared=full_mask(6, 6)), "one row"),
        (lambda: probe(OffByOne(), {"labels": IDS}), "input_ids"),
        (
            lambda: probe(OffByOne(), {"input_ids": IDS}, declared=full_mask(6, 6), ids=[5]),
            "no other id can replace token 5",
        ),
        (
            lambda: probe(OffByOne(), {"input_ids": IDS}, declared=full_mask(6, 6), output="logits"),
            "no tensor 'logits'",
        ),
        (lambda: probe(OffByOne(), {"input_ids": IDS}, declared=full_mask(6, 6), alternatives=0), "alternatives"),
        (lambda: receptive_field(torch.ones(2, 3).bool()), r"attention matrix \(T, T\)"),
    ],
)
def test_a_wrong_call_names_what_was_expected(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ------------------------------------------------------------------ mechanics


@pytest.mark.parametrize("batch_size", [1, 2, 7, 100])
def test_the_batching_of_replacements_changes_nothing(batch_size):
    report = probe(randomised(DecoderOnly(CONFIG)), {"input_ids": IDS}, batch_size=batch_size)
    assert report.verdict == "as declared"


def test_a_model_and_its_inputs_are_left_as_they_were():
    model, ids = randomised(DecoderOnly(CONFIG)).train(), IDS.clone()
    probe(model, {"input_ids": ids})
    assert model.training
    assert torch.equal(ids, IDS)


def test_a_tolerance_forgives_small_movements():
    report = probe(randomised(Maskless(CONFIG)), {"input_ids": IDS}, tolerance=1e9)
    assert not report.moved.any()


def test_an_output_may_be_chosen_by_a_function():
    model = randomised(DecoderOnly(CONFIG))
    report = probe(model, {"input_ids": IDS}, output=model.unembed)
    assert report.verdict == "as declared"
    shifted = probe(model, {"input_ids": IDS}, output=lambda hidden: hidden[:, 1:], declared=causal_mask(6)[1:])
    assert shifted.verdict == "as declared"


def test_a_window_reaches_further_with_each_layer():
    window = torch.ones(6, 6).tril().triu(-1).bool()
    assert torch.equal(receptive_field(window, 1), window)
    assert torch.equal(receptive_field(window, 3), torch.ones(6, 6).tril().triu(-3).bool())
    assert torch.equal(receptive_field(window), causal_mask(6))
    assert torch.equal(receptive_field(causal_mask(6)), causal_mask(6))


# ------------------------------------------------------------------ pictures


def test_a_picture_tells_all_four_kinds_apart_without_colour(tmp_path):
    from matplotlib.figure import Figure

    moved = torch.tensor([[1, 1, 0], [0, 1, 0], [1, 1, 1]]).bool()
    figure = Figure(layout="tight")
    axes = draw_leaks(figure.subplots(), LeakReport(moved, causal_mask(3)))
    marks = {line.get_marker(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() in ("x", "o")}
    assert marks == {"x": [[1, 0]], "o": [[0, 1]]}
    assert axes.images[0].get_array().tolist() == [[1, 3, 0], [2, 1, 0], [1, 1, 1]]
    assert axes.get_ylabel() == "output position"
    assert axes.get_xlabel().startswith("input position")
    assert "LEAK" in axes.get_title()
    figure.savefig(tmp_path / "leaks.png")
    assert (tmp_path / "leaks.png").stat().st_size > 0
