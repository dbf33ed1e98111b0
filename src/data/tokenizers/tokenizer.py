"""Text to ids and back. The work is done by `tokenizers`; what is added is the special ids, as plain integers."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from ...checks import check_int, check_path, check_type
from ...errors import InputError
from ..corpora.cache import fingerprint, read_json, written_whole
from ..corpora.documents import checked_text
from ..special_ids import SpecialIds

PAD, EOS, UNKNOWN, MASK = "<pad>", "</s>", "<unk>", "<mask>"

KNOWN_NAMES = {
    "pad": (PAD, "[PAD]", "<|pad|>", "<|padding|>"),
    "eos": (EOS, "<|endoftext|>", "<eos>", "<|end_of_text|>", "[SEP]"),
    "mask": (MASK, "[MASK]", "<|mask|>"),
}
"""What others call them, most usual first."""


LARGEST = 2_000_000
"""Ids that a vocabulary may have: eight times the largest in use."""

PIECE = 2**20
"""Characters that are encoded at once, or a few more: `tokenizers` needs some 140 bytes for each."""
LONGER = 100
"""Times that a text may grow as it is normalised, or decoded: none of those in use makes it twice as long."""
LONGEST = 2**24
"""Characters without a place to cut that still pass for text; they need 2.4 GB."""


def sentinel_name(k: int) -> str:
    """T5's name of the k-th sentinel."""
    return f"<extra_id_{k}>"


