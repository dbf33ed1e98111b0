"""Prefix LM: ranks, labels, the distribution of the prefix, documents, and generation from a bidirectional prompt."""

import pytest
import torch

from clozelab import CausalLM, PrefixLM
from clozelab.data import Examples, Noise, SpecialIds
from clozelab.generation import continue_text, generate
from clozelab.models import Cache
from clozelab.objectives.prefix_lm import prefix_batch

from .cases import SPECIAL, batch_of, reading_model


def examples_of(tokens, document_ids=None):
    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    noise = Noise.of(0, 0, range(len(tokens)))
    return Examples(tokens, everywhere, everywhere, noise, SPECIAL, document_ids=document_ids)


def test_the_golden_batch_of_a_prefix_of_three():
    tokens = torch.arange(10, 18)[None]
    batch = prefix_batch(examples_of(tokens), torch.arange(8), torch.tensor([[3]]))
    assert batch["reading_rank"].tolist() == [[0, 0, 0, 1, 2, 3, 4, 5]]
    assert batch["labels"].tolist() == [[-100] * 3 + [13, 14, 15, 16, 17]]
    target = PrefixLM().targets(batch)["logits"]
    assert target.loss_mask[0].nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6]  # the first is the last token of the prefix
    [matrix] = PrefixLM().reads(batch).values()
    rows = ["".join(str(int(x)) for x in row[:6]) for row in matrix[0][:6]]
    assert " ".join(rows) == "111000 111000 111000 111100 111110 111111"


def test_a_token_that_is_not_in_the_loss_is_read_as_the_others_behind_the_prefix():
    """By the place of the first label of each document, whatever is missing after it."""
    tokens, documents = torch.arange(10, 20)[None], torch.tensor([[0] * 5 + [1] * 5])
    batch = PrefixLM().collator(SPECIAL).block(tokens, [0]) | {"document_ids": documents}
    batch["labels"] = torch.tensor([[-100, 11, 12, 13, 14, -100, -100, 17, 18, 19]])
    [whole] = PrefixLM().reads(batch).values()
    batch["labels"] = torch.tensor([[-100, 11, -100, 13, 14, -100, -100, 17, -100, 19]])
    [holes] = PrefixLM().reads(batch).values()
    assert torch.equal(holes, whole)
    assert whole[0, 5:, 5:].int().tolist() == [[1, 1, 0, 0, 0]] * 2 + [[1] * n + [0] * (5 - n) for n in (3, 4, 5)]


def test_each_length_of_the_prefix_is_equally_likely():
    """1 .. n - 1 of n tokens, so that position t is in the loss with probability t / (n - 1)."""
    n, rows = 8, 7000
    batch = PrefixLM().collator(SPECIAL).block(torch.zeros(rows, n, dtype=torch.int64), range(rows))
    lengths = (batch["reading_rank"] == 0).sum(1)
    counts = torch.bincount(lengths, minlength=n + 1)
    assert counts[0] == counts[n] == 0
    expected = rows / (n - 1)
    chi_square = ((counts[1:n] - expected) ** 2 / expected).sum().item()
    assert chi_square < 22.5  # 6 degrees of freedom, p = 0.001
    share = (batch["labels"] != -100).double().mean(0)
    torch.testing.assert_close(share, torch.arange(n).double() / (n - 1), atol=0.03, rtol=0)


def test_a_text_of_one_token_has_nothing_to_predict():
    assert PrefixLM()(reading_model(PrefixLM()), batch_of(PrefixLM(), (1,))).count == 0


def test_each_document_has_a_prefix_of_its_own():
    eos = SPECIAL.eos
    text = torch.tensor([[10, 11, 12, 13, eos, 20, 21, 22, eos, 30]])
    for seed in range(10):
        batch = PrefixLM().collator(SPECIAL, within_documents=True, seed=seed).block(text, [0])
        rank = batch["reading_rank"][0]
        for part in (slice(0, 5), slice(5, 9)):
            prefix = int((rank[part] == 0).sum())
            assert 1 <= prefix < len(rank[part])
            assert rank[part].tolist() == [0] * prefix + list(range(1, len(rank[part]) - prefix + 1))
        assert batch["labels"][0, -1] == -100  # a document of one token is all prefix


