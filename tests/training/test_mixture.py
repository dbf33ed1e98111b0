"""Mixtures: each corpus has its share of the examples, whatever asks for them and wherever a run resumes."""

import json
import shutil
from collections import Counter

import pytest
import torch

from clozelab import CausalLM, MaskedLM, load_corpus
from clozelab.cli import main
from clozelab.data import Mixture, pack, pack_shards, train_bpe
from clozelab.errors import InputError
from clozelab.evaluation import evaluate, fixed_batches
from clozelab.training import Batches, Processes, TrainConfig, prepare, read_metrics, read_run, seeded_model, train
from clozelab.training.order import MixtureOrder

FEW = [f"The number {n} is small." for n in range(60)]
MANY = [f"A large number is {n}, and the next one is {n + 1}." for n in range(700)]
SMALL = {"d_model": 16, "n_layers": 1, "n_heads": 1}
CONFIG = TrainConfig(
    steps=5, length=16, batch_size=8, eval_rows=8, eval_every=0, checkpoint_every=2, precision="float32"
)


@pytest.fixture(scope="module")
def prepared():
    return prepare({load_corpus(FEW): 7, load_corpus(MANY): 3}, vocab_size=400)


def batches(prepared, seed=0, size=8):
    collator = MaskedLM().collator(prepared.tokenizer.special, seed=seed)
    return Batches(prepared.text.blocks(16), collator, size)


