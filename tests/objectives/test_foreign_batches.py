"""A batch that was made for another objective, and a model that cannot be right, are refused before any learning."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.models import EncoderOnly, ModelConfig
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    Prediction,
    PrefixLM,
    SpanCorruption,
)

from .cases import NEXT_TOKENS, SPECIAL, VOCAB, batch_of, each_objective, reading_model

TEXT = torch.arange(5, 21).view(2, 8)


# ------------------------------------------------------------------ batches of other objectives

ONE_OF_MINE = {"prefix": "ul2r", "masked": "sbo"}
"""A row of UL2R is one of prefix LM and a mode, and one of the span boundary objective is one of masked LM and the
places of boundaries: a model that was called before may have read these."""


@pytest.mark.parametrize("made_for", OBJECTIVES)
@each_objective
def test_every_objective_refuses_the_batches_of_every_other(objective, made_for):
    batch = batch_of(OBJECTIVES[made_for](), (24, 27, 31, 25))
    if made_for == objective.name or {made_for, objective.name} <= NEXT_TOKENS:
        assert objective(reading_model(objective), batch).mean.isfinite()
        return
    with pytest.raises(InputError):
        objective(reading_model(objective), batch)
    one_stack = "decoder_input_ids" not in batch and objective.architecture != "encoder-decoder"
    if one_stack and ONE_OF_MINE.get(objective.name) != made_for:
        with pytest.raises(InputError):
            objective(torch.zeros(*batch["labels"].shape, VOCAB), batch)


def test_a_batch_without_a_rank_is_no_prefix_batch():
    batch = {"input_ids": TEXT, "labels": TEXT}
    with pytest.raises(InputError, match="needs 'reading_rank'"):
        PrefixLM()(reading_model(PrefixLM()), batch)


@pytest.mark.parametrize("name", [name for name, cls in OBJECTIVES.items() if cls.architecture != "encoder-decoder"])
def test_an_encoder_decoder_is_refused_by_objectives_of_one_stack(name):
    """BART is called BartForConditionalGeneration, and its config says what it is."""
    model = reading_model(OBJECTIVES[name]())
    model.config = SimpleNamespace(is_encoder_decoder=True)
    with pytest.raises(InputError, match="is an encoder-decoder, and this objective needs a model of the kind"):
        OBJECTIVES[name]()(model, batch_of(OBJECTIVES[name]()))


@pytest.mark.parametrize("key", ["reading_rank", "reading_group", "position_ids", "decoder_document_ids"])
def test_what_a_model_does_not_read_is_refused_by_name(key):
    class Plain(nn.Module):
        """Takes the ids alone."""

        def forward(self, input_ids):
            return torch.zeros(*input_ids.shape, VOCAB)

    batch = {"input_ids": TEXT, "labels": TEXT}
    assert CausalLM()(Plain(), batch).mean.isfinite()
    with pytest.raises(InputError, match=key):
        CausalLM()(Plain(), {**batch, key: torch.zeros_like(TEXT)})


def test_labels_may_be_other_tokens_here_and_there():
    """Corrected words, say: three of eight are no other objective's batch, five are."""
    model, labels = reading_model(CausalLM()), TEXT.clone()
    labels[:, [1, 4, 6]] = 3
    assert CausalLM()(model, {"input_ids": TEXT, "labels": labels}).mean.isfinite()
    labels[:, [2, 5]] = 3
    with pytest.raises(InputError, match="most of these labels are not the inputs"):
        CausalLM()(model, {"input_ids": TEXT, "labels": labels})


def test_a_prefix_in_the_loss_is_refused():
    batch = batch_of(PrefixLM(), (8, 12))
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    with pytest.raises(InputError, match="the prefix must not be in the loss"):
        PrefixLM()(reading_model(PrefixLM()), batch)


def test_a_reading_order_that_causal_lm_never_made_is_refused():
    """Ranks of zero let every token read every other, its own answer among them."""
    batch = {"input_ids": TEXT, "labels": TEXT, "reading_rank": torch.zeros_like(TEXT)}
    for objective in (CausalLM(), FillInTheMiddle()):
        with pytest.raises(InputError, match="this batch brings another, reading_rank"):
            objective(reading_model(objective), batch)


