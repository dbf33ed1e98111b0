"""Open the files that tokenizers are kept in, each by what it is, or refuse it by its right name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from ...errors import InputError
from ...escape import shorten, shown
from ..corpora.cache import read_json
from ..special_ids import SpecialIds
from .adapted import Adapter
from .folders import Declared, add_declared, decoder_start_beside, read_declared
from .ids import KEY, special_ids_from
from .sentencepiece_models import SentencePieceAdapter
from .tables import BYTE_ALPHABET
from .unknown import NAMES
from .vocabulary import add_special_tokens

MAX_GROWTH = 100
"""The most times that normalising or decoding may lengthen a text: no tokenizer in use makes it twice as long."""
MAX_FILE_SIZE = 2**27
"""Bytes of a file."""
BERT_NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Tokens that are special in every vocab.txt which has them."""

IN_FOLDER = ("tokenizer.json", ".model", ".spm", "vocab.txt", "merges.txt")
"""By how a name ends: the files of a folder that hold a tokenizer, the one to open first."""
MODEL_FILES = ("config.json", ".safetensors", ".bin", ".gguf")
REFUSED = {
    (".tiktoken",): "a vocabulary of tiktoken without its pattern: give load_tokenizer the tiktoken.Encoding",
    ("tekken.json",): "a vocabulary of mistral-common: give load_tokenizer a tokenizer of transformers that reads it",
    ("vocab.json", "encoder.json"): "a vocabulary without the merges.txt of a BPE beside it",
    ("dict.txt",): "a dictionary of fairseq, which says nothing of how text is cut",
    (".vocab",): "the readable list of a SentencePiece vocabulary, whose model stands in the .model beside it",
    (".pkl", ".pickle", ".pt", ".joblib"): "a pickle, which runs code as it is opened: save its tokenizer.json",
    MODEL_FILES: "part of a model, which holds no tokenizer",
}
"""By how a name ends: what other files are, and what to do."""

Opened = tuple[tokenizers.Tokenizer | Adapter | SpecialIds, dict[str, int | None], list[str]]


def open_path(path: Path) -> Opened:
    """(tokenizer or special ids, the ids that its folder declares by roles, notes) of a file or a folder.

    Raises `FileNotFoundError` where there is none, and `InputError`, which says what it is, for a file of another kind.
    """
    folder = path if path.is_dir() else path.parent
    file = _in_folder(folder) if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(2, "no tokenizer file", str(file))
    known = path.is_dir() or file.name.endswith(IN_FOLDER)
    declared = read_declared(folder) if known else Declared({}, [], [], "")
    start = decoder_start_beside(folder)
    if file.name.endswith((".model", ".spm")):
        adapter, ids, notes = SentencePieceAdapter.read(file, declared)
        return adapter, ids | start, notes
    if file.name.endswith("vocab.txt"):
        backend, notes = _word_piece(file, declared, folder)
    elif file.name.endswith("merges.txt") or (file.name == "vocab.json" and (folder / "merges.txt").is_file()):
        backend, notes = _byte_pairs(folder / "vocab.json", folder / "merges.txt", folder)
    else:
        opened, notes = _tokenizer_json(file), []
        if isinstance(opened, (SentencePieceAdapter, SpecialIds)):
            return opened, start, notes
        backend = opened
    return backend, add_declared(backend, declared, folder) | start, notes


def _in_folder(folder: Path) -> Path:
    """The file of a folder that holds a tokenizer."""
    files = sorted(folder.iterdir())
    for end in IN_FOLDER:
        found = [file for file in files if file.name.endswith(end) and file.is_file()]
        if found:
            return found[0]
    kind = read_declared(folder).tokenizer_class
    if kind or (folder / "tokenizer_config.json").is_file():
        raise InputError(
            f"{folder} holds the settings of a {kind or 'tokenizer'} and no file with its vocabulary that can be read: "
            "give load_tokenizer the object, AutoTokenizer.from_pretrained(...) of transformers"
        )
    parts = [file.name for file in files if file.name.endswith(MODEL_FILES)]
    if parts:
        raise InputError(f"{folder} holds a model ({', '.join(parts[:3])}) and no tokenizer")
    for file in files:
        _refuse(file)
    return folder / "tokenizer.json"


def _refuse(file: Path) -> None:
    """Raise `InputError` for a file whose name says that it is something else."""
    for ends, kind in REFUSED.items():
        if file.name.endswith(ends):
            raise InputError(f"{file} is {kind}")


