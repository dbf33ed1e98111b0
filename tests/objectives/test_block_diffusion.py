"""Block diffusion: who reads whom, the two ends of the block size, the bound, levels, documents, generation."""

import itertools
import math

import pytest
import torch

from clozelab import CausalLM, MaskedDiffusion
from clozelab.data import Examples, Noise
from clozelab.errors import InputError
from clozelab.generation import continue_by_blocks
from clozelab.languages import MarkovSource
from clozelab.models import DecoderOnly
from clozelab.objectives import BlockDiffusion
from clozelab.objectives.block_diffusion import noisy_and_clean, number_blocks

from .cases import SPECIAL, VOCAB, WORDS, batch_of, reading_model

CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


def examples_of(tokens, special=SPECIAL):
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    return Examples(tokens, everywhere, everywhere, Noise.of(0, 0, range(len(tokens))), special)


def pattern(matrix):
    return " ".join("".join("x" if here else "." for here in row) for row in matrix.tolist())


# ------------------------------------------------------------------ who reads whom

MATRICES = {
    1: "x....... .x..x... ..x.xx.. ...xxxx. ....x... ....xx.. ....xxx. ....xxxx",
    2: "xx...... xx...... ..xxxx.. ..xxxx.. ....xx.. ....xx.. ....xxxx ....xxxx",
    3: "xxx..... xxx..... xxx..... ...xxxx. ....xxx. ....xxx. ....xxx. ....xxxx",
    4: "xxxx.... xxxx.... xxxx.... xxxx.... ....xxxx ....xxxx ....xxxx ....xxxx",
}


@pytest.mark.parametrize("size", MATRICES)
def test_the_golden_matrix_of_four_tokens(size):
    """By definition, and as the model makes it of rank and group."""
    objective, model = BlockDiffusion(block_size=size), BlockDiffusion().build_model(VOCAB, d_model=16, n_heads=2)
    batch = objective.collator(SPECIAL).block(torch.arange(4)[None], [0])
    [declared] = objective.reads(batch).values()
    assert pattern(declared[0]) == MATRICES[size]
    flags = {key: batch[key] for key in ("reading_rank", "reading_group")}
    assert torch.equal(model.attention_matrix(batch["input_ids"], **flags), declared)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]


def test_what_a_golden_batch_holds():
    """Text 10 .. 15 in blocks of 2, hidden 1 | 2 3 | 4."""
    tokens, hidden = torch.arange(10, 16)[None], torch.tensor([[False, True, True, True, True, False]])
    block, first = number_blocks(None, torch.ones(1, 6).bool(), 2)
    assert (block.tolist(), first.tolist()) == ([[0, 0, 1, 1, 2, 2]], [[0, 0, 2, 2, 4, 4]])
    batch = noisy_and_clean(examples_of(tokens), block, hidden, torch.tensor([[2.0, 2, 1, 1, 2, 2]]))
    m = SPECIAL.mask
    assert batch["input_ids"].tolist() == [[10, m, m, m, m, 15, 10, 11, 12, 13, 14, 15]]
    assert batch["labels"].tolist() == [[-100, 11, 12, 13, 14, -100] + [-100] * 6]
    assert batch["weights"].tolist() == [[2, 2, 1, 1, 2, 2] + [0] * 6]
    assert batch["reading_rank"].tolist() == [[0, 0, 1, 1, 2, 2, 1, 1, 2, 2, 3, 3]]
    assert batch["reading_group"].tolist() == [[1, 1, 2, 2, 3, 3] + [0] * 6]


def test_without_groups_or_without_ranks_the_matrix_is_another():
    """So that neither key can be lost on the way unseen: the kit compares what moved with `reads`."""
    objective = BlockDiffusion(block_size=2)
    model = objective.build_model(VOCAB, d_model=16, n_heads=2)
    batch = objective.collator(SPECIAL).block(torch.arange(4)[None], [0])
    for lost in ("reading_rank", "reading_group"):
        flags = {key: batch[key] for key in {"reading_rank", "reading_group"} - {lost}}
        assert pattern(model.attention_matrix(batch["input_ids"], **flags)[0]) != MATRICES[2]


# ------------------------------------------------------------------ the two ends of the block size


@pytest.mark.parametrize("exact_count", [True, False])
@pytest.mark.parametrize("size", [31, 32, 500])
def test_one_block_of_all_tokens_is_masked_diffusion_bit_for_bit(size, exact_count):
    blocks, whole = BlockDiffusion(block_size=size, exact_count=exact_count), MaskedDiffusion(exact_count=exact_count)
    lengths = (24, 9, 31, 16)
    doubled, single = batch_of(blocks, lengths), batch_of(whole, lengths)
    assert torch.equal(doubled["count"], single["count"])
    for b, n in enumerate(lengths):
        for key in ("input_ids", "labels", "weights"):
            assert torch.equal(doubled[key][b, :n], single[key][b, :n])
    model = reading_model(whole)
    torch.testing.assert_close(
        blocks(model, doubled)["logits"].row_sums, whole(model, single)["logits"].row_sums, rtol=1e-12, atol=0
    )


