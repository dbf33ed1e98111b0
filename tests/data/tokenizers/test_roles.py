"""Special ids that are stated, guessed, added, or only look special; ids with holes."""

import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from clozelab.data import load_tokenizer, pack
from clozelab.errors import InputError


def words(vocabulary, unknown="<unk>", special=()):
    if not isinstance(vocabulary, dict):
        vocabulary = {word: n for n, word in enumerate(vocabulary)}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unknown))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(list(special))
    return backend


# ------------------------------------------------------------------ stated


def test_every_role_may_be_stated():
    backend = words(["PAD_None", "EOS_None", "MASK_None", "UNK", "BOS_None", "old", "lamp"], "UNK")
    roles = {"pad": "PAD_None", "eos": 1, "mask": "MASK_None", "unk": "UNK", "bos": "BOS_None", "fim_prefix": None}
    tokenizer = load_tokenizer(backend, sentinels=1, roles=roles)
    assert tokenizer.special.named == {"pad": 0, "eos": 1, "mask": 2, "bos": 4, "fim_prefix": 7}
    assert tokenizer.special.others == (3,)
    assert tokenizer.encode("old PAD_None EOS_None BOS_None lamp") == [5, 3, 3, 3, 6]
    assert tokenizer.notes == ()


def test_a_text_may_begin_with_the_token_that_ends_it():
    tokenizer = load_tokenizer(words(["<unk>", "</s>", "old"]), roles={"bos": "</s>", "eos": "</s>"})
    assert tokenizer.special["bos"] == tokenizer.special.eos == 1


@pytest.mark.parametrize(
    ("token", "near"),
    [
        ("<PAD>", r": did you mean \[pad\]\?"),
        ("[Pad]", r": did you mean \[pad\]\?"),
        ("PAD", r": did you mean \[pad\]\?"),
        ("lampe", r": did you mean lamp\?"),
        ("zzzzzz", "$"),
        ("", "$"),
    ],
)
def test_a_token_that_does_not_exist_is_refused_with_those_written_alike(token, near):
    backend = words(["<unk>", "[pad]", "old", "lamp"])
    with pytest.raises(InputError, match=f"^pad: the tokenizer has no token {token!r}".replace("[", r"\[") + near):
        load_tokenizer(backend, roles={"pad": token})


def test_an_id_that_does_not_exist_is_refused_with_the_last_one():
    for number in (7, 10**9):
        with pytest.raises(InputError, match=f"eos: the tokenizer has no token of the id {number}; its ids go up to 2"):
            load_tokenizer(words(["<unk>", "old", "lamp"]), roles={"eos": number})


def test_a_second_token_that_is_named_after_pad_mask_or_unknown_has_no_role(tmp_path):
    names = ["<unk>", "<pad>", "</s>", "<mask>", "<|pad|>", "<|mask|>", "<|unk|>", "<|bos|>", "<|decoder_start|>"]
    tokenizer = load_tokenizer(words([*names, "old"], special=names), sentinels=0)
    assert tokenizer.special.named == {"pad": 1, "eos": 2, "mask": 3, "bos": 7, "decoder_start": 8}
    assert tokenizer.special.others == (0, 4, 5, 6)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path, sentinels=0, roles=tokenizer.special.named).special == tokenizer.special


def test_two_roles_of_one_id_are_refused():
    with pytest.raises(InputError, match="two meanings"):
        load_tokenizer(words(["<unk>", "old", "lamp"]), roles={"eos": "old", "mask": 1})


# ------------------------------------------------------------------ the unknown token


def test_a_stated_unknown_token_is_that_of_the_model():
    backend = words(["UNK", "old", "lamp"], "lamp")
    tokenizer = load_tokenizer(backend, sentinels=0, roles={"unk": "UNK"})
    assert tokenizer.unknown == 0
    assert tokenizer.encode("old table lamp") == [1, 0, 2]


def test_a_stated_unknown_token_that_bytes_never_need_is_only_kept_from_text(backend):
    backend.add_tokens(["<unk>"])
    tokenizer = load_tokenizer(backend, sentinels=0, roles={"unk": "<unk>"})
    number = backend.token_to_id("<unk>")
    assert number in tokenizer.special.others
    assert number not in tokenizer.encode("a <unk>")
    assert tokenizer.byte_lengths is not None


