"""The flags of a corpus and its tokenizer, and what they say."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..escape import counted, escape_control_characters
from .special_ids import roles_of
from .values import COUNT, COUNT_OR_NONE

if TYPE_CHECKING:
    from ..data import Corpus, CorpusReport, IdTokenizer, Mixture, MixtureReport
    from ..objectives import Objective
    from ..training import TrainConfig
    from ..training.order import Drawn


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """The flags from which `corpus_of` loads a corpus, and `tokenizer_of` makes arguments of `prepare`."""
    group = parser.add_argument_group("corpus")
    group.add_argument(
        "--corpus",
        action="append",
        help='"builtin", a file or folder, or the name of a data set on the hub  (default: builtin); several are '
        "mixed, each with its share of the training blocks, and so of the tokens: --corpus books/=0.7 --corpus "
        "news.csv=0.3",
    )
    group.add_argument("--column", help="column of a table, by name or number  (default: text; for ids: input_ids)")
    group.add_argument(
        "--lines",
        action="store_true",
        help="take each line of a text file as a document; tables in a mixture stay tables",
    )
    group.add_argument("--skip-bad-rows", action="store_true", help="leave out and count rows that cannot be read")
    group.add_argument(
        "--validation",
        metavar="FILE",
        help="file or folder to hold out from training  (default: files in the corpus folder named validation, valid, "
        "val or dev; those named test or eval are left out, neither trained on nor held out)",
    )
    group.add_argument("--split", choices=("auto", "hash", "position"), default="auto", help="how text is held out")
    group.add_argument(
        "--tokenizer",
        default="bpe",
        help='"bpe", "characters", the file or folder of a tokenizer, or "ids" for a corpus of token ids, in .npy '
        "files or lists in JSON, Parquet or Arrow",
    )
    group.add_argument(
        "--vocab-size", type=COUNT, help="size of a trained BPE  (default: 4096); with ids, how many the corpus may use"
    )
    group.add_argument("--sentinels", type=COUNT_OR_NONE, default=100, help="ids reserved for hidden spans")


def corpus_of(
    args: argparse.Namespace, objectives: Iterable[Objective | type[Objective]], *, streaming: bool = False
) -> Any:
    """The corpus that the flags name, for `prepare` or `prepare_stream`: a `Corpus`, the folder where it is packed, or
    several with their weights."""
    tokenizer = _ids_of(args, objectives)
    options = {
        "text_column": args.column,
        "lines": args.lines,
        "skip_bad_rows": args.skip_bad_rows,
        "validation": args.validation,
        "split": args.split,
        "special": None if tokenizer is None else tokenizer.special,
        "id_count": args.vocab_size if args.tokenizer == "ids" else None,
    }
    names = args.corpus or ["builtin"]
    if len(names) > 1:
        return _mixture(names, options, streaming)
    name, mark, _ = names[0].rpartition("=")
    if mark and Path(name).exists() and not Path(names[0]).exists():
        raise InputError(f"--corpus {names[0]} is the only one, so its share would have no effect: give {name} alone")
    return _open(names[0], options, streaming)


def all_packed(words: Sequence[str]) -> bool:
    """Whether each corpus that --corpus names, alone or with a share, is a packed folder."""
    from ..data import is_packed

    return all(is_packed(word if len(words) == 1 else _weighted(word)[0]) for word in words)


def _open(name: str, options: Mapping[str, Any], streaming: bool) -> Corpus | Path:
    from ..data import is_packed, load_corpus

    if not streaming and is_packed(name):
        if any(
            options[option] not in (None, False, "auto") for option in options if option not in ("special", "id_count")
        ):
            raise InputError(f"{name} is packed: how its corpus was read and split can no longer be changed")
        return Path(name)
    return load_corpus(name, **options, streaming=streaming)


def _mixture(words: Sequence[str], options: dict[str, Any], streaming: bool) -> dict[Corpus | Path, float]:
    """Several corpora and their weights. An option that only some of them know is for those."""
    from ..data.corpora.sources import IdleOption
    from ..data.mixture import shares_of

    if streaming:
        raise InputError("a mixture is not streamed: pack each corpus by clozelab pack, and mix the packed folders")
    if options["validation"] is not None:
        raise InputError("each corpus of a mixture holds out a part of its own: --validation cannot name one for all")
    weights: dict[str, float] = {}
    for word in words:
        name, weight = _weighted(word)
        if name in weights:
            raise InputError(f"--corpus names {name} twice")
        weights[name] = weight
    shares_of(list(weights), list(weights.values()))
    opened: dict[Corpus | Path, float] = {}
    idle: dict[str, list[IdleOption]] = {}
    for name, weight in weights.items():
        mine = dict(options)
        while True:
            try:
                opened[_open(name, mine, streaming)] = weight
                break
            except IdleOption as error:
                idle.setdefault(error.option, []).append(error)
                del mine[error.option]
    for errors in idle.values():
        if len(errors) == len(words):
            raise errors[0]
    return opened


def _weighted(word: str) -> tuple[str, float]:
    """(name, weight) of a corpus of a mixture; the name may contain "="."""
    name, mark, number = word.rpartition("=")
    try:
        if not mark or Path(word).exists():
            raise ValueError
        return name, float(number)
    except ValueError:
        raise InputError(
            f"--corpus {word} has no share: each of several corpora needs one, as in --corpus {word}=0.5"
        ) from None


def tokenizer_of(args: argparse.Namespace, objectives: Iterable[Objective | type[Objective]]) -> dict[str, Any]:
    """The arguments of `clozelab.training.prepare` about the tokenizer, with the roles that the objectives need."""
    objectives = list(objectives)
    return {
        "tokenizer": _ids_of(args, objectives) or args.tokenizer,
        "vocab_size": args.vocab_size or 4096,
        "sentinels": args.sentinels,
        "roles": roles_of(args, objectives),
    }


def tokenizer_of_run(run: Path) -> dict[str, Any]:
    """`tokenizer_of` for a run that is continued, or begun from: its tokenizer as it is.

    Raises `InputError` where run.json or the tokenizer is damaged.
    """
    from ..training import read_run
    from ..training.run_description import check_tokenizer

    described = read_run(run)
    check_tokenizer(run, described)
    return {"tokenizer": str(run / "tokenizer.json"), "sentinels": 0, "roles": described["special"]}


def _ids_of(args: argparse.Namespace, objectives: Iterable[Objective | type[Objective]]) -> IdTokenizer | None:
    """The special ids of a corpus of token ids, in place of a tokenizer; None for a corpus of text."""
    if args.tokenizer != "ids":
        source = getattr(args, "init_from", None) or args.tokenizer
        if source in ("bpe", "characters"):
            return None
        from ..data import IdTokenizer, load_tokenizer
        from ..data.tokenizers.ids import is_of_ids

        file = Path(source) / "tokenizer.json" if Path(source).is_dir() else Path(source)
        tokenizer = load_tokenizer(file) if is_of_ids(file) else None
        return tokenizer if isinstance(tokenizer, IdTokenizer) else None
    from ..data import IdTokenizer
    from ..data.tokenizers.ids import special_ids_behind

    if args.vocab_size is None:
        raise InputError("--tokenizer ids needs --vocab-size: how many ids the corpus may hold")
    return IdTokenizer(*special_ids_behind(args.vocab_size, roles_of(args, objectives), args.sentinels))


def print_mixture(text: Mixture, objective: Objective, config: TrainConfig) -> None:
    """Print how often a run reads each corpus, before it begins; nothing where the clock ends it."""
    if config.total_steps is not None:
        from ..training.order import MixtureOrder

        length = text.blocks(objective.source_length(config.length)).length
        order = MixtureOrder(text.block_counts(length), text.quotas, config.seed)
        print_report(said(dict(zip(text.names, order.drawn(config.total_steps * config.batch_size)))))


def said(drawn: Mapping[str, Drawn]) -> str:
    """What a run reads of each corpus, in one line."""
    return "; ".join(
        f"{name}: {counted(one.examples, 'block')} ({one.share:.1%}), {one.epochs:.2f} epochs"
        for name, one in drawn.items()
    )


def print_report(report: CorpusReport | MixtureReport | str) -> None:
    """Print what a corpus was found to be, or a line about it."""
    if sys.stderr is not None:  # `2>&-` closes it
        with suppress(OSError):  # a closed terminal, or a pipe whose reader has gone: no run dies of that
            print(escape_control_characters(report) if isinstance(report, str) else report, file=sys.stderr)
