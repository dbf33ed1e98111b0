"""Commands that cannot be meant: each is one line on standard error, exit code 2, and nothing was begun.

`tests/cli/` tests the messages; this tries every flag of every command.
"""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from clozelab.cli import main

COMMANDS = """
train --corpus corpus.jsonl --noise-density 0.3 --steps 1
train --corpus corpus.jsonl --mean-noise-span-length 2 --steps 1
train --corpus corpus.jsonl --objective masked --mean-noise-span-length 2 --steps 1
train --corpus corpus.jsonl --objective masked --noise-density 0.3 --steps 1
train --corpus corpus.jsonl --objective masked --scheme nothing --steps 1
train --corpus corpus.jsonl --objective masked --mask-rate --steps 1
train --corpus corpus.jsonl --objective masked --mask-replace-prob 0.9 --random-replace-prob 0.2 --steps 1
train --corpus corpus.jsonl --objective diffusion --exact-count yes --steps 1
train --corpus corpus.jsonl --objective fim --form mps --steps 1
train --corpus corpus.jsonl --objective fim --length 4 --steps 1
train --corpus corpus.jsonl --label-smoothing 1 --steps 1
train --corpus corpus.jsonl --z-loss -1 --steps 1
train --corpus corpus.jsonl --minutes 1 --steps 2
train --corpus corpus.jsonl --tokenizer characters --vocab-size 500 --steps 1
train --corpus corpus.jsonl --pad 3 --steps 1
train --corpus corpus.jsonl --tokenizer characters --eos x --steps 1
train --corpus corpus.jsonl --tokenizer causal --mask nothing --steps 1
train --corpus corpus.jsonl --tokenizer causal --bos 99999 --steps 1
train --corpus corpus.jsonl --tokenizer causal --unk --steps 1
train --corpus corpus.jsonl --tokenizer causal --decoder-start -1 --steps 1
train --corpus corpus.jsonl --tokenizer folder --steps 1
train --corpus corpus.jsonl --tokenizer pq.parquet --steps 1
train --corpus corpus.jsonl --tokenizer fifo.json --steps 1
train --run causal --resume --pad 3
pack --corpus corpus.jsonl --out packed --fim-prefix 3
check causal --eos 3
show "the cat" --mask 5
show "the cat" --tokenizer causal --mask ""
train --corpus corpus.jsonl --sharded --steps 1
train --corpus corpus.jsonl --zero-stage 2 --steps 1
train --corpus corpus.jsonl --init-from nowhere --steps 1
train --corpus corpus.jsonl --init-from corpus.jsonl --steps 1
train --corpus corpus.jsonl --init-from span --steps 1
train --corpus corpus.jsonl --init-from causal --size base --steps 1
train --run causal --extend 0
train --run folder --extend 5
train --run causal --extend 5 --seed 3
train --corpus corpus.jsonl --objective nothing --steps 1
train --corpus corpus.jsonl --objective --steps 1
train --corpus corpus.jsonl --noise-density nan --objective span --steps 1
train --corpus corpus.jsonl --steps 1e-3
train --corpus corpus.jsonl --steps -3
train --corpus corpus.jsonl --steps 99999999999999999999
train --corpus corpus.jsonl --minutes -1
train --corpus corpus.jsonl --minutes inf
train --corpus corpus.jsonl --sample-every -1 --steps 1
train --corpus corpus.jsonl --checkpoint-every x --steps 1
train --corpus corpus.jsonl --eval-every 1.5 --steps 1
train --corpus corpus.jsonl --micro-batch-size 0 --steps 1
train --corpus corpus.jsonl --learning-rate nan --steps 1
train --corpus corpus.jsonl --learning-rate 0 --steps 1
train --corpus corpus.jsonl --learning-rate -1 --steps 1
train --corpus corpus.jsonl --learning-rate 1e400 --steps 1
train --corpus corpus.jsonl --optimizer sgd --steps 1
train --corpus corpus.jsonl --precision float16 --steps 1
train --corpus corpus.jsonl --size huge --steps 1
train --corpus corpus.jsonl --seed -1 --steps 1
train --corpus corpus.jsonl --seed 1.5 --steps 1
train --corpus corpus.jsonl --length 0 --steps 1
train --corpus corpus.jsonl --length -5 --steps 1
train --corpus corpus.jsonl --batch-size 0 --steps 1
train --corpus corpus.jsonl --vocab-size 0 --steps 1
train --corpus corpus.jsonl --vocab-size 3.5 --steps 1
train --corpus corpus.jsonl --vocab-size 999999999999 --steps 1
train --corpus corpus.jsonl --sentinels -1 --steps 1
train --corpus corpus.jsonl --sentinels 999999999999 --steps 1
train --corpus corpus.jsonl --sentinels 3000000 --steps 1
train --corpus corpus.jsonl --split random --steps 1
train --corpus corpus.jsonl --column '' --steps 1
train --corpus corpus.jsonl --column 0 --steps 1
train --corpus corpus.jsonl --column 99999999999999999999 --steps 1
train --corpus corpus.jsonl --tokenizer '' --steps 1
train --corpus corpus.jsonl --tokenizer folder --steps 1
train --corpus corpus.jsonl --tokenizer tok.json --steps 1
train --corpus corpus.jsonl --tokenizer fifo.json --steps 1
train --corpus corpus.jsonl --tokenizer /dev/zero --steps 1
train --corpus corpus.jsonl --tokenizer corpus.jsonl --steps 1
train --corpus corpus.jsonl extra --steps 1
train --corpus corpus.jsonl --run corpus.jsonl --steps 1
train --corpus corpus.jsonl --run corpus.jsonl/sub --steps 1
train --corpus corpus.jsonl --resume --steps 1
train --corpus nul.txt --steps 1
train --corpus folder --steps 1
train --corpus folder.jsonl --steps 1
train --corpus fifo.txt --steps 1
train --corpus fifo.jsonl --steps 1
train --corpus dangling.txt --steps 1
train --corpus nums.jsonl --steps 1
train --corpus arr.json --steps 1
train --corpus str.json --steps 1
train --corpus deep.json --steps 1
train --corpus pq.parquet --steps 1
train --corpus a.arrow --steps 1
train --corpus bom16.txt --steps 1
train --corpus builtin --column 2 --steps 1
train --corpus /dev/stdin --steps 1
train --corpus . --steps 1
train --corpus a::b.jsonl --steps 1
train --resume --run corpus.jsonl --steps 1
train --resume --run folder --steps 1
pack
pack --corpus corpus.jsonl
pack --out packed
pack --corpus nowhere.jsonl --out packed
pack --corpus corpus.jsonl --out ""
pack --corpus corpus.jsonl --out corpus.jsonl
pack --corpus corpus.jsonl --out packed --workers -1
pack --corpus corpus.jsonl --out packed --workers 1000000
pack --corpus corpus.jsonl --out packed --vocab-size 3
pack --corpus corpus.jsonl --out packed --column body
pack --corpus corpus.jsonl --out packed --tokenizer nowhere.json
pack --corpus corpus.jsonl --out packed --split position
pack --corpus builtin --out packed
pack --corpus nul.txt --out packed
pack --corpus folder --out packed
pack --corpus deep.json --out packed
pack --corpus fifo.jsonl --out packed
pack --corpus nums.jsonl --out packed
train --stream --steps 1
train --stream --corpus nul.txt --steps 1
train --stream --corpus nowhere.jsonl --steps 1
train --stream --corpus "" --steps 1
train --stream --corpus corpus.jsonl --split position --steps 1
train --stream --corpus corpus.jsonl --column body --steps 1
train --stream --corpus nums.jsonl --steps 1
train --stream --corpus deep.json --steps 1
train --stream --corpus fifo.jsonl --steps 1
train --stream --corpus folder --steps 1
train --corpus corpus.jsonl --workers 2 --steps 1
train --stream --corpus corpus.jsonl --workers -1 --steps 1
train --stream --corpus corpus.jsonl --workers x --steps 1
compare --tokens 0
compare --tokens -1
compare --tokens x
compare --corpus nowhere.txt
compare --corpus corpus.jsonl --out ''
compare --objectives
compare --objectives nothing
compare --objectives causal causal
compare --objectives causal --mask-rate 0.3
compare --objective causal
compare --resume --out nowhere
compare --resume --out folder
compare --out corpus.jsonl
completion
completion fish
floors --seeds 0
floors --seeds x
floors --steps 0
floors --steps -3
floors --out ''
floors --objectives x
floors --objectives
floors --objective causal
show ''
show
show x --tokenizer nowhere
show x --tokenizer folder
show x --tokenizer tok.json
show x --objective span --noise-density 0
show x --objective span --noise-density 1
show x --objective span --mean-noise-span-length 0.5
show x --noise-density 0.5
show x y
show x --seed -1
show x --seed x
show x --objective causal --noise-density 0.5
show x --objective masked --mean-noise-span-length 4
check
check x
check :
check :x
check x:
check nowhere:x
check nowhere.py:x
check ok.py:nothing
check ok.py:x
check ok.py:one --rate 0
check ok.py:one --rate 2
check ok.py:one --skip
check ok.py:one --skip foo
check ok.py:col
check ok.py:col --rate 0.2
check ok.py:col --tokenizer nowhere
check ok.py:one --tokenizer tok.json
check bad.py:x
check syn.py:x
check folder:x
check ok.py:__class__
check os:path
check os:getcwd
check ..:x
check .x:x
check ok.py:one.
course --folder nowhere
course --folder corpus.jsonl
course --folder folder
course --folder ''
plan --params 0
plan --params nan
plan --params inf
plan --params 1e16
plan --params 1
plan --tokens 0
plan --batch-tokens 0
plan --length 0
plan --length 1048577
plan --devices 0
plan --devices 1000001
plan --devices 1.5
plan --kind tpu
plan --device-flops 0
plan --device-flops nan
plan --device-memory -1
plan --network 0
plan --utilisation 0
plan --utilisation 2
plan --delivered 0
plan --vocab-size 0
plan --vocab-size 1000000000000
plan --size tiny --params 1e9
plan --size huge
plan --objective span --noise-density 1
plan --objective span --mean-noise-span-length 0
plan --objective causal --mean-noise-span-length 4
plan --noise-density 0.3
plan --params 7X
plan --objective span --length 1
generate
generate nowhere
generate folder x
generate corpus.jsonl x
generate causal x --tokens 0
generate causal x --temperature 0
generate causal x --temperature nan
generate causal x --top-k 0
generate causal x --top-k -1
generate causal x --top-p 0
generate causal x --top-p 1.1
generate causal x --seed -1
generate causal x --greedy --temperature 2
generate causal x --greedy --top-k 2
generate masked x
generate span x
generate fim 'a ___'
generate --tokens 5
generate causal x y
generate ''
fill masked
fill masked ''
fill masked x
fill causal 'a ___'
fill masked 'a ___' --order x
fill span 'a ___' --order all
fill fim 'a ___' --order all
fill fim 'a ___ b ___'
fill fim x
fill prefix 'a ___'
fill masked 'a ___' --top-k 0
fill masked 'a ___' --top-p nan
fill masked 'a ___' --temperature 1e400
fill masked 'a ___' --greedy --top-p 0.5
bogus
--bogus
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs to complete texts with, and files that are not what their names say."""
    folder = tmp_path_factory.mktemp("folder")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("CLOZELAB_CACHE", str(folder / "cache"))
        rows = (f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(300))
        Path("corpus.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
        sizes = ["--length", "32", "--batch-size", "4", "--vocab-size", "400", "--steps", "1"]
        for name in ("causal", "masked", "span", "prefix", "fim"):
            assert main(["train", "--objective", name, "--corpus", "corpus.jsonl", "--run", name, *sizes]) == 0
        for name, content in {
            "nul.txt": b"\0" * 9999,
            "nums.jsonl": b'{"text": 1}\n' * 20,
            "arr.json": b"[1, 2, 3]",
            "str.json": b'"x"',
            "deep.json": b"[" * 100_000,
            "pq.parquet": b"PAR1" + b"\xff" * 100 + b"PAR1",
            "a.arrow": b"\xff" * 100,
            "bom16.txt": "hello".encode("utf-16"),
            "tok.json": b"{}",
            "a::b.jsonl": b'{"text": "a b c"}\n' * 50,
            "bad.py": b"raise SystemExit(3)",
            "syn.py": b"def (",
            "ok.py": b"x = 5\ndef one(t, m, g): return m\ndef col(x): return 5\n",
        }.items():
            Path(name).write_bytes(content)
        for name in ("folder", "folder.jsonl"):
            Path(name).mkdir()
        for name in ("fifo.txt", "fifo.json", "fifo.jsonl"):
            os.mkfifo(name)
        os.symlink("nowhere", "dangling.txt")
    return folder


REPORT = re.compile(r"\Acorpus .*\n(  .*\n)*")
"""What was found in the corpus, which is printed before it is refused for another reason."""


def refused(arguments, capsys):
    capsys.readouterr()
    code = main(arguments)
    captured = capsys.readouterr()
    assert code == 2, captured.err
    error = REPORT.sub("", captured.err)
    assert len(error.strip().splitlines()) == 1, error
    assert error.startswith("clozelab: ")
    assert len(captured.err) > 25


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CLOZELAB_CACHE", str(folder / "cache"))
    before = sorted(os.listdir())
    yield
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines(), ids=str)
def test_it_is_one_line(command, inside, capsys):
    refused(shlex.split(command), capsys)


@pytest.mark.parametrize("sign", ["\0", "\ud800", "x" * 5000], ids=["NUL", "no UTF-8", "long"])
@pytest.mark.parametrize(
    "command",
    [
        ["generate", "{}", "x"],
        ["fill", "masked", "{}"],
        ["train", "--corpus", "{}"],
        ["train", "--corpus", "corpus.jsonl", "--tokenizer", "{}"],
        ["train", "--corpus", "corpus.jsonl", "--column", "{}"],
        ["train", "--resume", "--run", "{}"],
        ["show", "x", "--tokenizer", "{}"],
        ["check", "{}:x"],
        ["check", "{}.py:x"],
        ["course", "--folder", "{}"],
        ["{}"],
        ["train", "--{}"],
    ],
    ids=lambda command: " ".join(command),
)
def test_signs_that_no_name_holds_are_one_line(command, sign, inside, capsys):
    refused([word.replace("{}", sign) for word in command], capsys)