def test_packed_documents_cost_what_they_cost_apart():
    objective, model = PrefixLM(), reading_model(PrefixLM())
    rows = torch.tensor([[10, 11, 12, 13, 14, 20, 21, 22, 23]])
    place = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 2, 3]])
    prefix = torch.tensor([[2, 2, 2, 2, 2, 3, 3, 3, 3]])
    packed = prefix_batch(examples_of(rows, torch.tensor([[0] * 5 + [1] * 4])), place, prefix)
    first = prefix_batch(examples_of(rows[:, :5]), place[:, :5], prefix[:, :5])
    second = prefix_batch(examples_of(rows[:, 5:]), place[:, 5:], prefix[:, 5:])
    apart = objective(model, first) + objective(model, second)
    assert objective(model, packed).item() == pytest.approx(apart.item(), rel=1e-12)


def test_generation_reads_the_prompt_on_both_sides():
    """The first generated token is the argmax of the uncached model that is given the prompt as a prefix."""
    model, prompt = reading_model(PrefixLM(), std=0.5), torch.tensor([[5, 9, 13, 7]])
    generated = generate(model, prompt, max_new_tokens=3, bidirectional_prompt=True, greedy=True)
    for n in range(4, 7):
        rank = (torch.arange(n) - 4 + 1).clamp(min=0)[None]
        logits = model.unembed(model(generated[:, :n], reading_rank=rank)[:, -1])
        assert logits.argmax(-1) == generated[:, n]
    from_the_left = model.unembed(model(prompt)[:, -1])
    both_sides = model.unembed(model(prompt, reading_rank=torch.zeros_like(prompt))[:, -1])
    assert not torch.allclose(from_the_left, both_sides)  # so the two can be told apart here


def test_a_text_is_completed_by_a_model_that_reads_it_on_both_sides(tokenizer):
    model = PrefixLM().build_model(tokenizer.vocab_size, "tiny", d_model=16, n_layers=2, n_heads=2)
    generator, text = torch.Generator().manual_seed(1), "The cat sat on the mat"
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    how = {"max_new_tokens": 8, "greedy": True}
    completed = str(PrefixLM().complete(model, tokenizer, text, **how))
    assert completed == str(continue_text(model, tokenizer, text, bidirectional_prompt=True, **how))
    assert str(CausalLM().complete(model, tokenizer, text, **how)) != completed


def test_a_cache_after_a_bidirectional_prompt_continues_from_the_left():
    model, text = reading_model(PrefixLM()), torch.tensor([[5, 9, 13, 7, 8]])
    cache = Cache()
    first = model(text[:, :3], reading_rank=torch.zeros(1, 3, dtype=torch.int64), cache=cache)
    rest = torch.cat([model(text[:, t : t + 1], cache=cache) for t in (3, 4)], 1)
    whole = model(text, reading_rank=torch.tensor([[0, 0, 0, 1, 2]]))
    torch.testing.assert_close(torch.cat([first, rest], 1), whole, rtol=1e-12, atol=1e-12)


def test_a_prefix_of_one_token_is_causal_lm():
    batch = prefix_batch(examples_of(torch.arange(10, 18)[None]), torch.arange(8), torch.tensor([[1]]))
    model = reading_model(PrefixLM())
    causal = {"input_ids": batch["input_ids"], "labels": batch["input_ids"]}
    assert PrefixLM()(model, batch).item() == pytest.approx(CausalLM()(model, causal).item(), rel=1e-12)


def test_the_class_refuses_export():
    assert "both sides" in PrefixLM.export_refusal
    assert SpecialIds(9, pad=0, eos=1)["decoder_start"] == 0
