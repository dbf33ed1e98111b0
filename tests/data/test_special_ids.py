"""Special ids: their roles, what may share an id, and tables over the vocabulary."""

import pytest
import torch

from clozelab.data import SpecialIds
from clozelab.errors import InputError

ROLES = {"fim_prefix": 3, "fim_suffix": 4, "fim_middle": 5, "fim_end": 6}


def special(**more) -> SpecialIds:
    return SpecialIds(**{"vocab_size": 20, "pad": 0, "eos": 1, "mask": 2, "sentinels": (19, 18), **more})


def test_roles_are_found_by_name():
    ids = special(roles=ROLES)
    assert {role: ids[role] for role in ("pad", "eos", "mask", *ROLES)} == {"pad": 0, "eos": 1, "mask": 2, **ROLES}


@pytest.mark.parametrize(("roles", "start"), [({}, 0), ({"decoder_start": 1}, 1), ({"decoder_start": 7}, 7)])
def test_a_decoder_starts_with_padding_as_t5_does_unless_told_otherwise(roles, start):
    """BART starts with eos, others with bos: the decoder's start may be any id, also one that has a meaning."""
    assert special(roles=roles)["decoder_start"] == start


def test_a_role_that_is_missing_is_named_with_its_cure():
    with pytest.raises(InputError, match=r"no id for the role 'fim_end'.*roles=\['fim_end'\]"):
        special()["fim_end"]
    with pytest.raises(InputError, match=r"no id for the role 'mask': add a mask token"):
        special(mask=None)["mask"]


def test_everything_with_a_meaning_is_special_and_the_rest_may_replace_a_token():
    ids = special(roles=ROLES, others=(7,))
    assert ids.all == (0, 1, 2, 3, 4, 5, 6, 7, 18, 19)
    assert ids.replacements.tolist() == list(range(8, 18))
    assert ids.is_special(torch.tensor([[0, 8], [19, 17]])).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.uint32], ids=str)
def test_ids_of_any_integer_type_are_looked_up(dtype):
    assert special().is_special(torch.tensor([0, 8, 19], dtype=dtype)).tolist() == [True, False, True]


def test_padding_may_be_the_end_of_text():
    assert special(pad=1).all == (1, 2, 18, 19)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": 0}, r"\[0\] have two meanings"),
        ({"sentinels": (19, 19)}, r"\[19\] have two meanings"),
        ({"sentinels": (1,)}, r"\[1\] have two meanings"),
        ({"roles": {"fim_prefix": 19}}, r"\[19\] have two meanings"),
        ({"roles": {"fim_prefix": 3, "fim_suffix": 3}}, r"\[3\] have two meanings"),
        ({"roles": {"fim_prefix": 20}}, "special id 20 is outside the vocabulary of 20 ids"),
        ({"roles": {"fim_prefix": 2.5}}, "the role fim_prefix must be a whole number"),
        ({"roles": ["fim_prefix"]}, "expected roles as Mapping, got list"),
        ({"others": (-1,)}, "special id -1 is outside"),
        ({"sentinels": "19"}, "sentinels must be a list of ids, got str"),
        ({"vocab_size": 2**31 + 1}, "vocab_size must lie in"),
        ({"starts_word": torch.ones(19)}, r"expected starts_word as a tensor \(20,\)"),
        ({"ends_sentence": [True] * 20}, r"expected ends_sentence as a tensor \(20,\) of bools, got list"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_ids_that_cannot_be_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        special(**fields)


def test_tables_of_words_and_sentences_say_nothing_about_equality():
    """Two tokenizers of the same ids are the same, whether their tables were computed or not."""
    table = torch.arange(20) % 2 == 0
    assert special(starts_word=table, ends_sentence=table) == special()


def test_named_ids_are_every_role_of_one_id():
    assert special(roles={"fim_end": 7}).named == {"pad": 0, "eos": 1, "mask": 2, "fim_end": 7}
