"""The flags of a corpus and its tokenizer, and what they say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .special_ids import roles_of
from .values import COUNT, COUNT_OR_NONE

if TYPE_CHECKING:
    from ..data import Corpus, CorpusReport
    from ..objectives import Objective


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """The flags from which `corpus_of` loads a corpus, and `tokenizer_of` makes arguments of `prepare`."""
    group = parser.add_argument_group("corpus")
    group.add_argument("--corpus", default="builtin", help='"builtin", a file or folder, or a hub name')
    group.add_argument("--column", help="text column of a table, by name or number  (default: text)")
    group.add_argument("--lines", action="store_true", help="each line of a text file is a document")
    group.add_argument("--skip-bad-rows", action="store_true", help="leave out and count rows that cannot be read")
    group.add_argument("--validation", metavar="FILE", help="file or folder to hold out, which is not trained on")
    group.add_argument("--split", choices=("auto", "hash", "position"), default="auto", help="how text is held out")
    group.add_argument("--tokenizer", default="bpe", help='"bpe", "characters", or a file or folder of one')
    group.add_argument("--vocab-size", type=COUNT, default=4096, help="of a trained BPE")
    group.add_argument("--sentinels", type=COUNT_OR_NONE, default=100, help="reserved for hidden spans")


def corpus_of(args: argparse.Namespace, *, streaming: bool = False) -> Corpus | Path:
    """The corpus that the flags name, for `prepare` or `prepare_stream`; the folder where it is packed."""
    from ..data import is_packed, load_corpus

    options = {
        "text_column": args.column,
        "lines": args.lines,
        "skip_bad_rows": args.skip_bad_rows,
        "validation": args.validation,
        "split": args.split,
    }
    if not streaming and is_packed(args.corpus):
        if any(value not in (None, False, "auto") for value in options.values()):
            raise InputError(f"{args.corpus} is packed: how its corpus was read and split cannot be changed any more")
        return Path(args.corpus)
    return load_corpus(args.corpus, **options, streaming=streaming)


def tokenizer_of(args: argparse.Namespace, objectives: Iterable[Objective | type[Objective]]) -> dict[str, Any]:
    """The arguments of `clozelab.training.prepare` about the tokenizer, with the roles that the objectives need."""
    return {
        "tokenizer": args.tokenizer,
        "vocab_size": args.vocab_size,
        "sentinels": args.sentinels,
        "roles": roles_of(args, objectives),
    }


def print_report(report: CorpusReport) -> None:
    """Print what a corpus was found to be."""
    if sys.stderr is not None:  # `2>&-` closes it
        with suppress(OSError):  # a closed terminal, or a pipe whose reader has gone: no run dies of that
            print(report, file=sys.stderr)
