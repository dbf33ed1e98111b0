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
    drawn_span_lengths,
    drawn_spans_mask,
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
    "n-grams": lambda noise: drawn_spans_mask(MASKABLE, noise.flip(1), noise, 0.3, drawn_span_lengths("n-grams"), None),
    "geometric spans of words": lambda noise: drawn_spans_mask(
        MASKABLE, noise.flip(1), noise, 0.3, drawn_span_lengths("geometric-spans"), WORDS
    ),
    "spans": lambda noise: random_spans_mask(MASKABLE, noise, 0.3, 2.0),
    "spans, rolled": lambda noise: rolled_mask(random_spans_mask(MASKABLE, noise, 0.3, 2.0), MASKABLE, noise[:, :1]),
}


def drawn_as_text(mask):
    """A character a token: # hidden, . visible, - protected."""
    return [
        "".join("-.#"[may + hidden] for may, hidden in zip(*rows)) for rows in zip(MASKABLE.tolist(), mask.tolist())
    ]


MASKS = {
    "bernoulli": ["-.....#..-.............-", "........#.....#.--------"],
    "exact count": ["-...#.#..-.#...........-", "........#.....#.--------"],
    "whole words": ["-...###.#-.#.....#.....-", "#.......###...#.--------"],
    "n-grams": ["-........-.....##.####.-", ".#..#.#.#....#..--------"],
    "geometric spans of words": ["-........-.######......-", "...#####........--------"],
    "spans": ["-..###...-..##........#-", ".....#......####--------"],
    "spans, rolled": ["-##.....#-#........#..#-", "####.....#......--------"],
}


@pytest.mark.parametrize("scheme", DRAWN)
def test_the_masks_of_a_scheme_are_these(scheme):
    found = drawn_as_text(DRAWN[scheme](NOISE.uniform(0, 24)))
    assert_pinned(found, MASKS[scheme], f"masks of {scheme}")


def test_what_stands_in_the_place_of_hidden_tokens_is_this():
    tokens, everywhere = torch.arange(48).view(2, 24) + 10, torch.ones(2, 24, dtype=torch.bool)
    ids = {"mask_id": 2, "replacements": torch.arange(60, 90)}
    found = replace_tokens(tokens, everywhere, NOISE.uniform(1, 24), **ids).tolist()
    assert_pinned(found, REPLACED, "replacements")


REPLACED = [
    [10, 2, 2, 13, 14, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 29, 2, 2, 32, 2],
    [34, 2, 2, 64, 2, 2, 2, 2, 2, 2, 72, 2, 2, 60, 2, 49, 2, 2, 2, 2, 2, 2, 60, 2],
]

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
    ends = torch.arange(100) % 7 == 0
    return SpecialIds(100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1), roles=roles, ends_sentence=ends)


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


def as_text(ids):
    """A dot is -100."""
    return " ".join("." if one == -100 else str(one) for one in ids.tolist())


@pytest.mark.parametrize("name", PINNED_OBJECTIVES)
def test_the_batches_of_an_objective_are_these(name):
    batches = dict(batches_of(PINNED_OBJECTIVES[name]))
    row = [as_text(batches["list"][key][1]) for key in ("input_ids", "labels")]
    found = [*row, *(digest(batch) for batch in batches.values())]
    assert name in BATCHES, f"no batch of {name} is pinned yet; these are the first: {found!r}"
    assert_pinned(found, BATCHES[name], f"batches of {name}")