# ------------------------------------------------------------------ the order


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [([0.7, 0.3], [700, 300]), ([1, 1, 1], [334, 333, 333]), ([2, 999], [2, 998]), ([5, 1], [833, 167])],
)
def test_every_thousand_examples_has_each_share_rounded(weights, quotas, prepared):
    text = prepared.text.texts[0]
    mixture = Mixture([str(n) for n in range(len(weights))], [text] * len(weights), weights)
    assert mixture.quotas == quotas
    order = MixtureOrder([10] * len(weights), quotas, seed=1)
    for window in range(3):
        counted = Counter(order(place)[0] // 10 for place in range(window * 1000, (window + 1) * 1000))
        assert [counted[n] for n in range(len(weights))] == quotas


def test_each_corpus_has_epochs_of_its_own():
    """Whatever the others have: each of its blocks once before any of them again."""
    counts = [7, 40]
    order = MixtureOrder(counts, [600, 400], seed=3)
    seen = [order(place) for place in range(2500)]
    for corpus, (start, count) in enumerate(zip([0, 7], counts)):
        mine = [(block - start, epoch) for block, epoch in seen if start <= block < start + count]
        assert [epoch for _, epoch in mine] == [n // count for n in range(len(mine))]
        for epoch in range(len(mine) // count):
            assert sorted(block for block, at in mine if at == epoch) == list(range(count))
        assert len(mine) == order.drawn(2500)[corpus].examples
        assert order.drawn(2500)[corpus].epochs == len(mine) / count
    assert len(set(seen)) == len(seen)


def test_the_order_is_drawn_for_the_seed_and_mixed_within_a_batch():
    def corpora(seed):
        order = MixtureOrder([10, 10], [500, 500], seed)
        return [order(place)[0] // 10 for place in range(1000)]

    assert corpora(0) == corpora(0) != corpora(1)
    changes = sum(one != other for one, other in zip(corpora(0), corpora(0)[1:]))
    assert 400 < changes < 600  # of 999, if neighbours are independent


def test_any_example_is_found_without_those_before_it(prepared):
    straight = [batches(prepared).examples(n) for n in range(300)]
    assert [batches(prepared).examples(n) for n in (299, 126, 125, 0)] == [straight[n] for n in (299, 126, 125, 0)]
    numbers = [example for examples, _ in straight for example in examples]
    few = prepared.text.block_counts(16)[0]
    assert sum(number < few for number in numbers[:2000]) == 1400
    assert batches(prepared).drawn(250)[prepared.text.names[0]].share == 0.7


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_train_on_what_one_does(prepared, count):
    made = batches(prepared)
    for n in (0, 125):
        [whole] = made.micro_batches(n)
        parts = [part for rank in range(count) for part in made.micro_batches(n, 2, Processes(rank, count))]
        assert all(torch.equal(whole[key], torch.cat([part[key] for part in parts])) for key in whole)


# ------------------------------------------------------------------ runs


def test_a_resumed_run_is_the_run_bit_for_bit(prepared, tmp_path):
    def run(folder, resume=False):
        model = seeded_model(CausalLM(), prepared.tokenizer.vocab_size, "tiny", 0, **SMALL)
        result = train(
            CausalLM(), model, prepared.tokenizer, prepared.text, prepared.heldout, CONFIG, run=folder, resume=resume
        )
        return result, model.state_dict()

    result, straight = run(tmp_path / "straight")
    run(tmp_path / "again")
    shutil.rmtree(tmp_path / "again/checkpoints/step-00000005")
    resumed, again = run(tmp_path / "again", resume=True)
    assert all(torch.equal(straight[key], again[key]) for key in straight)
    assert resumed.drawn == result.drawn == batches(prepared).drawn(5)
    assert sum(one.examples for one in result.drawn.values()) == 40


def test_the_loss_of_each_corpus_is_that_of_its_own_held_out_text(prepared):
    model = seeded_model(CausalLM(), prepared.tokenizer.vocab_size, "tiny", 0, **SMALL)
    settings = (CausalLM(), model, prepared.tokenizer)
    result = train(*settings, prepared.text, prepared.heldout, CONFIG)
    names = prepared.heldout.names
    assert set(result.heldout.corpora) == {*names}
    counts = []
    for name, heldout, rows in zip(names, prepared.heldout.texts, (6, 2)):  # of 8, by their shares
        fixed = fixed_batches(heldout.blocks(16), CausalLM().collator(prepared.tokenizer.special), rows=rows)
        alone = evaluate(CausalLM(), model, fixed)
        assert result.heldout.corpora[name] == pytest.approx(alone.nats, abs=1e-6)
        counts.append(alone.count)
    mean = sum(count * nats for count, nats in zip(counts, result.heldout.corpora.values())) / sum(counts)
    assert result.heldout.nats == pytest.approx(mean)


def test_the_weights_are_part_of_what_a_run_is(prepared):
    text = prepared.text
    other = Mixture(text.names, text.texts, [6, 4])
    assert other.fingerprint != text.fingerprint == Mixture(text.names, text.texts, [0.7, 0.3]).fingerprint


def test_no_document_of_one_corpus_is_held_out_by_another(prepared):
    for corpus, text, heldout in zip((FEW, MANY), prepared.text.texts, prepared.heldout.texts):
        assert text.documents + heldout.documents == len(corpus)


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0, 1], "the weight of a must be positive and finite, got 0"),
        ([-1, 1], "the weight of a must be positive"),
        ([float("nan"), 1], "the weight of a must be positive"),
        (["x", 1], "the weight of a must be a number"),
        ([1, 1e9], "the share of a is 1e-09: expected at least 1 in 1,000"),
        ([1], "two texts or more"),
    ],
)
def test_weights_that_make_no_mixture(weights, message, prepared):
    with pytest.raises(InputError, match=message):
        Mixture(["a", "b"], prepared.text.texts, weights)


def test_a_corpus_that_fills_no_block_is_named(tokenizer):
    mixture = Mixture(["short", "long"], [pack(texts, tokenizer) for texts in (["a"], MANY)], [1, 1])
    with pytest.raises(InputError, match="the text of short has 2 tokens, which does not fill one block of 16"):
        mixture.blocks(16)


def test_texts_of_different_tokenizers_are_no_mixture(tokenizer):
    texts = [pack(FEW, one) for one in (tokenizer, train_bpe(FEW, vocab_size=400))]
    with pytest.raises(InputError, match="a, b were packed with different tokenizers"):
        Mixture(["a", "b"], texts, [1, 1])


