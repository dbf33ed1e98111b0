"""The noise is pinned: numbers, masks and whole batches as every run so far has seen them.

Whatever is written here depends on nothing but seed, epoch and example, on any platform. Where a test fails, the masks
of all that was trained before have changed: a run that is resumed goes on with others, and no experiment repeats. That
is a change of format, whatever its reason, and has to be announced as one.
"""

import hashlib

import numpy as np
import pytest
import torch

from clozelab.data import (
    Noise,
    SpecialIds,
    bernoulli_mask,
    exact_count_mask,
    random_spans_mask,
    replace_tokens,
    rolled_mask,
    whole_word_mask,
)
from clozelab.data.noise import hash_tokens
from clozelab.objectives import OBJECTIVES, MaskedDiffusion, MaskedLM, SpanCorruption

NOISE = Noise.of(17, 3, [7, "doc/7"])


def assert_pinned(found, pinned, what):
    assert found == pinned, (
        f"{what}: other numbers than in every run before. This is a change of format: announce it as one, since runs "
        f"that are resumed get other masks, and then pin what is now found: {found!r}"
    )


# ------------------------------------------------------------------ the numbers

NUMBERS = {
    0: [0.08411525094414773, 0.44401065021584873, 0.6904909149481181],
    7: [0.8708806275511985, 0.9372658259931319, 0.35317824950673204],
    2**64 - 1: [0.24138924740032464, 0.9572282485504893, 0.7244174501655168],
    -1: [0.8043405949966362, 0.05354905177238756, 0.8109164045474552],
    2**64: [0.9338011600567104, 0.6905811030336995, 0.08960714789167179],
    "7": [0.29634291472348673, 0.761207231937376, 0.24747918890860132],
    "doc/7": [0.26717750295187725, 0.29639878806156383, 0.31787121341435454],
    "Grüße": [0.3901092246874812, 0.3448784720161058, 0.3997835415601997],
    8461057289272665152: [0.14944213758084368, 0.07728451859665086, 0.5545919091999387],  # the hash of 5 6 7
}
"""By the id of the example, at seed 17 and epoch 3, stream 0."""


@pytest.mark.parametrize("example_id", NUMBERS, ids=repr)
def test_the_numbers_of_an_example_are_these(example_id):
    [found] = Noise.of(17, 3, [example_id]).uniform(0, 3).tolist()
    assert_pinned(found, NUMBERS[example_id], f"noise of example {example_id!r}")


@pytest.mark.parametrize(
    ("seed", "epoch", "stream", "pinned"),
    [
        (0, 0, 0, [0.47141042966848024, 0.7247520786262142, 0.3030308965844536]),
        (0, 0, 1, [0.7816823175847682, 0.19231829513312926, 0.1532219919944281]),
        (0, -1, 0, [0.6510615518482868, 0.08722647834279262, 0.9538250320676485]),  # the held-out text
    ],
)
def test_the_numbers_of_a_seed_an_epoch_and_a_stream_are_these(seed, epoch, stream, pinned):
    [found] = Noise.of(seed, epoch, [0]).uniform(stream, 3).tolist()
    assert_pinned(found, pinned, f"noise of seed {seed}, epoch {epoch}, stream {stream}")


def test_the_largest_seed_and_a_large_epoch_have_these_numbers():
    [found] = Noise.of(2**63 - 1, 2**40, [5]).uniform(2, 3).tolist()
    assert_pinned(found, [0.8973236133544017, 0.2605886625515934, 0.2963557745966008], "noise of a large seed")


def test_an_example_without_an_id_has_this_one():
    found = [hash_tokens([]), hash_tokens([5, 6, 7]), hash_tokens(torch.tensor([5, 6, 7], dtype=torch.int16))]
    assert_pinned(found, [13020603013274838756, 8461057289272665152, 8461057289272665152], "hash of the tokens")


def test_the_generators_of_schemes_start_here():
    found = [generator.initial_seed() for generator in Noise.of(17, 3, [0, "doc/7"]).generators(0)]
    assert_pinned(found, [14066355018079191342, 12512812589396673263], "seeds of the generators")


# ------------------------------------------------------------------ masks