BATCHES = {
    "causal": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 . . . . . . . . . . .",
        "15411dce9487927c",
        "17fb834aa6bae0ce",
        "810cea0fe579ae66",
        "871ba4fc0471646d",
    ],
    "masked": [
        "30 31 32 33 34 35 1 37 2 0 0 0 0 0 0 0 0 0 0 0",
        ". . . . . . . . 38 . . . . . . . . . . .",
        "14fdb0c512f50491",
        "64f2d09750cf1fca",
        "b31c3c18c9674d64",
        "836705e2bc0057aa",
    ],
    "bart": [
        "30 31 32 33 34 2 1 2 2 1 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 1 . . . . . . . . . . .",
        "16a2bccda8c6f364",
        "2afa5a95203f9e8d",
        "ad02919d83b6336d",
        "71f6f0a7159e298c",
    ],
    "mass": [
        "30 2 2 2 2 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        "31 32 33 34 . . . . . .",
        "eee6132264252bbc",
        "4a492ad0e8c755de",
        "7fbcad778d851351",
        "d3735e8b7fa90b16",
    ],
    "span": [
        "30 31 32 33 34 35 1 37 99 1 0 0 0 0 0 0 0 0 0",
        "99 38 1 . .",
        "9a3a29ac75813333",
        "a364bee0039fd80c",
        "5a82301fd72a1476",
        "3ea1ecafe754c0b8",
    ],
    "prefix": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        ". . . 33 34 35 1 37 38 . . . . . . . . . . .",
        "832671c3f3265cb8",
        "2d5ad0c23464093c",
        "a2c4de52395292a6",
        "260293f1a1ad3e40",
    ],
    "diffusion": [
        "30 31 32 33 34 2 2 2 38 0 0 0 0 0 0 0 0 0 0 0",
        ". . . . . 35 1 37 . . . . . . . . . . . .",
        "39196f16892401bf",
        "bda3044e55748280",
        "6deeca124a0a4e75",
        "b1a16d681be97942",
    ],
    "fim": [
        "5 6 4 30 31 32 33 34 35 3 1 5 6 37 38 4 3 0 0 0 0 0 0 0",
        "5 6 4 30 31 32 33 34 35 3 1 5 6 37 38 4 3 . . . . . . .",
        "6f54459a19589b55",
        "e2f0e59dd63908c7",
        "be35a53f2873507b",
        "c8e25d6c25fd4dbd",
    ],
    "block-diffusion": [
        "30 2 2 33 34 2 1 37 2 30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        ". 31 32 . . 35 . . 38 . . . . . . . . . . . . . . . . . . . . . . . . . . . . . . .",
        "a7eb6fdad0e347e6",
        "46c842212953c88e",
        "dddb035ba6e6340b",
        "e55ebc6c1c56c982",
    ],
    "mntp": [
        "30 31 32 33 34 35 1 37 2 0 0 0 0 0 0 0 0 0 0 0",
        ". . . . . . . . 38 . . . . . . . . . . .",
        "39f185e7df3da55d",
        "77b9ddad4d8d3c58",
        "98431f7cc52a94fc",
        "94698948e7d17471",
    ],
    "mtp": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 . . . . . . . . . . .",
        "15411dce9487927c",
        "17fb834aa6bae0ce",
        "810cea0fe579ae66",
        "871ba4fc0471646d",
    ],
    "ul2": [
        "5 30 31 32 33 34 99 1 0 0 0 0 0",
        "99 35 1 37 38 1 . . . . . .",
        "0b2819c4a3e1d5d9",
        "4b3f525363ab40fc",
        "0657da461c292af8",
        "735780fe27c3a0f2",
    ],
    "ul2r": [
        "5 30 31 32 33 34 99 99 35 1 37 38 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        ". . . . . . . 99 35 1 37 38 1 . . . . . . . . . . . . . . .",
        "e7803266f8851d3b",
        "51ff409a7b64587b",
        "0c162feb607838e8",
        "f5ac2542db93c06f",
    ],
    "sbo": [
        "30 31 2 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        ". . 32 . . . . . . . . . . . . . . . . .",
        "ef61ced42704a979",
        "a13a845d68a82ef6",
        "b2fd9f316754d583",
        "103e09ff3a29b5f0",
    ],
    "cm3": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 . . . . . . . . . . . . . . . . . . . . . . . . . .",
        "d69f4d55ab5f8bdf",
        "64380dd90af22a47",
        "9968b93856c6a407",
        "c3d2d875beaf6370",
    ],
    "top": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 . . . . . . . . . . .",
        "15411dce9487927c",
        "17fb834aa6bae0ce",
        "810cea0fe579ae66",
        "871ba4fc0471646d",
    ],
    "electra": [
        "30 31 32 33 34 35 1 37 2 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 32 33 34 35 1 37 38 . . . . . . . . . . .",
        "dcdec860f6b69e67",
        "5379aa3f036c92cb",
        "15894fc4013be938",
        "0d9ee0a31ee1a04c",
    ],
    "masked, bernoulli": [
        "30 2 32 33 2 35 1 37 2 0 0 0 0 0 0 0 0 0 0 0",
        "30 31 . . 34 . . . 38 . . . . . . . . . . .",
        "286bffe0ac218638",
        "3db9079dafc49000",
        "f115467377ae2030",
        "6ae712934498cc3a",
    ],
    "span, short": [
        "30 31 32 99 34 35 1 98 1 0 0 0 0 0 0 0 0 0",
        "99 33 98 37 38 1 . . . .",
        "b239d9a796a7ea5f",
        "00a7068eb6b61d0c",
        "c01c8f1b2cff6c95",
        "f5a22b0fa8c36e7f",
    ],
    "diffusion, bernoulli": [
        "30 31 32 33 34 35 1 37 38 0 0 0 0 0 0 0 0 0 0 0",
        ". . . . . . . . . . . . . . . . . . . .",
        "dd74b0d80557afd8",
        "8ffd062b63735faf",
        "2e5641bc3cab6224",
        "9ae5c2ecc0ee3a07",
    ],
}
"""`input_ids` and `labels` of the second row of the list (a dot is -100), then digests: of the list and the block, and
of both within documents."""


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
