"""Reading rank, reading group, positions and caches: one stack of blocks, in any order."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.models import Cache, DecoderOnly, EncoderOnly, ModelConfig

from .cases import IDS, V, changed, random_weights


def double(made, **more) -> torch.nn.Module:
    return random_weights(made(ModelConfig(vocab_size=V, d_model=32, n_layers=2, **more)).double())


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_rank_that_counts_makes_a_decoder_and_one_that_does_not_an_encoder():
    """The two classes differ by one word, so with a rank their weights are each other's."""
    decoder, encoder = double(DecoderOnly), double(EncoderOnly)
    encoder.load_state_dict(decoder.state_dict())
    causal, full = torch.arange(8).expand(2, 8), torch.zeros(2, 8, dtype=torch.int64)
    assert not torch.allclose(decoder(IDS), encoder(IDS))
    for model in (decoder, encoder):
        close(model(IDS, reading_rank=causal), decoder(IDS))
        close(model(IDS, reading_rank=full), encoder(IDS))


def test_a_rank_is_combined_with_padding_and_documents():
    model = double(DecoderOnly)
    rank = torch.tensor([[0, 0, 0, 1, 2, 3, 4, 5], [0, 0, 1, 0, 0, 0, 1, 2]])
    documents = torch.tensor([[0] * 8, [0, 0, 0, 1, 1, 1, 1, 1]])
    padding = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0], [1] * 8])
    together = model(IDS, attention_mask=padding, document_ids=documents, reading_rank=rank)
    close(together[:1, :6], model(IDS[:1, :6], reading_rank=rank[:1, :6]))
    close(together[1:, :3], model(IDS[1:, :3], reading_rank=rank[1:, :3]))
    close(together[1:, 3:], model(IDS[1:, 3:], reading_rank=rank[1:, 3:]))


def test_a_token_of_another_group_changes_nothing():
    model = double(DecoderOnly)
    rank, group = torch.zeros(2, 8, dtype=torch.int64), torch.tensor([[1, 1, 2, 2, 0, 0, 0, 0]] * 2)
    other = IDS.clone()
    other[:, 2] = 50
    moved = changed(model, IDS, other, reading_rank=rank, reading_group=group)
    assert moved.tolist() == [False, False, True, True, False, False, False, False]


def test_position_ids_are_those_of_each_row():
    model = double(DecoderOnly)
    counted = torch.arange(8).expand(2, 8)
    close(model(IDS, position_ids=counted), model(IDS))
    close(model(IDS, position_ids=counted + 100), model(IDS))  # only distances matter
    own = torch.stack([torch.arange(8) * 3, torch.tensor([0, 1, 2, 0, 1, 2, 3, 4])])
    together = model(IDS, position_ids=own)
    assert not torch.allclose(together, model(IDS))
    for row in range(2):
        close(together[row : row + 1], model(IDS[row : row + 1], position_ids=own[row : row + 1]))


def test_a_text_in_another_order_is_the_same_text_with_its_positions_and_ranks():
    """Positions and reading rank say everything about order; the place in the row says nothing."""
    model = double(DecoderOnly)
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    shuffled = model(IDS[:, order], reading_rank=order.expand(2, 8), position_ids=order.expand(2, 8))
    close(shuffled, model(IDS)[:, order])


@pytest.mark.parametrize("split", [[3, 5], [3, 1, 1, 1, 1, 1], [3, 2, 3]])
def test_a_prefix_in_a_cache_gives_what_the_uncached_forward_gives(split):
    """A prompt of three that is read on both sides, then tokens one by one or several at once."""
    model, cache = double(DecoderOnly), Cache()
    rank = torch.tensor([0, 0, 0, 1, 2, 3, 4, 5]).expand(2, 8)
    first, *later = IDS.split(split, 1)
    parts = [model(first, reading_rank=rank[:, :3], cache=cache)] + [model(part, cache=cache) for part in later]
    assert cache.length == 8
    close(torch.cat(parts, 1), model(IDS, reading_rank=rank))
    assert not torch.allclose(torch.cat(parts, 1), model(IDS))


def test_a_cache_continues_with_positions_that_are_given():
    model, cache = double(DecoderOnly), Cache()
    positions = torch.stack([torch.arange(8) * 2, torch.arange(8) + 5])
    parts = [
        model(IDS[:, s], position_ids=positions[:, s], cache=cache) for s in (slice(0, 5), slice(5, 6), slice(6, 8))
    ]
    close(torch.cat(parts, 1), model(IDS, position_ids=positions))


def test_a_rank_comes_with_the_first_tokens_of_a_cache_alone():
    model, cache = double(DecoderOnly), Cache()
    rank = torch.zeros(2, 8, dtype=torch.int64)
    model(IDS, reading_rank=rank, cache=cache)
    with pytest.raises(InputError, match="give a reading_rank with the first call alone"):
        model(IDS, reading_rank=rank, cache=cache)
    for flag in ("attention_mask", "document_ids", "reading_group"):
        with pytest.raises(InputError, match="a cache goes with rows of equal length"):
            model(IDS, cache=Cache(), **{flag: rank})
