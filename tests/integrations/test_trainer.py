"""Our collator and our objective in the Trainer of Hugging Face, with GPT-2, BERT and T5."""

import os

import pytest
import torch

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from accelerate.data_loader import prepare_data_loader  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import Trainer, TrainingArguments  # noqa: E402

from clozelab.data import load_tokenizer, pack, train_bpe  # noqa: E402
from clozelab.data.noise import hash_tokens  # noqa: E402
from clozelab.integrations.trainer import EpochCallback, trainer_loss  # noqa: E402
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption  # noqa: E402

LENGTH = 32
OBJECTIVES = {"causal": CausalLM(), "masked": MaskedLM(), "span": SpanCorruption()}
WORDS = ["the cat", "a dog", "my friend", "sat on", "ran to", "looked at", "the mat", "the tree", "a house"]


def make(name, vocab_size):
    """A tiny model of theirs without dropout, its weights drawn from a seed."""
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if name == "causal":
            none = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
            shape = {"vocab_size": vocab_size, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
            return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **none, **ids))
        if name == "masked":
            none = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0}
            shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
            return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=vocab_size, **shape, **none, **ids))
        shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        config = transformers.T5Config(vocab_size=vocab_size, dropout_rate=0, **shape, **ids)
        return transformers.T5ForConditionalGeneration(config)


@pytest.fixture(scope="module")
def blocks(tokenizer, tmp_path_factory):
    """24 blocks of LENGTH tokens, no two alike."""
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(len(WORDS), (60, 9), generator=generator).tolist()
    texts = [" ".join(WORDS[word] for word in row) + "." for row in picks]
    packed = pack(texts, tokenizer, cache_dir=tmp_path_factory.mktemp("cache"))
    found = packed.blocks(min(LENGTH, len(packed) // 24))
    assert found.length == LENGTH
    return torch.utils.data.Subset(found, range(24)), found


def arguments(folder, **settings):
    """On the CPU, nothing saved, nothing reported."""
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "use_cpu": True,
            "report_to": [],
            "save_strategy": "no",
            "disable_tqdm": True,
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
            "num_train_epochs": 2,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "dataloader_pin_memory": False,
            **settings,
        }
    )


def watched(model):
    """The batches that a model reads from now on, as they come."""
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, batch: seen.append({k: v.clone() for k, v in batch.items() if torch.is_tensor(v)}),
        with_kwargs=True,
    )
    return seen


