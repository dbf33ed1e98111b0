"""Train a tokenizer: byte-level BPE, or one token a character."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ...checks import check_int, check_path
from ...errors import InputError
from ...progress import Bar, progress_bar
from ..corpora.cache import fingerprint
from ..corpora.documents import checked_text
from ..special_ids import SpecialIds
from .cutting import cut_text
from .load import load_tokenizer
from .tables import vocabulary_tables
from .tokenizer import Tokenizer
from .vocabulary import (
    EOS,
    MASK,
    MAX_VOCAB_SIZE,
    PAD,
    UNKNOWN,
    add_roles_and_sentinels,
    add_special_tokens,
    check_roles,
    check_sentinels,
    existing_id,
)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int = 4096,
    sentinels: int = 100,
    roles: Iterable[str] = (),
    *,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Tokenizer:
    """Byte-level BPE: it encodes every text without an unknown token, and decodes it exactly.

    The ids begin with pad 0, end of text 1 and mask 2. They end with one id for each of `roles` beside these three,
    `<|fim_prefix|>` for the role "fim_prefix", and the sentinels, `<extra_id_0>` the highest, as in T5. `vocab_size`
    counts them all; a small corpus may give fewer.

    With a `cache_dir` the tokenizer is kept there, and found again for the same texts and settings; the texts are then
    read twice. `progress` shows bars on a terminal.

    >>> from clozelab.data import train_bpe
    >>> tokenizer = train_bpe(["the cat sat"] * 2, vocab_size=400, sentinels=2, roles=["fim_prefix"])
    >>> tokenizer.decode([tokenizer.special["fim_prefix"], *tokenizer.special.sentinels])
    '<|fim_prefix|><extra_id_0><extra_id_1>'

    Raises `InputError` where `vocab_size` leaves no room for the 256 bytes and the special ids, and for a size above
    two million. Source: Radford et al. 2019 (GPT-2), section 2.2.
    """
    check_sentinels(sentinels)
    roles = check_roles(roles)
    vocab_size = check_int(vocab_size, "vocab_size")
    if vocab_size > MAX_VOCAB_SIZE:
        raise InputError(f"vocab_size must be at most {MAX_VOCAB_SIZE}, got {vocab_size}")
    least = 256 + 3 + len(roles) + sentinels
    if vocab_size < least:
        raise InputError(
            f"vocab_size {vocab_size} is too small: 256 bytes, {3 + len(roles)} special ids and {sentinels} sentinels "
            f"need {least}: take a larger vocab_size"
            + (", or fewer sentinels (--sentinels)" if vocab_size >= least - sentinels else "")
        )
    if cache_dir is None:
        return _train_bpe(texts, vocab_size, sentinels, roles, progress)
    from ..file_formats import KeptTokenizer

    texts = texts if iter(texts) is not texts else list(texts)  # an iterator can be read only once
    settings = " ".join(["bpe", str(vocab_size), str(sentinels), *roles, tokenizers.__version__])
    key = fingerprint(texts, settings)
    path = check_path(cache_dir, "cache_dir") / f"{key}.bpe.json"
    kept = KeptTokenizer.read_if_whole(path)
    if kept is not None and kept.key == key:
        found = load_tokenizer(tokenizers.Tokenizer.from_str(kept.tokenizer), sentinels=0)
        return Tokenizer(found.backend, found.special)  # nothing about it was guessed
    trained = _train_bpe(texts, vocab_size, sentinels, roles, progress)
    KeptTokenizer(key=key, tokenizer=trained.to_json().decode()).write(path)
    return trained


def _train_bpe(
    texts: Iterable[str], vocab_size: int, sentinels: int, roles: Sequence[str], progress: bool
) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - sentinels - len(roles),
        special_tokens=[PAD, EOS, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,  # its own bar ends where a log file begins
    )
    untrained = tokenizers.Tokenizer.from_str(backend.to_str())  # finds the same words; the one in training is locked
    total = len(texts) if isinstance(texts, Sized) else None
    with progress_bar("training a tokenizer", total, unit="documents", visible=progress, transient=True) as bar:
        backend.train_from_iterator(_pieces(texts, untrained, bar), trainer)
    return _with_special_ids(backend, sentinels, roles, unknown=())


def _pieces(texts: Iterable[str], untrained: tokenizers.Tokenizer, bar: Bar) -> Iterator[str]:
    """The texts, the long ones in pieces; the bar counts the texts that were read."""
    for done, text in enumerate(_checked_texts(texts), 1):
        yield from cut_text(text, untrained)
        bar.update(done)
    bar.doing("merging the most frequent pairs")


def train_characters(texts: Iterable[str], sentinels: int = 100, roles: Iterable[str] = ()) -> Tokenizer:
    """One token for each character of the texts; every other character becomes `<unk>`.

    The ids begin with pad 0, end of text 1, mask 2 and unknown 3, and end with the roles and the sentinels, as those
    of `train_bpe` do.

    >>> from clozelab.data import train_characters
    >>> tokenizer = train_characters(["abc"], sentinels=0)
    >>> tokenizer.encode("cab?")
    [6, 4, 5, 3]

    Raises `InputError` where the texts hold no character.
    """
    check_sentinels(sentinels)
    roles = check_roles(roles)
    characters = sorted(set().union(*(set(text) for text in _checked_texts(texts))))
    if not characters:
        raise InputError("expected text to take the characters from, got none")
    names = [PAD, EOS, MASK, UNKNOWN]
    ids = {token: n for n, token in enumerate([*names, *characters])}
    backend = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    add_special_tokens(backend, names)
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _with_special_ids(backend, sentinels, roles, unknown=(ids[UNKNOWN],))


def _checked_texts(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
    return (checked_text(text) for text in texts)


def _with_special_ids(
    backend: tokenizers.Tokenizer, sentinels: int, roles: Sequence[str], unknown: Sequence[int]
) -> Tokenizer:
    role_ids, sentinel_ids = add_roles_and_sentinels(backend, roles, 0, sentinels)
    vocab_size = backend.get_vocab_size()
    pad, eos, mask = (existing_id(backend, name) for name in (PAD, EOS, MASK))
    tables = vocabulary_tables(backend, vocab_size, {pad, eos, mask, *unknown, *role_ids.values(), *sentinel_ids})
    special = SpecialIds(vocab_size, pad, eos, mask, sentinel_ids, unknown, role_ids, **tables)
    return Tokenizer(backend, special)