# ------------------------------------------------------------------ the command line

FAST = ["--objective", "causal", "--steps", "4", "--length", "16", "--batch-size", "4", "--sample-every", "0"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "few.txt").write_text("\n".join(FEW))
    (tmp_path / "a=b").mkdir()
    (tmp_path / "a=b/many.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in MANY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_mixture_of_a_text_file_and_a_table_is_trained_on_and_resumed(folder, capsys):
    corpora = ["--corpus", "few.txt=0.7", "--corpus", "a=b=0.3"]
    flags = [*corpora, "--column", "body", "--vocab-size", "400", *FAST]
    assert main(["train", *flags, "--run", "run"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith(
        "mixture of 2 corpora, by share of the blocks that are trained on: 70.0% few.txt + 30.0%"
    )
    assert "corpus a=b: JSON files, column 'body', 700 rows" in told.err
    examples = Counter(line.split()[1] for line in told.err.splitlines() if line.startswith("few.txt: "))
    assert examples  # how often it is read, before it begins
    assert "nats by corpus: few.txt " in told.out
    assert "; trained on few.txt: " in told.out
    assert {*read_metrics(folder / "run/metrics.jsonl")[-1]["corpora"]} == {"few.txt", "a=b"}
    assert read_run(folder / "run")["description"]["command"]["corpus"] == ["few.txt=0.7", "a=b=0.3"]
    shutil.rmtree(folder / "run/checkpoints/step-00000004")
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert main(["train", "--run", "run", "--resume", *corpora[:3], "a=b=0.4"]) == 2
    assert "was begun with --corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("corpora", "flags", "message"),
    [
        ("few.txt=0.7 a=b", "", "--corpus a=b has no share: each of several corpora needs one, as in --corpus a=b=0.5"),
        ("few.txt=0.7 builtin", "", "--corpus builtin has no share"),
        ("few.txt=0.7", "", "--corpus few.txt=0.7 is the only one, so its share would have no effect"),
        ("few.txt=0.7 few.txt=0.3", "", "--corpus names few.txt twice"),
        ("few.txt=0.7 a=b=x", "", "--corpus a=b=x has no share"),
        ("few.txt=0.7 a=b=-1", "", "the weight of a=b must be positive"),
        ("few.txt=1 nowhere.txt=1", "", "no such corpus file or folder (nowhere.txt)"),
        ("few.txt=1 a=b=1", "--stream", "a mixture is not streamed: pack each corpus by clozelab pack"),
        ("few.txt=1 a=b=1", "--validation few.txt", "each corpus of a mixture holds out a part of its own"),
        ("few.txt=1 builtin=1", "--column x", "--column 'x' would have no effect"),
    ],
)
def test_corpora_that_make_no_mixture_are_refused_in_one_line(folder, capsys, corpora, flags, message):
    words = [word for corpus in corpora.split() for word in ("--corpus", corpus)]
    assert main(["train", *words, *flags.split(), *FAST, "--run", "run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"clozelab: {message}")


def test_packed_folders_are_mixed_with_their_tokenizer(folder, tokenizer, capsys):
    for name, texts in (("one", FEW), ("two", MANY)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        corpus = load_corpus(folder / f"{name}.jsonl", streaming=True)
        pack_shards(corpus.train, list(corpus.heldout), tokenizer, folder / name)
    made = prepare({folder / "one": 1, folder / "two": 1})
    assert made.tokenizer.fingerprint == tokenizer.fingerprint
    assert made.text.quotas == [500, 500]
    corpus = load_corpus(folder / "two.jsonl", streaming=True)
    pack_shards(corpus.train, list(corpus.heldout), train_bpe(MANY, vocab_size=400), folder / "other")
    with pytest.raises(InputError, match="one and other have different tokenizers"):
        prepare({folder / "one": 1, folder / "other": 1})
