"""Positions of a decoder: those that are given, and those that its cross-attention knows."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.models import Cache, DecoderOnly, EncoderDecoder, ModelConfig

from .cases import IDS, TARGETS, V, random_weights


def double(**more) -> EncoderDecoder:
    return random_weights(EncoderDecoder(ModelConfig(vocab_size=V, d_model=32, n_layers=2, **more)).double())


PLACES = torch.arange(5).expand(2, 5)


@pytest.mark.parametrize("cross_rotary", [False, True])
def test_positions_count_from_zero_where_none_are_given(cross_rotary):
    model = double(cross_rotary=cross_rotary)
    torch.testing.assert_close(model(IDS, TARGETS), model(IDS, TARGETS, decoder_position_ids=PLACES))


def test_where_a_decoder_stands_matters_to_a_cross_attention_with_positions_alone():
    """Self-attention knows distances: all places shifted alike are no other places to it."""
    for cross_rotary in (False, True):
        model = double(cross_rotary=cross_rotary)
        shifted = model(IDS, TARGETS, decoder_position_ids=PLACES + 3)
        assert torch.allclose(model(IDS, TARGETS), shifted) != cross_rotary
        assert not torch.allclose(model(IDS, TARGETS), model(IDS, TARGETS, decoder_position_ids=2 * PLACES))


def test_cross_attention_with_positions_knows_the_order_of_what_it_reads():
    """Of an encoder whose blocks add nothing, so that its states have no order of their own."""
    for cross_rotary in (False, True):
        model = double(cross_rotary=cross_rotary)
        for block in model.encoder:
            torch.nn.init.zeros_(block.attention.output.weight)
        assert torch.allclose(model(IDS, TARGETS), model(IDS.flip(1), TARGETS)) != cross_rotary


def test_a_cache_computes_what_the_whole_row_does():
    model = double(cross_rotary=True)
    encoded, cache, places = model.encode(IDS), Cache(), 2 + PLACES
    steps = [
        model.decode(TARGETS[:, a:b], encoded, decoder_position_ids=places[:, a:b], cache=cache)
        for a, b in ((0, 2), (2, 3), (3, 5))
    ]
    torch.testing.assert_close(torch.cat(steps, 1), model(IDS, TARGETS, decoder_position_ids=places))


def test_what_does_not_fit_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"decoder_position_ids of the shape \(2, 5\)"):
        double()(IDS, TARGETS, decoder_position_ids=torch.arange(5)[None])
    with pytest.raises(InputError, match="cross_rotary is for an encoder-decoder"):
        DecoderOnly(ModelConfig(vocab_size=V, cross_rotary=True))
    with pytest.raises(InputError, match="expected cross_rotary as bool, got int"):
        ModelConfig(vocab_size=V, cross_rotary=1)