def test_a_batch_in_which_nothing_is_hidden_is_refused_though_few_tokens_are_in_the_loss():
    labels = TEXT.repeat(1, 4)
    labels[:, ::2] = IGNORED
    with pytest.raises(InputError, match="32 of the 32 tokens in the loss are not hidden, of 64 in this batch"):
        MaskedLM()(reading_model(MaskedLM()), {"input_ids": TEXT.repeat(1, 4), "labels": labels})
    own_rule = MaskedLM(mask_replace_prob=0.0, random_replace_prob=0.0)  # it asks for just that
    assert own_rule(reading_model(own_rule), {"input_ids": TEXT.repeat(1, 4), "labels": labels}).count == 32


def test_a_few_hidden_tokens_that_all_stayed_as_they_are_are_no_fault():
    """One of ten stays, so a row with two hidden tokens hides neither in 1 of 100."""
    labels = torch.full_like(TEXT, IGNORED)
    labels[:, 0] = TEXT[:, 0]
    assert MaskedLM()(reading_model(MaskedLM()), {"input_ids": TEXT, "labels": labels}).count == 2


def test_a_visible_token_in_the_loss_of_diffusion_is_refused():
    batch = batch_of(MaskedDiffusion(), (8, 12))
    batch["labels"] = batch["labels"].clone()
    shown = (batch["labels"] == IGNORED) & (batch["attention_mask"] == 1)
    batch["labels"][shown] = batch["input_ids"][shown]
    with pytest.raises(InputError, match="are in the loss and not hidden"):
        MaskedDiffusion()(reading_model(MaskedDiffusion()), batch)


@pytest.mark.parametrize("objective", [MaskedLM(), MaskedDiffusion(), CausalLM(), PrefixLM()], ids=repr)
def test_labels_at_padding_are_refused(objective):
    batch = batch_of(objective, (8, 12))
    batch["labels"] = batch["labels"].masked_fill(batch["attention_mask"] == 0, 7)
    with pytest.raises(InputError, match="4 labels of this batch stand at padding"):
        objective(reading_model(objective), batch)


def test_decoder_inputs_that_are_the_labels_themselves_are_refused():
    batch = batch_of(SpanCorruption(noise_density=0.4), (24, 31))
    batch["decoder_input_ids"] = batch["labels"].masked_fill(batch["labels"] == IGNORED, SPECIAL.pad)
    with pytest.raises(InputError, match="the decoder would read its answers"):
        SpanCorruption()(reading_model(SpanCorruption()), batch)


def test_a_text_of_one_token_is_no_fault_of_the_decoder():
    """Its labels equal its decoder inputs at most places, and are one place later even so."""
    batch = (
        SpanCorruption(noise_density=0.5, mean_noise_span_length=8.0)
        .collator(SPECIAL)
        .block(torch.full((2, 24), 5), [0, 1])
    )
    assert SpanCorruption()(reading_model(SpanCorruption()), batch).mean.isfinite()


def test_keys_that_only_a_loss_can_read_must_be_read_beside_logits_too():
    labels = torch.where(torch.arange(8) % 2 == 0, TEXT, IGNORED)
    batch = {"labels": labels, "weights": torch.ones(2, 8)}
    with pytest.raises(InputError, match="does not read weights"):
        MaskedLM()(torch.zeros(2, 8, VOCAB), batch)


# ------------------------------------------------------------------ shifted labels


def test_shifted_labels_have_a_name_of_their_own():
    model, objective = reading_model(CausalLM()), CausalLM()
    shifted = torch.cat([TEXT[:, 1:], torch.full((2, 1), IGNORED)], 1)
    expected = objective(model, {"input_ids": TEXT, "labels": TEXT})
    given = objective(model, {"input_ids": TEXT, "shift_labels": shifted})
    assert given.mean == expected.mean
    assert given.count == expected.count == 14
    logits = model.unembed(model(TEXT))
    torch.testing.assert_close(objective(logits, {"shift_labels": shifted}).mean, expected.mean)


def test_nanogpts_rows_keep_their_last_target():
    """Its y holds the token behind the row as well, so all T outputs are in the loss."""
    x, y = torch.arange(10)[None, :-1], torch.arange(10)[None, 1:]
    assert CausalLM()(reading_model(CausalLM()), {"input_ids": x, "shift_labels": y}).count == 9