def test_blocks_of_one_hide_every_token_at_a_weight_of_one():
    batch = batch_of(BlockDiffusion(block_size=1), (7, 4))
    for row, labels, weights, n in zip(batch["input_ids"], batch["labels"], batch["weights"], (7, 4)):
        assert (row[:n] == SPECIAL.mask).all()
        assert torch.equal(labels[:n], row[n : 2 * n])
        assert weights.tolist() == [1.0] * n + [0.0] * (14 - n)


def test_blocks_of_one_predict_as_a_causal_model_that_reads_the_text_so_far_and_a_mask():
    """Output t equals that of a decoder of the same weights, which is given x[0] .. x[t-1] and a mask, at its end."""
    objective = BlockDiffusion(block_size=1)
    model, tokens = reading_model(objective), torch.arange(5, 12)[None]
    causal = DecoderOnly(model.config).double()
    causal.load_state_dict(model.state_dict())
    batch = objective.collator(SPECIAL).block(tokens, [0])
    outputs = model(**objective.model_inputs(model, batch))
    nats = 0.0
    for t in range(7):
        so_far = torch.cat([tokens[:, :t], torch.tensor([[SPECIAL.mask]])], 1)
        expected = causal(so_far)[0, -1]
        torch.testing.assert_close(outputs[0, t], expected, rtol=1e-10, atol=1e-12)
        nats -= causal.unembed(expected).log_softmax(-1)[tokens[0, t]].item()
    assert objective(model, batch).sum.item() == pytest.approx(nats, rel=1e-12)


def test_blocks_of_one_are_a_distribution_over_texts():
    """exp(-sum) adds up to 1 over all texts of 3 ids and 4 tokens, as of every autoregressive model."""
    objective = BlockDiffusion(block_size=1)
    model = reading_model(objective)
    texts = torch.cartesian_prod(*[torch.arange(3)] * 4)
    batch = objective.collator(SPECIAL).block(texts, range(81))
    hidden = model(**objective.model_inputs(model, batch))
    costs = -model.unembed(hidden)[:, :4, :3].log_softmax(-1).gather(2, texts[:, :, None])[..., 0].sum(1)
    assert (-costs).exp().sum().item() == pytest.approx(1.0, rel=1e-10)


# ------------------------------------------------------------------ the bound


def all_hidden_sets(length, size):
    """(hidden (N, T), weights (N, T), probability (N,)): every outcome of the levels and choices of every block."""
    of_block = []
    for start in range(0, length, size):
        places = range(start, min(start + size, length))
        of_block.append(
            [
                (chosen, {t: len(places) / k for t in places}, 1 / len(places) / math.comb(len(places), k))
                for k in range(1, len(places) + 1)
                for chosen in itertools.combinations(places, k)
            ]
        )
    hidden, weights, probability = [], [], []
    for outcome in itertools.product(*of_block):
        chosen = {t for places, _, _ in outcome for t in places}
        weight = {t: w for _, each, _ in outcome for t, w in each.items()}
        hidden.append([t in chosen for t in range(length)])
        weights.append([weight[t] for t in range(length)])
        probability.append(math.prod(p for _, _, p in outcome))
    return torch.tensor(hidden), torch.tensor(weights), torch.tensor(probability, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("text", "nats"), [([0, 1, 1, 0], 4.150915), ([0, 0, 0, 0], None), ([1, 0, 1, 0], None)])
def test_the_best_loss_is_the_likelihood_of_each_text_at_every_block_size(text, nats, size):
    """Of x = 0 1 1 0 on the chain: 4.150915 nats, in blocks of 1 as of 4. It is causal LM's, and the first token's."""
    special = CHAIN.special_ids()
    hidden, weights, probability = all_hidden_sets(4, size)
    assert probability.sum().item() == pytest.approx(1.0)
    tokens = torch.tensor([text] * len(hidden))
    block, _ = number_blocks(None, torch.ones_like(hidden), size)
    batch = noisy_and_clean(examples_of(tokens, special), block, hidden, weights)
    floors = BlockDiffusion(block_size=size).entropy_floor(CHAIN, batch, special)["logits"]
    expected = -CHAIN.log_prob(torch.tensor(text)).item()
    assert (floors * probability).sum().item() == pytest.approx(expected, rel=1e-6)  # weights are float32
    causal = CausalLM().entropy_floor(CHAIN, {"input_ids": tokens[:1], "labels": tokens[:1]}, special)["logits"]
    assert expected == pytest.approx(causal.item() - CHAIN.stationary.log()[text[0]].item())
    assert nats is None or expected == pytest.approx(nats, abs=1e-6)


