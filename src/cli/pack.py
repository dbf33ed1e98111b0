"""`clozelab pack`: tables of any size tokenised once, into shards that many runs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..escape import counted, escape_control_characters
from .corpus import add_corpus, corpus_of, print_report, tokenizer_of
from .hints import command_line
from .parsing import Given, Parser
from .special_ids import add_special_ids
from .values import WORKERS, path

SUMMARY = "tokenise tables of any size once, into shards that many runs share"
EXAMPLE = "clozelab pack --corpus tables/ --out packed/ --workers 8"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    add_corpus(parser)
    add_special_ids(parser, words)
    parser.add_argument("--out", type=path, required=True, help="folder for the shards; later runs take it as --corpus")
    parser.add_argument("--workers", type=WORKERS, default=1, help="processes that tokenise, each one file at a time")


def run(args: argparse.Namespace, given: Given) -> int:
    """Pack, and print how to train on the shards."""
    from ..data import pack_shards
    from ..objectives import OBJECTIVES
    from ..training import prepare_stream

    objectives = list(OBJECTIVES.values())  # any of them may be trained on it
    corpus = corpus_of(args, objectives, streaming=True)
    prepared = prepare_stream(corpus, **tokenizer_of(args, objectives), announce=print_report)
    packed = pack_shards(
        prepared.text.documents,
        list(prepared.corpus.heldout),
        prepared.tokenizer,
        args.out,
        workers=args.workers,
        progress=True,
    )
    if packed.encoding_loss:
        print(f"text: {packed.encoding_loss}", file=sys.stderr)
    size = f" ({counted(packed.bytes, 'byte')})" if packed.bytes else ""
    what = f"{counted(len(packed), 'token')} of {counted(packed.documents, 'document')}{size}"
    then = command_line("train", "--corpus", args.out)
    print(escape_control_characters(f"{what} in {counted(len(packed.shards), 'shard')}: {then}"))
    return 0