class Tokenizer:
    """A `tokenizers.Tokenizer` with its special ids.

    Text never becomes a special id, whatever it says: a corpus that holds the characters `<pad>` gets ordinary tokens
    for them. With byte-level BPE any Unicode text comes back exactly.

    >>> tokenizer = train_bpe(["the cat sat on the mat"] * 3, vocab_size=400, sentinels=4)
    >>> tokenizer.decode(tokenizer.encode("the <mask> \\N{CAT FACE}"))
    'the <mask> 🐱'
    >>> tokenizer.pieces(tokenizer.encode("the cat sat"))
    ['the', ' cat', ' sat']
    >>> tokenizer.special.pad, tokenizer.special.eos, tokenizer.special.mask, len(tokenizer.special.sentinels)
    (0, 1, 2, 4)
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialIds) -> None:
        check_type(backend, tokenizers.Tokenizer, "the backend", "load_tokenizer takes other kinds")
        check_type(special, SpecialIds, "special ids")
        if special.vocab_size < backend.get_vocab_size():
            raise InputError(
                f"the special ids are of a vocabulary of {special.vocab_size} ids, but the tokenizer has "
                f"{backend.get_vocab_size()}: do they belong together?"
            )
        backend.encode_special_tokens = True  # special tokens in a text are text
        backend.no_padding()
        backend.no_truncation()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None  # or a text would be other tokens each time
        self.backend = backend
        self.special = special

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return self.special.vocab_size

    def encode(self, text: str) -> list[int]:
        """Token ids, nothing added at either end."""
        return self._encoded(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, in parallel."""
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
        checked = [checked_text(text) for text in texts]
        with _no_panic():
            encodings = self.backend.encode_batch_fast(checked, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _encoded(self, text: str) -> tokenizers.Encoding:
        with _no_panic():
            return self.backend.encode(checked_text(text), add_special_tokens=False)

    def cut(self, text: str) -> Iterator[str]:
        """A long text in pieces whose tokens, one after another, are those of the whole; a short one as it is.

        Raises `InputError` for a text of which more than `LONGEST` characters cannot be cut.
        """
        return cut(checked_text(text), self.backend)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Text of ids; special ids by their names, or left out."""
        try:
            return self.backend.decode(list(ids), skip_special_tokens=skip_special)
        except (TypeError, OverflowError) as error:
            raise InputError(f"expected token ids, whole numbers from 0, got {ids!r:.80}") from error

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Readable text of each token by itself; part of a character shows as U+FFFD."""
        return [self.decode([id]) for id in ids]

    def word_ids(self, text: str) -> list[int]:
        """Which word each token of `encode(text)` belongs to, as the tokenizer itself cut the text; -1 for none."""
        words = self._encoded(text).word_ids
        return [-1 if word is None else word for word in words]

    @cached_property
    def byte_lengths(self) -> Tensor:
        """(V,) int64: the UTF-8 bytes that each id stands for, 0 for special ids.

        Raises `InputError` for a tokenizer whose tokens do not spell the text (a normaliser that changes it).
        """
        lengths = torch.zeros(self.vocab_size, dtype=torch.int64)
        byte_level = isinstance(self.backend.decoder, decoders.ByteLevel)
        special = set(self.special.all)
        for token, id in self.backend.get_vocab(with_added_tokens=True).items():
            if id not in special:
                # A byte-level vocabulary writes each byte as one character of its own alphabet.
                lengths[id] = len(token) if byte_level else len(self.decode([id]).encode())
        return lengths

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides what a text becomes."""
        content = self.backend.to_str(pretty=False) + repr(self.special)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def to_json(self) -> bytes:
        """What `save` writes."""
        return self.backend.to_str(pretty=False).encode()

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json that `load_tokenizer` and Hugging Face's libraries read."""
        with written_whole(Path(path)) as file:
            file.write(self.to_json())


@contextmanager
def tokenizing_in_one_thread() -> Iterator[None]:
    """For the processes that are begun while this lasts: a forked one has none of the threads of `tokenizers`."""
    was = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if was is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = was


@contextmanager
def _no_panic() -> Iterator[None]:
    """A pattern that tries too many ways to match ends in a panic of the library, which no `except` expects."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(f"the tokenizer gave up on a text ({error}): is its pattern one that backtracks?") from error


def cut(text: str, backend: tokenizers.Tokenizer) -> Iterator[str]:
    """`Tokenizer.cut`: pieces of about `PIECE` characters, cut at a place where the tokenizer itself cuts.

    That is before white space that follows something else, where GPT-2's pattern and nearly all others end a word,
    and between any two characters for a vocabulary of characters. Each place is tried on the text around it: a
    tokenizer that looks across it, or has no words, fails there and gets the next one, or the text whole.
    """
    words = backend.pre_tokenizer is not None
    places = _BETWEEN_CHARACTERS if isinstance(backend.model, models.WordLevel) else _BETWEEN_WORDS
    start = 0
    while len(text) - start > PIECE:
        candidates = places.finditer(text, start + PIECE - 1, start + LONGEST) if words else ()
        for place in (found.end() for found in islice(candidates, 1000)):
            if _cuts(backend, text[max(start, place - 256) : place], text[place : place + 256]):
                yield text[start:place]
                start = place
                break
        else:
            if len(text) - start > LONGEST:
                raise InputError(
                    f"a text of {len(text):,} characters cannot be cut after the first {start:,}: expected white space "
                    f"between words within {LONGEST:,} characters; is it text?"
                )
            break
    yield text[start:]


_BETWEEN_WORDS = re.compile(r"\S(?=[ \n])")
_BETWEEN_CHARACTERS = re.compile(r"[\s\S]")


def _cuts(backend: tokenizers.Tokenizer, left: str, right: str) -> bool:
    with _no_panic():
        whole, *parts = (backend.encode(text, add_special_tokens=False).ids for text in (left + right, left, right))
    return whole == parts[0] + parts[1]


def train_bpe(
    texts: Iterable[str], vocab_size: int = 4096, sentinels: int = 100, *, cache_dir: str | Path | None = None
) -> Tokenizer:
    """Byte-level BPE: every text is spelled, without an unknown token, and comes back exactly.

    The ids begin with pad 0, end of text 1 and mask 2; the sentinels are the last ids, `<extra_id_0>` the highest, as
    in T5. `vocab_size` counts them all; a small corpus may give fewer. With a `cache_dir` the tokenizer is kept there,
    and the one that was trained on the same texts before is found again; the texts are then read twice.

    Raises `InputError` when there is no room for the 256 bytes and the special ids, and for a size beyond any use.
    Source: Radford et al. 2019 (GPT-2), section 2.2.
    """
    least = 256 + 3 + _checked_sentinels(sentinels)
    vocab_size = check_int(vocab_size, "vocab_size")
    if vocab_size > LARGEST:
        raise InputError(f"vocab_size must be at most {LARGEST}, got {vocab_size}")
    if vocab_size < least:
        raise InputError(
            f"vocab_size {vocab_size} is too small: 256 bytes, 3 special ids and {sentinels} sentinels need {least}"
        )
    if cache_dir is None:
        return _trained_bpe(texts, vocab_size, sentinels)
    texts = texts if iter(texts) is not texts else list(texts)  # can be read once only
    key = fingerprint(texts, f"bpe {vocab_size} {sentinels} {tokenizers.__version__}")
    kept = check_path(cache_dir, "cache_dir") / f"{key}.bpe.json"
    with suppress(FileNotFoundError, InputError):  # none yet, or a damaged one
        return load_tokenizer(kept, sentinels=0)
    trained = _trained_bpe(texts, vocab_size, sentinels)
    trained.save(kept)
    return trained


def _trained_bpe(texts: Iterable[str], vocab_size: int, sentinels: int) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - sentinels,
        special_tokens=[PAD, EOS, MASK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    untrained = tokenizers.Tokenizer.from_str(backend.to_str())  # cuts words alike; the one in training is locked
    backend.train_from_iterator((piece for text in _texts(texts) for piece in cut(text, untrained)), trainer)
    return _with_sentinels(backend, sentinels, unknown=())


def train_characters(texts: Iterable[str], sentinels: int = 100) -> Tokenizer:
    """One token for each character that the texts hold; any other becomes `<unk>`.

    Raises `InputError` where there is no text at all.
    """
    _checked_sentinels(sentinels)
    characters = sorted(set().union(*(set(text) for text in _texts(texts))))
    if not characters:
        raise InputError("expected text to take the characters from, got none")
    names = [PAD, EOS, MASK, UNKNOWN]
    backend = tokenizers.Tokenizer(
        models.WordLevel({token: id for id, token in enumerate([*names, *characters])}, unk_token=UNKNOWN)
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    backend.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _with_sentinels(backend, sentinels, unknown=(names.index(UNKNOWN),))


def _checked_sentinels(sentinels: int) -> int:
    if not 0 <= check_int(sentinels, "sentinels") <= LARGEST:
        raise InputError(f"sentinels must lie in 0 .. {LARGEST}, got {sentinels}")
    return sentinels


def _texts(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
    return (checked_text(text) for text in texts)


def _with_sentinels(backend: tokenizers.Tokenizer, sentinels: int, unknown: Sequence[int]) -> Tokenizer:
    _add(backend, [sentinel_name(k) for k in reversed(range(sentinels))])
    ids = [_id(backend, sentinel_name(k)) for k in range(sentinels)]
    special = SpecialIds(
        backend.get_vocab_size(), _id(backend, PAD), _id(backend, EOS), _id(backend, MASK), ids, unknown
    )
    return Tokenizer(backend, special)


def _add(backend: tokenizers.Tokenizer, names: Sequence[str]) -> None:
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])


def _id(backend: tokenizers.Tokenizer, name: str) -> int:
    id = backend.token_to_id(name)
    assert id is not None, name
    return id


def load_tokenizer(source: str | Path | Any, sentinels: int = 100) -> Tokenizer:
    """A tokenizer from a tokenizer.json, its folder, a `tokenizers.Tokenizer` or a Hugging Face fast tokenizer.

    What is missing of pad, end of text, mask and sentinels is added behind the ids that exist, which keep their
    meaning; a model trained with the tokenizer as it was must grow its embedding to `vocab_size`. The source itself
    is not changed. Sentinels that exist keep their number; fewer than `sentinels` are added to.

    Raises `FileNotFoundError` for a path that does not exist and `InputError` for a file that is no tokenizer.
    """
    _checked_sentinels(sentinels)
    if isinstance(source, Tokenizer):  # ours has what it needs
        source = source.backend
    chosen: dict[str, int | None] = {}
    if isinstance(source, (str, Path)):
        path = Path(source)
        path = path / "tokenizer.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(2, "no tokenizer file", str(path))
        try:
            growth = max(_growth(part) for part in _parts(read_json(path, 2**27)))
            backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path} is not a tokenizer.json: {str(error).strip():.200}") from error
        if growth > LONGER:
            raise InputError(
                f"{path} can make a text {growth:,} times as long, expected at most {LONGER}: is it meant?"
            )
    elif isinstance(source, tokenizers.Tokenizer):
        backend = tokenizers.Tokenizer.from_str(source.to_str())
    elif isinstance(getattr(source, "backend_tokenizer", None), tokenizers.Tokenizer):
        backend = tokenizers.Tokenizer.from_str(source.backend_tokenizer.to_str())
        chosen = {name: getattr(source, f"{name}_token_id", None) for name in KNOWN_NAMES}
    else:
        raise InputError(
            "expected the path of a tokenizer.json, a tokenizers.Tokenizer or a Hugging Face fast tokenizer, got "
            f"{type(source).__name__}: slow tokenizers have no backend to use"
        )
    ids = {name: _find_or_add(backend, name, chosen.get(name)) for name in KNOWN_NAMES}
    existing = 0
    while backend.token_to_id(sentinel_name(existing)) is not None:
        existing += 1
    _add(backend, [sentinel_name(k) for k in reversed(range(existing, sentinels))])
    ordered = [_id(backend, sentinel_name(k)) for k in range(max(existing, sentinels))]
    added = backend.get_added_tokens_decoder()
    meant = {*ids.values(), *ordered}
    unknown = getattr(backend.model, "unk_token", None)
    others = {id for id, token in added.items() if token.special} | (
        {_id(backend, unknown)} if unknown and backend.token_to_id(unknown) is not None else set()
    )
    there = list(backend.get_vocab(with_added_tokens=True).values())
    vocab_size = max(there) + 1
    if vocab_size > LARGEST or len(set(there)) < len(there):
        reason = "some ids stand for two tokens" if vocab_size <= LARGEST else f"its ids go up to {max(there):,}"
        raise InputError(f"expected a vocabulary of at most {LARGEST:,} ids, each for one token, but {reason}")
    others |= set(range(vocab_size)) - set(there)  # a gap: ids of no token
    return Tokenizer(
        backend, SpecialIds(vocab_size, ids["pad"], ids["eos"], ids["mask"], ordered, sorted(others - meant))
    )


def _parts(described: Any) -> list[Any]:
    """What changes the characters of a text on its way in and out."""
    return [described.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")]


def _growth(part: Any) -> int:
    """The most characters that a part of a tokenizer.json makes of one: what its replacements in a row come to."""
    if isinstance(part, list):
        return math.prod(map(_growth, part))
    if not isinstance(part, dict):
        return 1
    content = part.get("content")
    own = max(1, len(content)) if isinstance(content, str) else 1
    return own * _growth([value for value in part.values() if isinstance(value, list)])


def _find_or_add(backend: tokenizers.Tokenizer, name: str, chosen: int | None) -> int:
    if chosen is not None:
        return chosen
    for candidate in KNOWN_NAMES[name]:
        id = backend.token_to_id(candidate)
        if id is not None:
            return id
    _add(backend, [KNOWN_NAMES[name][0]])
    return _id(backend, KNOWN_NAMES[name][0])
