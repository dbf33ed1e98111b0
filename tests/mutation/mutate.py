"""Mutation testing of the core: small changes of its source, each of which some test must notice.

    python tests/mutation/mutate.py --count 200 --seed 0 --out runs/mutants.jsonl
    python tests/mutation/mutate.py --module src/data/noise.py           all places of one module

Cosmic Ray says where a module can be changed and changes it. Of the changes of one kind at one place a single one is
taken, and of all places as many as are asked for, at random. Two kinds are left out: type annotations, which nothing
executes, and what stands inside `raise`, the words of a message.

A mutant is tried in a fork of a process that has PyTorch and pytest loaded, in a copy of the repository: first the
tests of its module, then, if it lives, those of all objectives, of hiding, floors and generation. A line of JSON is
written for each.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cosmic_ray.plugins
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parents[2]
PINNED = "tests/data/test_pinned_noise.py"
OBJECTIVES = [
    *("causal_lm", "masked_lm", "span_corruption", "prefix_lm", "masked_diffusion", "fill_in_the_middle"),
    *("block_diffusion", "masked_next_token", "ul2"),
]
CONTRACT = [f"tests/objectives/test_{name}.py" for name in ("foreign_batches", "loss", "contract")]
MODULES: dict[str, list[str]] = {
    "src/data/noise.py": [PINNED, "tests/data/test_noise.py"],
    "src/data/masking.py": [PINNED, "tests/data/test_collator_input.py", "tests/data/test_masking.py"],
    "src/data/span_masking.py": [PINNED, "tests/data/test_spans.py", "tests/data/test_masking.py"],
    "src/data/spans.py": [PINNED, "tests/objectives/test_span_corruption.py", "tests/data/test_spans.py"],
    "src/data/replacement.py": [PINNED, "tests/data/test_replacement.py"],
    "src/data/special_ids.py": [PINNED, "tests/data/test_special_ids.py", "tests/data/test_examples.py"],
    "src/data/examples.py": [PINNED, "tests/data/test_examples.py", "tests/data/test_collator.py"],
    "src/data/collator.py": [
        *(PINNED, "tests/data/test_example_data.py"),
        *(f"tests/data/test_collator{part}.py" for part in ("", "_input", "_noise")),
    ],
    "src/objectives/cross_entropy.py": ["tests/objectives/test_cross_entropy.py"],
    "src/objectives/loss.py": ["tests/objectives/test_loss.py", *CONTRACT],
    "src/objectives/objective.py": CONTRACT,
    "src/objectives/model_calls.py": CONTRACT,
    "src/objectives/options.py": ["tests/objectives/test_options.py", *CONTRACT],
    "src/objectives/ul2r.py": ["tests/objectives/test_ul2.py", *CONTRACT],
    "src/objectives/multi_token_prediction.py": ["tests/objectives/test_multi_token_prediction.py", *CONTRACT],
    **{f"src/objectives/{name}.py": [PINNED, f"tests/objectives/test_{name}.py", *CONTRACT] for name in OBJECTIVES},
}
"""The modules, and the tests that should notice first."""
WIDE = [
    *("tests/data", "--ignore=tests/data/corpora", "--ignore=tests/data/tokenizers", "tests/objectives"),
    *("tests/evaluation/test_floors.py", "tests/evaluation/test_floors_of_likelihoods.py", "tests/generation"),
    "tests/testing/test_function_outputs.py",
]
LOADED = ("torch", "torch._dynamo", "numpy", "hypothesis", "tokenizers", "safetensors", "datasets")
SECONDS = 240
"""Processor time after which a mutant counts as killed: it does not end."""


@dataclass(frozen=True)
class Mutant:
    """One change of one module: its line before and after, and the whole changed source."""

    module: str
    line: int
    before: str
    after: str
    source: str


class _Executed(ast.NodeTransformer):
    """The code without annotations of functions, docstrings, and what is raised."""

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise()


def executed(source: str) -> str:
    """What remains of a source if one leaves out what no test could notice."""
    return ast.unparse(_Executed().visit(ast.parse(source)))


def places(module: str) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """(module, line, [(operator, its how-manieth place in the module)]) for each place and kind of change."""
    tree = get_ast((ROOT / module).read_text(encoding="utf-8"))
    nodes, found = list(ast_nodes(tree)), {}
    for name in cosmic_ray.plugins.operator_names():
        operator_class = cosmic_ray.plugins.get_operator(name)
        if operator_class.arguments():
            continue
        operator, kind = operator_class(), name.rpartition("_")[0] or name
        starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, start in enumerate(starts):
            found.setdefault((kind, start), []).append((name, occurrence))
    return [(module, line, choices) for (_, (line, _)), choices in found.items()]


def mutants(modules: Sequence[str], draw: random.Random) -> Iterator[Mutant]:
    """All of them in a random order, one for each place and kind of change."""
    every = [place for module in modules for place in places(module)]
    draw.shuffle(every)
    print(f"{len(every)} places", flush=True)
    for module, line, choices in every:
        source = (ROOT / module).read_text(encoding="utf-8")
        before, (name, occurrence) = source.splitlines()[line - 1], draw.choice(choices)
        changed = mutate_code(source, cosmic_ray.plugins.get_operator(name)(), occurrence)
        try:
            if changed is None or executed(changed) == executed(source):
                continue
        except SyntaxError:
            continue
        after = changed.splitlines()[line - 1]
        yield Mutant(module, line, before.strip(), after.strip(), changed)


# --------------------------------------------------------------------------- trying one


def killed_by(copy: Path, words: list[str]) -> tuple[str | None, float]:
    """What ended the tests (None where all passed), and their processor time, in a fork of this process."""
    log = copy / "log.txt"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = os.fork()
    if child == 0:
        _run_tests(copy, words, log)
    _, status = os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}", seconds
    code = os.WEXITSTATUS(status)
    if code == 0:
        return None, seconds
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return (failed or lines[-1:] or [f"exit code {code}"])[0][:200], seconds


def _run_tests(copy: Path, words: list[str], log: Path) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    try:
        where = importlib.import_module("clozelab").__file__
        assert Path(where or "").is_relative_to(copy), where
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *words]))
    except BaseException as error:
        print(f"ERROR {type(error).__name__}: {error}")
        code = 1
    sys.stdout.flush()
    os._exit(code)


def outcome_of(mutant: Mutant, copy: Path, *, wide: bool) -> dict:
    """The mutant, what killed it (None: it survived), and the processor time of the tests."""
    path = copy / mutant.module
    original = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutant.source, encoding="utf-8")
        killer, seconds = killed_by(copy, MODULES[mutant.module])
        if killer is None and wide:
            killer, more = killed_by(copy, WIDE)
            seconds += more
    finally:
        path.write_text(original, encoding="utf-8")
    place = {"module": mutant.module, "line": mutant.line, "before": mutant.before, "after": mutant.after}
    return {**place, "killed": killer, "seconds": round(seconds, 1)}


# --------------------------------------------------------------------------- all of them


def main() -> None:
    """Choose, try, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, help="how many mutants of all  (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", nargs="+", choices=tuple(MODULES), default=tuple(MODULES), metavar="PATH")
    parser.add_argument("--own-tests", action="store_true", help="try only the tests of the module")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants.jsonl"), help="goes on where it holds some")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    known = {(one["module"], one["before"], one["after"], one["line"]) for one in done}

    os.environ["OMP_NUM_THREADS"] = "1"
    sys.dont_write_bytecode = True  # two versions of a file within a second would share theirs
    for name in LOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / "clozelab").symlink_to(copy / "src")
        killer, seconds = killed_by(copy, sorted({test for module in args.module for test in MODULES[module]}))
        print(f"unchanged: {killer or 'passed'}, {seconds:.0f} s", flush=True)
        if killer is not None:
            sys.exit("the tests must pass before anything is changed")
        for mutant in islice(mutants(args.module, random.Random(args.seed)), args.count):
            if (mutant.module, mutant.before, mutant.after, mutant.line) in known:
                continue
            begun, one = time.monotonic(), outcome_of(mutant, copy, wide=not args.own_tests)
            done.append(one)
            with args.out.open("a") as file:
                file.write(json.dumps(one) + "\n")
            word = "killed  " if one["killed"] else "SURVIVED"
            print(f"{word} {mutant.module}:{mutant.line} {mutant.before!r} -> {mutant.after!r} {one['killed'] or ''}")
            print(f"         {one['seconds']} s of {time.monotonic() - begun:.0f} s", flush=True)
    killed = sum(one["killed"] is not None for one in done)
    print(f"{len(done)} mutants, {killed} killed, {len(done) - killed} survived")


if __name__ == "__main__":
    main()