def _tokenizer_json(path: Path) -> tokenizers.Tokenizer | SentencePieceAdapter | SpecialIds:
    with path.open("rb") as file:
        begins = file.read(8)
    if begins[:1] == b"\x80" and begins[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise InputError(f"{path} is a pickle, which runs code as it is opened: save its tokenizer.json")
    if not begins.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") or path.name in ("config.json", "tekken.json"):
        _refuse(path)
    try:
        described = read_json(path, MAX_FILE_SIZE)
        if not isinstance(described, dict) or not {"model", "sentencepiece", "object", KEY} & described.keys():
            raise InputError("expected a JSON object with a model")
        is_adapted = "model" not in described
        growth = max(_growth(described.get(name)) for name in ("normalizer", "pre_tokenizer", "decoder"))
        backend = None if is_adapted else tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except BaseException as error:  # the library raises bare Exception, and PanicException, which is none
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        _refuse(path)
        raise InputError(f"{path} is not a tokenizer.json: {shorten(str(error).strip(), 200)}") from error
    if backend is None:
        return _adapted(described, path)
    if growth > MAX_GROWTH:
        raise InputError(
            f"{path} can make a text {growth:,} times as long, expected at most {MAX_GROWTH}: was it tampered with?"
        )
    return backend


def _adapted(described: dict[str, Any], path: Path) -> SentencePieceAdapter | SpecialIds:
    """The adapter that an `AdaptedTokenizer` was saved with, where a file can hold it, or special ids alone."""
    if KEY in described:
        return special_ids_from(described[KEY], path)
    if "sentencepiece" in described:
        return SentencePieceAdapter.from_json(described, path)
    raise InputError(
        f"{path} stands for an object of the class {shorten(described['object'], 100)}, which no file can hold: give "
        "it, load_run(run, tokenizer=load_tokenizer(...))"
    )


def _growth(part: Any) -> int:
    """The most characters that a part of a tokenizer.json makes of one: the product over its replacements."""
    if isinstance(part, list):
        return math.prod(map(_growth, part))
    if not isinstance(part, dict):
        return 1
    content = part.get("content")
    own = max(1, len(content)) if isinstance(content, str) else 1
    return own * _growth([value for value in part.values() if isinstance(value, list)])


# --------------------------------------------------------------------------- vocabularies


def _word_piece(path: Path, declared: Declared, folder: Path) -> tuple[tokenizers.Tokenizer, list[str]]:
    """BERT's tokenizer of a vocab.txt, a token a line (Devlin et al. 2019; Wu et al. 2016)."""
    lines = _text(path).split("\n")
    lines = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    if len(lines) < 2 or any("\0" in line or len(line) > 1000 for line in lines):
        raise InputError(f"{path} is no WordPiece vocabulary: expected a token on each of its {len(lines)} lines")
    vocabulary = {token: n for n, token in enumerate(lines) if token.strip()}
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    has_capitals = any(token != token.lower() for token in vocabulary if token not in BERT_NAMES)
    lower = settings.get("do_lower_case", not has_capitals)
    accents = settings.get("strip_accents")
    names = [declared.roles.get("unk"), "[UNK]", *NAMES]
    unknown = next((name for name in names if name in vocabulary), "[UNK]")
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=accents, lowercase=bool(lower)
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = [name for name in BERT_NAMES if name in vocabulary]
    add_special_tokens(backend, special)
    notes = [f"{path.name}: WordPiece, as BERT has it, with {', '.join(special) or 'no token'} as special tokens"]
    if "do_lower_case" not in settings:
        why = "no token has a capital letter" if lower else "some tokens have capital letters"
        notes.append(f"{path.name}: text is {'made lower case' if lower else 'left as it is'}, since {why}")
    return backend, notes


def _byte_pairs(vocab: Path, merges: Path, folder: Path) -> tuple[tokenizers.Tokenizer, list[str]]:
    """Byte-level BPE of a vocab.json and a merges.txt, as GPT-2 and RoBERTa have it (Radford et al. 2019)."""
    if not vocab.is_file():
        raise InputError(f"{merges} holds the merges of a BPE, but the vocab.json beside it is missing")
    ids = read_json(vocab, MAX_FILE_SIZE)
    if not isinstance(ids, dict) or not all(isinstance(n, int) and 0 <= n < 2**32 for n in ids.values()):
        raise InputError(f"{vocab} is no vocabulary of a BPE: expected a JSON object of tokens and their ids")
    if not any(token.startswith("\u0120") for token in ids) or any(token.endswith("</w>") for token in ids):
        how = "marks the ends of words by </w>" if any(token.endswith("</w>") for token in ids) else "is not of bytes"
        raise InputError(
            f"{vocab} is a BPE that {how}, and says not how text is cut: expected one as GPT-2's, or a tokenizer.json, "
            f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained('tokenizer') of transformers makes one"
        )
    pairs = [line.split(" ") for line in _text(merges).splitlines() if line and not line.startswith("#version")]
    wrong = next((pair for pair in pairs if len(pair) != 2 or not {*pair, "".join(pair)} <= ids.keys()), None)
    if wrong is not None:
        raise InputError(f"{merges} does not fit {vocab}: {shown(' '.join(wrong), 60)} is no pair of its tokens")
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    backend = tokenizers.Tokenizer(models.BPE(ids, [(left, right) for left, right in pairs]))
    prefix = bool(settings.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    missing = len(BYTE_ALPHABET.keys() - ids.keys())
    return backend, [f"{vocab.name}: {missing} of 256 bytes are missing"] if missing else []


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_FILE_SIZE:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_FILE_SIZE:,}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: byte {error.start}") from error
