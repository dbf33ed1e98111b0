"""Special ids on the command line: stated by flags, recorded, restored, and refused where they are wrong or idle."""

import json
import re
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from clozelab.cli import main
from clozelab.data import open_shards
from clozelab.models import PRESETS
from clozelab.training import load_run

WORDS = ["UNK", "PAD_None", "EOS_None", "MASK_None", "BOS_None", "<PRE>", "<SUF>", "<MID>", "<END>", "old", "lamp"]
STATED = ["--pad", "PAD_None", "--eos=2", "--mask", "MASK_None", "--unk", "UNK", "--bos", "BOS_None"]
FIM = ["--fim-prefix", "<PRE>", "--fim-suffix", "<SUF>", "--fim-middle", "<MID>", "--fim-end", "8"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    """A folder of its own with a corpus and a tokenizer, and models of one block."""
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 16, "n_layers": 1, "n_heads": 1})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    texts = [f"old lamp {n} PAD_None lamp BOS_None old EOS_None" for n in range(60)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    backend = tokenizers.Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "lamp"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.save(str(tmp_path / "t.json"))


def train(objective, *more, tokenizer="t.json", run="run"):
    words = ["--objective", objective, "--corpus", "corpus.jsonl", "--tokenizer", tokenizer, "--run", run]
    small = ["--steps", "2", "--length", "8", "--batch-size", "2", "--eval-every", "0", "--sample-every", "0"]
    return main(["train", *words, *small, *more])


def refused(capsys, code, message):
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2
    assert re.search(message, error), error


def test_ids_that_are_stated_are_recorded_and_restored(capsys):
    assert train("masked", *STATED) == 0
    told = capsys.readouterr().err
    assert not re.search("by its name|added|PAD_None|BOS_None", told), told
    expected = {"pad": 1, "eos": 2, "mask": 3, "bos": 4}
    command = json.loads(Path("run/run.json").read_text())["description"]["command"]
    assert (command["pad"], command["eos"], command["bos"]) == ("PAD_None", 2, "BOS_None")
    tokenizer = load_run("run").tokenizer
    assert tokenizer.special.named == expected
    assert tokenizer.unknown == 0
    assert tokenizer.encode("old PAD_None BOS_None table") == [9, 0, 0, 0]
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert main(["train", "--run", "run", "--resume", "--pad", "PAD_None"]) == 0
    refused(
        capsys, main(["train", "--run", "run", "--resume", "--pad", "UNK"]), "was begun with --pad PAD_None, not UNK"
    )


def test_the_roles_of_an_objective_are_flags_and_packed_shards_keep_them(capsys):
    assert train("fim", *STATED, *FIM) == 0
    roles = {"fim_prefix": 5, "fim_suffix": 6, "fim_middle": 7, "fim_end": 8}
    assert roles.items() <= load_run("run").tokenizer.special.named.items()
    words = ["--corpus", "corpus.jsonl", "--tokenizer", "t.json", "--out", "packed", "--sentinels", "8"]
    assert main(["pack", *words, *STATED, *FIM]) == 0
    named = open_shards("packed")[0].special.named
    assert {"pad": 1, "eos": 2, "mask": 3, "bos": 4, **roles}.items() <= named.items()
    small = ["--steps", "1", "--length", "8", "--batch-size", "2", "--run", "other"]
    assert main(["train", "--objective", "fim", "--corpus", "packed", *small]) == 0
    assert load_run("other").tokenizer.special.named == named


def test_the_start_of_a_decoder_is_a_flag():
    assert train("span", *STATED, "--decoder-start", "EOS_None") == 0
    assert load_run("run").tokenizer.special["decoder_start"] == 2


def test_show_and_check_take_the_same_flags(capsys):
    assert main(["show", "old lamp", "--tokenizer", "t.json", "--objective", "masked", "--mask", "MASK_None"]) == 0
    told = capsys.readouterr().err
    assert "tokenizer: pad: <pad> = 11, added" in told
    assert "(special by --pad 'PAD_None')" in told
    assert "mask: " not in told


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pad", "<pad>"], r"pad: the tokenizer has no token '<pad>': did you mean PAD_None\?"),
        (["--mask", "Mask_none"], r"mask: the tokenizer has no token 'Mask_none': did you mean MASK_None\?"),
        (["--eos", "lampe"], r"eos: the tokenizer has no token 'lampe': did you mean lamp\?"),
        (["--eos", "500"], "eos: the tokenizer has no token of the id 500; its ids go up to 10"),
        (["--eos", "-1"], "expected one argument|no token '-1'"),
        (["--pad", ""], "--pad: expected the text of a token or an id, got ''"),
        (["--pad", "99999999999999999999"], "no token '99999999999999999999'"),
        (["--mask", "MASK_None", "--eos", "3"], "two meanings"),
        (["--msk", "MASK_None"], "there is no option --msk: did you mean --mask"),
    ],
)
def test_wrong_ids_are_refused_in_one_line(flags, message, capsys):
    refused(capsys, train("masked", *flags), message)


@pytest.mark.parametrize("tokenizer", ["bpe", "characters"])
def test_ids_are_idle_beside_a_tokenizer_that_is_trained(tokenizer, capsys):
    code = train("masked", "--mask", "MASK_None", tokenizer=tokenizer)
    refused(capsys, code, "--mask MASK_None would have no effect: a tokenizer that is trained")
    code = main(["show", "old lamp", "--pad", "3"])
    refused(capsys, code, "--pad 3 would have no effect")