@pytest.mark.parametrize("role", ["pad", "eos", "mask"])
def test_an_unknown_token_that_is_another_role_as_well_is_not_what_text_becomes(role, tmp_path):
    backend = words(["<x>", "old", "</s>", "<pad>", "<mask>"], "<x>", special=["<x>"])
    tokenizer = load_tokenizer(backend, sentinels=0, roles={role: "<x>"})
    assert tokenizer.special[role] == 0
    assert tokenizer.unknown == 5
    assert tokenizer.encode("old table") == [1, 5]
    assert f"unknown: the token 0 is {role} as well, which no text may become; unknown is <unk> = 5, added" in (
        tokenizer.notes
    )
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path, sentinels=0, roles=tokenizer.special.named)
    assert (again.special, again.fingerprint) == (tokenizer.special, tokenizer.fingerprint)
    assert not any(note.startswith("unknown") for note in again.notes)
    assert pack(["a b", "old"], tokenizer, cache_dir=tmp_path).unknown == 2


# ------------------------------------------------------------------ what looks special


@pytest.mark.parametrize(
    ("token", "role"),
    [
        *(("<PAD>", "pad"), ("[pad]", "pad"), ("PAD_None", "pad"), ("<|padding|>", "pad"), ("PAD", "pad")),
        *(("<EOS>", "eos"), ("[eos]", "eos"), ("EOS_None", "eos"), ("<|end_of_text|>", "eos"), ("[sep]", "eos")),
        *(("<MASK>", "mask"), ("MASK_TOKEN", "mask"), ("<Unknown>", "unk"), ("[UNK]", "unk")),
        *(("<s>", "bos"), ("BOS_None", "bos"), ("[CLS]", "bos"), ("<|startoftext|>", "bos")),
        *(("<start>", None), ("[USER]", None), ("<|im_start|>", None)),
    ],
)
def test_words_written_like_special_tokens_are_named_with_the_flag_that_registers_them(token, role):
    backend = words(["<unk>", "<pad>", "</s>", "<mask>", "old", token], special=["<unk>", "<pad>", "</s>", "<mask>"])
    told = f"text, though written like special tokens: {token}" + (f" (special by --{role} {token!r})" if role else "")
    tokenizer = load_tokenizer(backend, sentinels=0)
    assert tokenizer.notes[-1] == told
    assert 5 in tokenizer.encode(f"old {token}")
    if role is not None:
        stated = load_tokenizer(backend, sentinels=0, roles={role: token})
        assert not any(note.startswith("text, though") and token in note for note in stated.notes)
        assert 5 not in set(stated.encode(f"old {token}")) - {stated.unknown}


@pytest.mark.parametrize("word", ["pad", "mask", "end", "s", "sep", "<0x0A>", "<a b>", "[", "[1]", "Pad", "EOSIN"])
def test_ordinary_words_do_not_look_special(word):
    backend = words(["<unk>", "<pad>", "</s>", "<mask>", "old", word], special=["<unk>", "<pad>", "</s>", "<mask>"])
    assert not any(note.startswith("text, though") for note in load_tokenizer(backend, sentinels=0).notes)


# ------------------------------------------------------------------ holes


HOLES = {
    "in the vocabulary": lambda: words({"<unk>": 5, "old": 9, "lamp": 40}),
    "behind it": lambda: words({"<unk>": 0, "old": 1, "lamp": 2000}, special=["<s>"]),
}


@pytest.mark.parametrize("make", HOLES.values(), ids=HOLES)
def test_new_tokens_stand_behind_all_ids_where_some_are_missing(make, tmp_path):
    backend = make()
    before = backend.get_vocab(with_added_tokens=True)
    tokenizer = load_tokenizer(backend, sentinels=2, roles=["fim_prefix"])
    vocabulary, special = tokenizer.vocabulary, tokenizer.special
    assert before.items() <= vocabulary.items()
    assert len({*vocabulary.values()}) == len(vocabulary) == tokenizer.vocab_size
    assert min(special.pad, special.mask, special["fim_prefix"], *special.sentinels) > max(before.values())
    gaps = set(range(max(before.values()))) - {*before.values()}
    assert gaps <= {*special.others}
    assert tokenizer.notes[0] == f"ids: {len(gaps):,} of the {max(before.values()) + 1:,} stand for no token"
    assert tokenizer.encode("old <unused_3> lamp") == [before["old"], before["<unk>"], before["lamp"]]
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path, sentinels=2)
    assert (again.special, again.fingerprint) == (special, tokenizer.fingerprint)


def test_tokens_that_share_an_id_are_named():
    with pytest.raises(InputError, match=r"'[ab]' and '[ab]' have the same, 0"):
        load_tokenizer(words({"a": 0, "b": 0, "<unk>": 1}))


def test_words_that_were_added_and_overlap_remain_text(backend):
    backend.add_tokens([AddedToken("hello"), AddedToken("the", single_word=True), AddedToken("ell", lstrip=True)])
    tokenizer = load_tokenizer(backend, sentinels=0)
    assert tokenizer.encode("hello there") == backend.encode("hello there", add_special_tokens=False).ids
    assert sum(tokenizer.byte_counts("hello there")) == 11