def trained(name, special, dataset, folder, recipe=True, collate=None, loss=False, **settings):
    """The model, what it read, and the Trainer's log, after a few steps."""
    objective = OBJECTIVES[name]
    model = make(name, special.vocab_size)
    seen = watched(model)
    collate = objective.collator(special) if collate is None else collate
    trainer = Trainer(
        model=model,
        args=arguments(folder, **settings),
        train_dataset=dataset,
        data_collator=collate,
        callbacks=[EpochCallback(collate)] if recipe else [],
        compute_loss_func=trainer_loss(objective) if loss else None,
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    return model, seen, steps


def by_row(batches):
    """What was read as a set of rows: the Trainer shuffles."""
    return sorted(tuple(row) for batch in batches for row in batch["input_ids"].tolist())


def expected(objective, special, tokens, epoch, example_ids=None):
    """The rows that our collator makes of blocks in an epoch, without any Trainer."""
    example_ids = [hash_tokens(row) for row in tokens] if example_ids is None else example_ids
    return by_row([objective.collator(special).block(tokens, example_ids, epoch=epoch)])


# --------------------------------------------------------------------------------------------------- it trains


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("loss", ["theirs", "ours"])
def test_each_model_learns_from_our_collator(name, loss, blocks, tokenizer, tmp_path):
    subset, _ = blocks
    _, _, steps = trained(name, tokenizer.special, subset, tmp_path, loss=loss == "ours", num_train_epochs=6)
    losses = [step["loss"] for step in steps]
    assert len(losses) == 18
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


# -------------------------------------------------------------------------------------------------- fresh masks


@pytest.mark.parametrize("name", ["masked", "span"])
@pytest.mark.parametrize("workers", [0, 2])
def test_with_the_callback_every_epoch_brings_other_masks(name, workers, blocks, tokenizer, tmp_path):
    """And they are the masks of `collate.block(..., epoch=e)`, whoever fetched them."""
    _, whole = blocks
    persistent = {"dataloader_num_workers": workers, "dataloader_persistent_workers": workers > 0}
    _, seen, _ = trained(name, tokenizer.special, whole, tmp_path, **persistent)
    tokens, half = whole.take(range(len(whole))), len(seen) // 2
    epochs = [by_row(seen[:half]), by_row(seen[half:])]
    assert epochs[0] != epochs[1]
    for e in (0, 1):
        assert epochs[e] == expected(OBJECTIVES[name], tokenizer.special, tokens, e)


def test_a_dataset_of_lists_gets_the_same_masks(blocks, tokenizer, tmp_path):
    datasets = pytest.importorskip("datasets")
    _, whole = blocks
    tokens = whole.take(range(len(whole)))
    table = datasets.Dataset.from_dict({"input_ids": tokens.tolist(), "note": ["x"] * len(tokens)})
    _, seen, _ = trained("masked", tokenizer.special, table, tmp_path, dataloader_num_workers=2)
    half = len(seen) // 2
    for e, batches in enumerate((seen[:half], seen[half:])):
        assert by_row(batches) == expected(OBJECTIVES["masked"], tokenizer.special, tokens, e)


def test_without_the_callback_the_masks_are_frozen(blocks, tokenizer, tmp_path):
    """Why the recipe is needed: `set_epoch` reaches the blocks, but the Trainer takes their `epoch` away."""
    _, whole = blocks
    _, seen, _ = trained("masked", tokenizer.special, whole, tmp_path, recipe=False)
    half = len(seen) // 2
    assert by_row(seen[:half]) == by_row(seen[half:])


def test_on_one_process_keeping_the_columns_is_enough(blocks, tokenizer, tmp_path):
    """With `remove_unused_columns=False` each block brings its identity and its epoch, and needs no callback.

    On several processes `accelerate` tells the sampler the epoch and not the dataset, and workers that stay
    (`dataloader_persistent_workers`) keep the copy of the dataset that they began with: there it does need one.
    """
    _, whole = blocks
    tokens, objective = whole.take(range(len(whole))), OBJECTIVES["masked"]
    for workers in (0, 2):
        settings = {"remove_unused_columns": False, "dataloader_num_workers": workers}
        _, seen, _ = trained("masked", tokenizer.special, whole, tmp_path, recipe=False, **settings)
        half = len(seen) // 2
        for e, batches in enumerate((seen[:half], seen[half:])):
            assert by_row(batches) == expected(objective, tokenizer.special, tokens, e, range(len(whole)))


def test_on_two_processes_the_callback_still_serves(blocks, tokenizer):
    """Each process gets its half of the rows, and together they are the rows of one process, in every epoch."""
    _, whole = blocks
    tokens, objective = whole.take(range(len(whole))), OBJECTIVES["masked"]
    rows = [{"input_ids": row} for row in tokens[:24]]
    for e in (0, 1):
        together = []
        for process in (0, 1):
            collate = objective.collator(tokenizer.special)
            loader = prepare_data_loader(
                DataLoader(rows, batch_size=4, shuffle=True, collate_fn=collate),
                num_processes=2,
                process_index=process,
                put_on_device=False,
                use_seedable_sampler=True,
                data_seed=0,
            )
            loader.set_epoch(e)
            collate.set_epoch(e)
            together += list(loader)
        assert by_row(together) == expected(objective, tokenizer.special, tokens[:24], e)


# ------------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("name", OBJECTIVES)
def test_eight_batches_of_one_have_the_gradient_of_one_batch_of_eight(name, tokenizer, tmp_path):
    """With our loss; what their own makes of it is printed (transformers 5.23: BERT and T5 eight times too large)."""
    rows = [
        {"input_ids": torch.randint(3, 300, (6 * k,), generator=torch.Generator().manual_seed(k)).tolist()}
        for k in range(1, 9)
    ]

    def norms(loss):
        found = []
        for size in (8, 1):
            accumulate = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
            settings = {**accumulate, "max_steps": 1, "max_grad_norm": 1e9}
            [step] = trained(name, tokenizer.special, rows, tmp_path, loss=loss, **settings)[2]
            found.append((step["grad_norm"], step["loss"]))
        return found

    ours, theirs = norms(loss=True), norms(loss=False)
    for who, ((norm, loss), (norm_in_parts, loss_in_parts)) in (("ours", ours), ("theirs", theirs)):
        print(
            f"{name:6} {who:6} gradient norm {norm:.4f} -> {norm_in_parts:.4f} (x{norm_in_parts / norm:.4f}), "
            f"loss {loss:.4f} -> {loss_in_parts:.4f}"
        )
    assert ours[1][0] == pytest.approx(ours[0][0], rel=1e-5)
    assert ours[1][1] == pytest.approx(ours[0][1], rel=1e-4)  # the Trainer's log is rounded
    assert ours[0][0] == pytest.approx(theirs[0][0], rel=1e-5)  # at once, we agree


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_exported_model_trains_in_their_trainer_by_itself(name, tokenizer, tmp_path):
    """Its own `.loss` is the mean over all that a step pays for, in one batch or in eight."""
    from clozelab.integrations.export import export

    objective, special = OBJECTIVES[name], tokenizer.special
    openers = {
        "causal": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "span": transformers.AutoModelForSeq2SeqLM,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = objective.build_model(special.vocab_size, "tiny", d_model=32, n_layers=2, n_heads=2)
    folder = export(ours, tmp_path / "model", tokenizer)
    rows = [{"input_ids": torch.arange(3, 3 + 9 * k).tolist()} for k in range(1, 9)]
    norms = []
    for size in (8, 1):
        accumulate = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
        trainer = Trainer(
            model=openers[name].from_pretrained(folder),
            args=arguments(tmp_path, **accumulate, max_steps=1, max_grad_norm=1e9),
            train_dataset=rows,
            data_collator=objective.collator(special),
        )
        trainer.train()
        norms += [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


# --------------------------------------------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("sentinels", [0, 4])
def test_their_tokenizer_feeds_our_collator(sentinels, tokenizer, tmp_path):
    """With sentinels of its own they keep their ids; without, they are added behind the ids that exist."""
    base = train_bpe(["a cat sat on the mat"] * 2, vocab_size=400, sentinels=sentinels)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=base.backend, pad_token="<pad>", eos_token="</s>", mask_token="<mask>"
    )
    ours = load_tokenizer(fast, sentinels=8)
    assert len(ours.special.sentinels) == 8
    assert ours.special.sentinels[:sentinels] == base.special.sentinels
    rows = [{"input_ids": fast(text)["input_ids"]} for text in ("a cat sat on the mat", "the mat sat on a cat") * 4]
    _, _, steps = trained("span", ours.special, rows, tmp_path, num_train_epochs=1)
    assert steps[0]["loss"] > 0