def test_labels_that_are_shifted_once_too_often_are_recognised_beside_logits_too():
    shifted = {"input_ids": TEXT, "labels": torch.cat([TEXT[:, 1:], torch.full((2, 1), IGNORED)], 1)}
    for objective in (CausalLM(), FillInTheMiddle()):
        for first in (reading_model(objective), torch.zeros(2, 8, VOCAB)):
            with pytest.raises(InputError, match="call these shift_labels"):
                objective(first, shifted)


def test_shift_labels_that_are_not_shifted_are_refused():
    with pytest.raises(InputError, match="shift_labels are not shifted"):
        CausalLM()(torch.zeros(2, 8, VOCAB), {"input_ids": TEXT, "shift_labels": TEXT})


def test_labels_and_shifted_labels_together_are_refused():
    with pytest.raises(InputError, match="labels of the batch"):
        CausalLM()(reading_model(CausalLM()), {"input_ids": TEXT, "labels": TEXT, "shift_labels": TEXT.roll(-1, 1)})


# ------------------------------------------------------------------ models


def test_an_encoder_is_refused_where_it_would_read_its_answers():
    encoder = EncoderOnly(ModelConfig(VOCAB, d_model=16, n_layers=1, n_heads=2))
    for objective in (CausalLM(), FillInTheMiddle()):
        with pytest.raises(InputError, match="EncoderOnly reads both sides"):
            objective(encoder, {"input_ids": TEXT, "labels": TEXT})
    PrefixLM()(encoder, batch_of(PrefixLM(), (8, 12)))  # under a reading rank both stacks are one


class Foreign(nn.Module):
    """Somebody else's model, with a config that says what it is."""

    def __init__(self, **config):
        super().__init__()
        self.embed, self.head, self.config = nn.Embedding(VOCAB, 8), nn.Linear(8, VOCAB), SimpleNamespace(**config)

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        return self.head(self.embed(input_ids if decoder_input_ids is None else decoder_input_ids))


class AnyForMaskedLM(Foreign):
    """By Hugging Face's naming an encoder."""


def test_a_model_that_says_what_it_is_is_held_to_it():
    causal = {"input_ids": TEXT, "labels": TEXT}
    with pytest.raises(InputError, match="AnyForMaskedLM reads both sides"):
        CausalLM()(AnyForMaskedLM(is_decoder=False), causal)
    CausalLM()(AnyForMaskedLM(is_decoder=True), causal)
    CausalLM()(Foreign(), causal)
    with pytest.raises(InputError, match="Foreign is an encoder-decoder"):
        MaskedLM()(Foreign(is_encoder_decoder=True), batch_of(MaskedLM(), (8, 8)))


def test_a_decoder_that_starts_with_another_id_is_refused():
    """BART starts with its end of text; trained behind a pad it would begin its generate() with what it never saw."""
    batch = batch_of(SpanCorruption(), (24, 24))
    model = Foreign(is_encoder_decoder=True, decoder_start_token_id=SPECIAL.eos)
    with pytest.raises(InputError, match=f"starts its decoder with {SPECIAL.eos}, and the batch with {SPECIAL.pad}"):
        SpanCorruption()(model, batch)
    model.config.decoder_start_token_id = SPECIAL.pad
    assert SpanCorruption()(model, batch).mean.isfinite()


def test_rows_that_begin_in_mid_text_are_refused_for_the_positions_that_the_decoder_does_not_read():
    model = Foreign(is_encoder_decoder=True, decoder_start_token_id=SPECIAL.pad)
    with pytest.raises(InputError, match="nor the mass objective reads decoder_position_ids"):
        OBJECTIVES["mass"]()(model, batch_of(OBJECTIVES["mass"](), (24, 24)))


def test_outputs_that_the_objective_does_not_read_are_named():
    class TwoHeads(Foreign):
        def forward(self, input_ids, attention_mask=None):
            states = self.embed(input_ids)
            return {"logits": Prediction(self.head(states)), "next_but_one": Prediction(self.head(states))}

    with pytest.raises(InputError, match="TwoHeads returns next_but_one"):
        CausalLM()(TwoHeads(), {"input_ids": TEXT, "labels": TEXT})
