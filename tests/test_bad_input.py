"""What is wrong is refused at the door, by name: no silent cut, no bare TypeError, no figure that means nothing."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clozelab.data import Noise, SpecialIds, corrupt_spans, load_corpus, pack, train_bpe
from clozelab.data.masking import bernoulli_mask, exact_count_mask
from clozelab.data.span_masking import solve_span_lengths
from clozelab.errors import InputError, NotFinite
from clozelab.evaluation import evaluate
from clozelab.generation import fill_masks, generate, sample_token
from clozelab.models import build
from clozelab.objectives import CausalLM, Loss, MaskedDiffusion, MaskedLM, SpanCorruption
from clozelab.training import TrainConfig, train

SPECIAL = SpecialIds(vocab_size=40, pad=0, eos=1, mask=2, sentinels=range(39, 29, -1))
ROW = {"input_ids": [5, 6, 7, 8, 9, 10, 11, 12]}
FREE = torch.ones(8, dtype=torch.bool)
TEXTS = [f"The number {n} comes before {n + 1}." for n in range(300)]


def collate(objective=None, **more):
    return (objective or MaskedLM()).collator(SPECIAL, **more)


def block(**more):
    return collate().block(torch.arange(5, 13)[None], [0], **more)


class Scheme:
    """A class where one of its instances is meant."""


def everything(tokens, maskable, generator):
    """A scheme that ignores what may be hidden."""
    return torch.ones_like(maskable)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpecialIds(vocab_size=40, pad=1.5, eos=1), "pad must be a whole number, got 1.5"),
        (lambda: SpecialIds(vocab_size="40", pad=0, eos=1), "vocab_size must be a whole number"),
        (lambda: SpecialIds(vocab_size=40, pad=True, eos=1), "pad must be a whole number"),
        (lambda: SpecialIds(vocab_size=40, pad=0, eos=1, sentinels=5), "sentinels must be a list of ids"),
        (lambda: SpecialIds(vocab_size=40, pad=0, eos=1, sentinels=(0,)), "have two meanings"),
        (lambda: SpecialIds(vocab_size=40, pad=2, eos=1, mask=2), "have two meanings"),
        (lambda: SpecialIds(vocab_size=2**40, pad=0, eos=1), "vocab_size must lie in"),
        (lambda: Noise.of(0, 0, [1.7]), "an example id must be a whole number, got 1.7"),
        (lambda: Noise.of(0, 0, torch.tensor([1.9])), "an example id must be a whole number"),
        (lambda: Noise.of(1.5, 0, [1]), "the seed must be a whole number"),
        (lambda: Noise.of(0, [1, 2, 3], [1, 2]), "one for each of 2 rows, got 3"),
        (lambda: Noise.of(0, 0, "abc"), "expected an id for each example, got str"),
        (lambda: collate()([{**ROW, "example_id": 1.7}]), "an example id must be a whole number"),
        (lambda: collate()([{**ROW, "epoch": "one"}]), "an epoch must be a whole number"),
        (lambda: collate(seed=1.5), "seed must be a whole number"),
        (lambda: collate(epoch=None), "epoch must be a whole number"),
        (lambda: collate()(torch.ones(2, 3)), "expected a list of examples, got Tensor"),
        (lambda: collate()(row for row in [ROW]), "expected a list of examples, got generator"),
        (lambda: collate()([{"input_ids": [True, False]}]), "a list of integers"),
        (lambda: collate().block(torch.ones(1, 3), [0]), "of whole numbers"),
        (lambda: block(epoch=[1, 2]), "expected one epoch"),
        (lambda: block(word_ids=torch.zeros(1, 3)), "expected word_ids"),
        (
            lambda: collate()([{**ROW, "token_type_ids": [0] * 8}]),
            "example 0 has 'token_type_ids', which the collator does not read: remove it, or pass it on",
        ),
        (
            lambda: collate(SpanCorruption(), keep=["k"])([{**ROW, "k": [0] * 8}]),
            "'k' has one value a token, but .* changes the number of tokens",
        ),
        (lambda: MaskedLM(mask_replace_prob=math.nan), "mask_replace_prob must lie in"),
        (lambda: MaskedLM(random_replace_prob=math.nan), "random_replace_prob must lie in"),
        (lambda: MaskedLM(scheme=Scheme), "the class Scheme: call it"),
        (
            lambda: MaskedLM(scheme="exact"),
            "scheme must be one of exact-count, bernoulli, whole-words, n-grams, .* or a function",
        ),
        (lambda: SpanCorruption(scheme="exact"), "scheme must be one of random-spans, rolled-spans or a function"),
        (lambda: MaskedLM(mask_rate=0.4, scheme=everything), "mask_rate 0.4 would be ignored"),
        (lambda: collate(MaskedLM(scheme=everything))([{"input_ids": [5, 6, 1]}]), "everything hides"),
        (lambda: bernoulli_mask(FREE, torch.rand(8), 2.0), r"rate must lie in \(0, 1\]"),
        (lambda: exact_count_mask(FREE, torch.rand(8), math.nan), r"rate must lie in \(0, 1\]"),
        (lambda: MaskedLM(mask_rate="x"), "mask_rate must be a number, got 'x'"),
        (lambda: MaskedLM(mask_rate=0), r"mask_rate must lie in \(0, 1\]"),
        (lambda: SpanCorruption(mean_noise_span_length=math.inf), "mean_noise_span_length must be at least 1"),
        (lambda: MaskedDiffusion(exact_count=1), "exact_count must be True or False"),
        (lambda: collate(MaskedLM(scheme="whole-words"))([ROW]), "the rows have no 'word_ids'"),
        (lambda: corrupt_spans(torch.arange(5, 13), ~FREE, [39, 39]), "no two alike"),
        (lambda: solve_span_lengths(math.inf), "must be a whole number"),
        (lambda: load_corpus(TEXTS, heldout=math.nan), "heldout must lie"),
        (lambda: load_corpus([*TEXTS, "half \ud800"]), "half a character"),
        (lambda: train_bpe("one text"), "put it in a list"),
        (lambda: train_bpe([None]), "as a string, got NoneType"),
        (lambda: train_bpe(TEXTS, vocab_size=400, sentinels=-5), "sentinels must lie in"),
        (lambda: TrainConfig(steps=1.5), "steps must be a whole number"),
        (lambda: TrainConfig(betas=(0.9,)), "betas must be two"),
        (lambda: TrainConfig(learning_rate=math.inf), "learning_rate must be positive and finite"),
        (lambda: sample_token(torch.zeros(1, 4), temperature=math.inf), "temperature must be above 0 and finite"),
        (lambda: generate(decoder(), [[5, 6]], max_new_tokens=2), "as a tensor"),
        (lambda: generate(decoder(), torch.tensor([[5]]), max_new_tokens=2, eos=99), "special ids must lie in 0 .. 39"),
        (lambda: fill_masks(encoder(), torch.tensor([5, 2]), 2), r"a tensor \(B, T\)"),
        (lambda: evaluate(MaskedLM(), encoder(), []), "at least one batch"),
    ],
)
def test_it_is_refused_with_the_reason(call, message):
    with pytest.raises(InputError, match=message):
        call()


def decoder():
    return build("decoder-only", "tiny", 40, d_model=16, n_layers=1, n_heads=2)


def encoder():
    return build("encoder-only", "tiny", 40, d_model=16, n_layers=1, n_heads=2)


APART = [CausalLM(), MaskedLM(), SpanCorruption(), MaskedDiffusion()]
"""Objectives whose batches differ in more than values."""


@pytest.mark.parametrize("mine", APART, ids=lambda o: o.name)
@pytest.mark.parametrize("other", APART, ids=lambda o: o.name)
def test_the_batch_of_another_objective_is_refused(mine, other):
    model = mine.build_model(40, "tiny", d_model=16, n_layers=1, n_heads=2)
    batch = collate(other).block(torch.arange(5, 29)[None], [0])
    if mine.name == other.name:
        assert mine(model, batch).mean > 0
    else:
        with pytest.raises(InputError, match=r"another objective|collator of|same batch|same text|would be ignored"):
            mine(model, batch)


@pytest.mark.parametrize("epoch", [3, np.int64(3), torch.tensor(3), [3], torch.tensor([3])])
def test_a_whole_number_is_one_whatever_made_it(epoch):
    assert torch.equal(Noise.of(0, epoch, [7]).uniform(0, 4), Noise.of(0, 3, torch.tensor([7])).uniform(0, 4))


def test_example_ids_beyond_64_bits_stay_apart():
    keys = Noise.of(0, 0, [0, 2**64, 2**70, -(2**70), 2**70 + 1]).keys
    assert len(set(keys.tolist())) == 5


def test_special_ids_take_what_lists_of_ids_come_as():
    for ids in (torch.tensor([39, 38]), np.array([39, 38]), [39, 38]):
        assert SpecialIds(vocab_size=40, pad=0, eos=1, sentinels=ids).sentinels == (39, 38)


def test_labels_from_numpy_are_ids_too():
    logits, labels = torch.zeros(1, 4, 10), torch.tensor([[1, 2, -100, 3]], dtype=torch.int32)
    assert int(MaskedLM()(logits, labels).count) == 3
    with pytest.raises(InputError, match="labels that are ids"):
        MaskedLM()(logits, labels.float())


def test_losses_can_be_summed_as_numbers_are():
    losses = [Loss.single(torch.tensor(4.0), torch.tensor(1)), Loss.single(torch.tensor(3.0), torch.tensor(3))]
    assert float(sum(losses).mean) == 1.75


def test_logits_that_are_no_numbers_are_refused():
    with pytest.raises(NotFinite, match="logits are NaN"):
        sample_token(torch.tensor([[1.0, math.nan]]))


@pytest.mark.parametrize("sampling", [{"temperature": 1e-320}, {"temperature": 1e40}, {"top_p": 1e-320}])
def test_extremes_are_sampled_from(sampling):
    assert int(sample_token(torch.tensor([[0.1, 3.0, -math.inf]]), **sampling)) in (0, 1)


def test_what_does_not_belong_together_is_not_trained(tmp_path):
    tokenizer, other = train_bpe(TEXTS, vocab_size=400), train_bpe(TEXTS, vocab_size=380)
    text = pack(TEXTS, tokenizer, cache_dir=tmp_path)
    config = TrainConfig(steps=1, length=16)

    def attempt(objective, model, tokenizer=tokenizer):
        train(objective, model, tokenizer, text, text, config)

    shape = {"vocab_size": 400, "d_model": 16, "n_layers": 1, "n_heads": 2}
    with pytest.raises(InputError, match="packed with another tokenizer"):
        attempt(CausalLM(), build("decoder-only", **shape), other)
    with pytest.raises(InputError, match="needs a model that is decoder-only, got one that is encoder-only"):
        attempt(CausalLM(), build("encoder-only", **shape))
    with pytest.raises(InputError, match="build it larger"):
        attempt(CausalLM(), build("decoder-only", **{**shape, "vocab_size": 300}))
    with pytest.raises(InputError, match="no parameter that could be trained"):
        attempt(CausalLM(), nn.Identity())
    with pytest.raises(InputError, match="leave the causal objective nothing to predict"):
        train(CausalLM(), build("decoder-only", **shape), tokenizer, text, text, TrainConfig(steps=1, length=1))