def test_one_level_for_all_blocks_of_a_row_would_cost_as_much_in_the_mean():
    """So that the draw of each block by itself is a matter of variance, which no value shows; levels are tested."""
    n, rows, size = 8, 3000, 4
    batch = BlockDiffusion(block_size=size).collator(SPECIAL).block(torch.zeros(rows, n).long(), range(rows))
    hidden = (batch["labels"][:, :n] != -100).view(rows, 2, size).sum(2)  # k of each block
    table = torch.zeros(size, size).index_put_((hidden[:, 0] - 1, hidden[:, 1] - 1), torch.tensor(1.0), accumulate=True)
    expected = rows / size**2
    assert ((table - expected) ** 2 / expected).sum().item() < 37.7  # 15 degrees of freedom, p = 0.001
    weights = batch["weights"][:, :n].view(rows, 2, size)
    assert torch.equal(weights, (size / hidden)[..., None].expand_as(weights).float())


def test_each_token_of_a_block_is_hidden_as_often():
    rows = 4000
    batch = BlockDiffusion(block_size=3).collator(SPECIAL).block(torch.zeros(rows, 8).long(), range(rows))
    share = (batch["labels"][:, :8] != -100).double().mean(0)  # (b + 1) / 2b, of a last block of 2 as well
    expected = torch.tensor([2 / 3] * 6 + [3 / 4] * 2, dtype=torch.float64)
    torch.testing.assert_close(share, expected, atol=4 * 0.5 / rows**0.5, rtol=0)


def test_the_exact_count_at_a_uniform_guess_has_no_variance():
    batch = batch_of(BlockDiffusion(), (24, 9, 31))
    loss = BlockDiffusion()(torch.zeros(*batch["labels"].shape, VOCAB), batch)["logits"]
    torch.testing.assert_close(loss.row_sums / batch["count"], torch.full((3,), math.log(VOCAB)))
    assert batch["count"].tolist() == [24, 9, 31]


# ------------------------------------------------------------------ documents, lengths, ids


def test_each_document_begins_a_block():
    text = torch.tensor([[10, 11, 12, 13, SPECIAL.eos, 20, 21, 22]])
    objective = BlockDiffusion(block_size=2)
    batch = objective.collator(SPECIAL, within_documents=True).block(text, [0])
    assert batch["reading_rank"].tolist() == [[0, 0, 1, 1, 2, 3, 3, 4, 1, 1, 2, 2, 3, 4, 4, 5]]
    assert batch["document_ids"].tolist() == [[0] * 5 + [1] * 3 + [0] * 5 + [1] * 3]


def test_ends_of_text_may_be_hidden_and_other_special_ids_may_not():
    text = torch.tensor([[5, SPECIAL.eos, 6, SPECIAL.sentinels[0], 7, 8]] * 200)
    batch = BlockDiffusion(block_size=2).collator(SPECIAL).block(text, range(200))
    assert (batch["labels"] != -100).any(0).tolist()[:6] == [True, True, True, False, True, True]
    assert (batch["count"] == 5).all()
    assert (batch["weights"][:, 2] == 1).all()  # alone in its block


def test_the_whole_text_is_scored_and_half_of_the_row_is_text():
    objective, text = BlockDiffusion(), torch.randint(0, WORDS, (3, 12))
    batch = objective.collator(SPECIAL).block(text, range(3))
    assert torch.equal(objective.scored_ids(batch), text.flatten())
    assert objective.source_length(25) == 12
    with pytest.raises(InputError, match="does not hold a text twice"):
        objective.source_length(1)
    with pytest.raises(InputError, match="block_size must be at least 1"):
        BlockDiffusion(block_size=0)


# ------------------------------------------------------------------ generation


@pytest.mark.parametrize("size", [1, 3])
def test_generation_fills_one_block_after_the_other(size, tokenizer):
    """Greedily: each token is the most certain of its block, given the blocks before it and what is filled of it."""
    objective, special = BlockDiffusion(block_size=size), tokenizer.special
    torch.manual_seed(1)
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=2, n_heads=2).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    prompt = tokenizer.encode("The cat sat")
    row, left = [*prompt], 5
    while left:
        masks = min(size - len(row) % size, left)
        row, left = row + [special.mask] * masks, left - masks
        for _ in range(masks):
            rank = torch.arange(len(row))[None] // size
            logits = model.unembed(model(torch.tensor([row]), reading_rank=rank))[0]
            logits[:, [one for one in special.all if one != special.eos]] = -torch.inf
            blank = [t for t, token in enumerate(row) if token == special.mask]
            best = max(blank, key=lambda t, logits=logits: logits[t].log_softmax(-1).max().item())
            row[best] = int(logits[best].argmax())
    assert special.eos not in row  # or the texts would end before
    done = continue_by_blocks(model, tokenizer, "The cat sat", block_size=size, max_new_tokens=5, greedy=True)
    assert str(done) == tokenizer.decode(row)
    assert str(done.parts[0][0]) == "The cat sat"


def test_generation_stops_at_an_end_of_text(tokenizer):
    objective, special = BlockDiffusion(block_size=2), tokenizer.special
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.embedding.weight[special.mask] = 1.0  # blocks are the identity: a mask is all that it reads
        model.embedding.weight[special.eos] = 1.0
    done = objective.complete(model, tokenizer, "The cat", max_new_tokens=9, greedy=True)
    assert str(done) == "The cat"