MASKABLE = torch.ones(2, 24, dtype=torch.bool)
MASKABLE[0, [0, 9, 23]] = MASKABLE[1, 16:] = False
WORDS = torch.tensor([0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10, 10, 11, 12, 12, 12, 13, 14, 14]).expand(2, -1)
DRAWN = {
    "bernoulli": lambda noise: bernoulli_mask(MASKABLE, noise, 0.15),
    "exact count": lambda noise: exact_count_mask(MASKABLE, noise, 0.15),
    "whole words": lambda noise: whole_word_mask(MASKABLE, noise, 0.3, WORDS),
    "spans": lambda noise: random_spans_mask(MASKABLE, noise, 0.3, 2.0),
    "spans, rolled": lambda noise: rolled_mask(random_spans_mask(MASKABLE, noise, 0.3, 2.0), MASKABLE, noise[:, :1]),
}


def drawn_as_text(mask):
    """A character a token: # hidden, . visible, - protected."""
    return [
        "".join("-.#"[may + hidden] for may, hidden in zip(*rows)) for rows in zip(MASKABLE.tolist(), mask.tolist())
    ]


MASKS = {}


@pytest.mark.parametrize("scheme", DRAWN)
def test_the_masks_of_a_scheme_are_these(scheme):
    found = drawn_as_text(DRAWN[scheme](NOISE.uniform(0, 24)))
    assert_pinned(found, MASKS.get(scheme), f"masks of {scheme}")


def test_what_stands_in_the_place_of_hidden_tokens_is_this():
    tokens, everywhere = torch.arange(48).view(2, 24) + 10, torch.ones(2, 24, dtype=torch.bool)
    ids = {"mask_id": 2, "replacements": torch.arange(60, 90)}
    found = replace_tokens(tokens, everywhere, NOISE.uniform(1, 24), **ids).tolist()
    assert_pinned(found, REPLACED, "replacements")


REPLACED = []

# ------------------------------------------------------------------ whole batches

PINNED_OBJECTIVES = {
    **{name: objective() for name, objective in OBJECTIVES.items()},
    "masked, bernoulli": MaskedLM(scheme="bernoulli", mask_rate=0.3),
    "span, short": SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
    "diffusion, bernoulli": MaskedDiffusion(exact_count=False),
}
TEXT = torch.arange(60).view(3, 20) + 10
TEXT[:, [6, 13]] = 1  # three documents a row
LENGTHS = (20, 9, 15)


def special_of(objective):
    """Ids 10 to 79 are text; those of the roles depend on no other objective."""
    roles = {role: 3 + n for n, role in enumerate(sorted({*objective.roles} - {"mask"}))}
    return SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1), roles=roles)


def batches_of(objective):
    """By the form in which the collator gets them: a list of ragged rows, the last one without an id, or a block."""
    rows = [{"input_ids": row[:n].tolist(), "example_id": name} for row, n, name in zip(TEXT, LENGTHS, (7, "doc/7", 0))]
    del rows[2]["example_id"]
    for within in (False, True):
        collate = objective.collator(special_of(objective), seed=17, epoch=3, within_documents=within)
        yield "list" + ", documents" * within, collate(rows)
        yield "block" + ", documents" * within, collate.block(TEXT, [7, 2**64 - 1, 0])


def digest(batch):
    """Of every key, type, shape and number."""
    content = hashlib.blake2b(digest_size=8)
    for key in sorted(batch):
        values = batch[key].contiguous().numpy()
        content.update(f"{key} {batch[key].dtype} {values.shape}".encode())
        content.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return content.hexdigest()


@pytest.mark.parametrize("name", PINNED_OBJECTIVES)
def test_the_batches_of_an_objective_are_these(name):
    batches = dict(batches_of(PINNED_OBJECTIVES[name]))
    first = {key: batches["list"][key][1].tolist() for key in ("input_ids", "labels")}
    digests = {form: digest(batch) for form, batch in batches.items()}
    assert_pinned([first, digests], BATCHES.get(name), f"batches of {name}")


BATCHES = {}


def test_every_number_of_a_batch_is_in_its_digest():
    batch = {"input_ids": torch.tensor([[5, 6]]), "weights": torch.tensor([[0.5, 1.0]])}
    others = [
        {**batch, "input_ids": torch.tensor([[5, 7]])},
        {**batch, "input_ids": batch["input_ids"].int()},
        {**batch, "input_ids": batch["input_ids"].T},
        {**batch, "weights": torch.tensor([[0.5, np.nextafter(np.float32(1), np.float32(2)).item()]])},
        {"input_ids": batch["input_ids"]},
    ]
    assert len({digest(one) for one in (batch, *others)}) == 6
