"""A trained model in a folder that `transformers` opens: the same logits, the same ids, and what it can do there."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

pytest.importorskip("transformers")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
)

from clozelab.errors import InputError
from clozelab.generation import fill_spans, generate
from clozelab.integrations.export import export
from clozelab.models import build
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM, SpanCorruption

OPENERS = {
    "decoder-only": AutoModelForCausalLM,
    "encoder-only": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
}
CLASSES = {
    "decoder-only": "Qwen3ForCausalLM",
    "encoder-only": "ClozelabForMaskedLM",
    "encoder-decoder": "ClozelabForSeq2SeqLM",
}
BY_ARCHITECTURE = {"decoder-only": CausalLM(), "encoder-only": MaskedLM(), "encoder-decoder": SpanCorruption()}
EXPORTED = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is None]
TOLERANCE = 1e-4
SHAPE = {"d_model": 48, "n_layers": 3, "n_heads": 3}


def randomised(architecture, vocab_size=500, seed=0, **overrides):
    """A model of which every weight matters: fresh ones begin as the identity and would match anything."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(architecture, "tiny", vocab_size, **{**SHAPE, **overrides})
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def texts(vocab_size, shape, seed):
    return torch.randint(3, vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def inputs_of(architecture, vocab_size=500, padding=None):
    """A batch of 4, with the padding of some rows "left", "right" or none."""
    batch = {"input_ids": texts(vocab_size, (4, 23), 1)}
    if padding is not None:
        mask = torch.ones(4, 23, dtype=torch.long)
        for row, pads in enumerate((0, 1, 7, 20)):
            where = slice(0, pads) if padding == "left" else slice(23 - pads, 23)
            mask[row, where] = 0
        batch["attention_mask"] = mask
    if architecture == "encoder-decoder":
        batch["decoder_input_ids"] = texts(vocab_size, (4, 9), 2)
    return batch


def ours(model, batch):
    return model.unembed(model(**batch))


def token_positions(batch):
    """Where there is text: the outputs at pads are read by nothing."""
    if "decoder_input_ids" in batch or "attention_mask" not in batch:
        return ...
    return batch["attention_mask"].bool()


@pytest.mark.parametrize("architecture", OPENERS)
@pytest.mark.parametrize("padding", [None, "right", "left"])
@pytest.mark.parametrize("tied", [True, False])
@torch.no_grad()
def test_logits_are_the_same_after_the_journey(architecture, padding, tied, tmp_path):
    model = randomised(architecture, tied=tied)
    theirs = (
        OPENERS[architecture].from_pretrained(export(BY_ARCHITECTURE[architecture], model, tmp_path / "out")).eval()
    )
    batch = inputs_of(architecture, padding=padding)
    here, there = ours(model, batch), theirs(**batch).logits
    assert here.std() > 1  # a constant would match too
    places = token_positions(batch)
    difference = (here[places] - there[places]).abs().max()
    assert difference <= TOLERANCE, difference


@torch.no_grad()
def test_logits_are_the_same_for_every_setting_of_the_shape(tmp_path):
    overrides = {"rotary_base": 500.0, "norm_eps": 1e-2, "d_ff": 40, "n_heads": 2, "d_model": 32}
    for architecture, opener in OPENERS.items():
        more = {"n_decoder_layers": 1} if architecture == "encoder-decoder" else {}
        model = randomised(architecture, **overrides, **more)
        theirs = opener.from_pretrained(export(BY_ARCHITECTURE[architecture], model, tmp_path / architecture)).eval()
        batch = inputs_of(architecture, padding="right")
        places = token_positions(batch)
        assert (ours(model, batch)[places] - theirs(**batch).logits[places]).abs().max() <= TOLERANCE


def test_the_folder_holds_weights_and_json_and_no_code(tmp_path, tokenizer):
    for architecture in OPENERS:
        folder = export(BY_ARCHITECTURE[architecture], randomised(architecture), tmp_path / architecture, tokenizer)
        names = {path.name for path in folder.iterdir()}
        assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
        assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
        assert "auto_map" not in json.loads((folder / "config.json").read_text())
        assert folder.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert {path.name for path in tmp_path.iterdir()} == set(OPENERS)  # nothing left beside them


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_decoder_opens_where_clozelab_is_not_imported(tmp_path, tokenizer):
    folder = export(CausalLM(), randomised("decoder-only"), tmp_path / "out", tokenizer)
    code = (
        f"import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; path = {str(folder)!r};"
        "m = AutoModelForCausalLM.from_pretrained(path); t = AutoTokenizer.from_pretrained(path);"
        "print(type(m).__name__, len(t), 'clozelab' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["Qwen3ForCausalLM", str(tokenizer.vocab_size), "False"]


def test_a_decoder_generates_what_ours_generates(tmp_path, tokenizer):
    model = randomised("decoder-only")
    theirs = AutoModelForCausalLM.from_pretrained(export(CausalLM(), model, tmp_path / "out", tokenizer)).eval()
    prompt = texts(500, (2, 5), 3)
    expected = generate(model, prompt, max_new_tokens=12, eos=tokenizer.special.eos, greedy=True)
    for cached in (True, False):
        generated = theirs.generate(prompt, max_new_tokens=12, do_sample=False, use_cache=cached)
        assert torch.equal(generated, expected[:, : generated.shape[1]])
        assert generated.shape[1] > 6


def test_an_encoder_decoder_generates_what_ours_generates(tmp_path, tokenizer):
    special = tokenizer.special
    model = randomised("encoder-decoder")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(export(SpanCorruption(), model, tmp_path / "out", tokenizer)).eval()
    batch = inputs_of("encoder-decoder", padding="right")
    text = {key: batch[key] for key in ("input_ids", "attention_mask")}
    expected = fill_spans(model, **text, start_id=special.pad, eos=special.eos, max_new_tokens=12, greedy=True)
    generated = theirs.generate(**text, max_new_tokens=12, do_sample=False)
    assert generated[:, 0].eq(special.pad).all()  # theirs begins with the start id
    ended = generated[:, 1:] == special.pad
    assert torch.equal(
        generated[:, 1:].masked_fill(ended, -1), expected[:, : generated.shape[1] - 1].masked_fill(ended, -1)
    )
    beams = theirs.generate(**text, max_new_tokens=6, num_beams=3, do_sample=False)
    assert beams.shape == (4, 7)


@pytest.mark.parametrize("name", EXPORTED)
@torch.no_grad()
def test_an_exported_model_has_the_loss_of_the_objective(name, tmp_path, tokenizer):
    objective = OBJECTIVES[name]()
    special = with_roles(tokenizer.special, objective)
    model = randomised(objective.architecture, vocab_size=special.vocab_size)
    theirs = OPENERS[objective.architecture].from_pretrained(export(objective, model, tmp_path / "out")).eval()
    batch = objective.collator(special).block(texts(370, (4, 40), 5), example_ids=range(4))
    here = objective(model, batch)
    assert objective(theirs, batch).mean.item() == pytest.approx(here.mean.item(), rel=1e-5)


def with_roles(special, objective):
    """The same ids, and the roles of the objective behind them."""
    missing = [role for role in objective.roles if role not in ("mask", *special.roles)]
    roles = {**special.roles, **{role: special.vocab_size + k for k, role in enumerate(missing)}}
    vocab_size = special.vocab_size + len(missing)
    tables = {"starts_word": torch.arange(vocab_size) % 2 == 0, "ends_sentence": torch.arange(vocab_size) % 7 == 0}
    return replace(special, vocab_size=vocab_size, roles=roles, **tables)


@pytest.mark.parametrize("architecture", OPENERS)
@torch.no_grad()
def test_the_loss_that_an_exported_model_computes_itself_is_a_mean_over_loss_positions(
    architecture, tmp_path, tokenizer
):
    """Of a batch, or of the whole step where the Trainer gives `num_items_in_batch`."""
    objective, model = BY_ARCHITECTURE[architecture], randomised(architecture)
    theirs = OPENERS[architecture].from_pretrained(export(objective, model, tmp_path / "out", tokenizer)).eval()
    batch = objective.collator(tokenizer.special).block(texts(370, (4, 40), 5), example_ids=range(4))
    here = objective(model, batch)
    assert torch.allclose(theirs(**batch).loss, here.mean, rtol=1e-5)
    whole = theirs(**batch, num_items_in_batch=10 * here.count).loss
    assert torch.allclose(whole, here.mean / 10, rtol=1e-5)
    if architecture == "encoder-decoder":  # labels alone are enough
        del batch["decoder_input_ids"]
        assert torch.allclose(theirs(**batch).loss, here.mean, rtol=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_goes_to_hugging_face_or_is_refused_by_name_with_the_reason(name, tmp_path):
    objective = OBJECTIVES[name]()
    model = randomised(objective.architecture)
    if objective.export_refusal is None:
        opened = OPENERS[objective.architecture].from_pretrained(export(objective, model, tmp_path / "out"))
        assert type(opened).__name__ == CLASSES[objective.architecture]
    else:
        with pytest.raises(InputError, match=f"the {name} objective cannot be exported: .*") as refused:
            export(objective, model, tmp_path / "out")
        assert objective.export_refusal in str(refused.value)
        assert not (tmp_path / "out").exists()


COMMANDS = {
    name: command[1]
    for name, objective in OBJECTIVES.items()
    if (command := re.search(r"clozelab\.integrations\.export\.(export\(.*\))", objective.export_refusal or ""))
}
"""What the refusals of some objectives advise instead."""


def test_some_refusals_name_the_call_that_exports_a_part():
    assert COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_part_that_a_refusal_names_can_be_exported(name, tmp_path):
    model = OBJECTIVES[name]().build_model(100, "tiny", d_model=16, n_layers=1, n_heads=1)
    names = {"export": export, "CausalLM": CausalLM, "MaskedLM": MaskedLM, "model": model, "folder": tmp_path / "out"}
    assert (eval(COMMANDS[name], names) / "config.json").exists()


def test_the_start_of_the_decoder_is_the_role_of_the_vocabulary(tmp_path, tokenizer):
    """pad by default, as in T5; bos or eos where the vocabulary names one."""
    for roles, start in (
        ({}, tokenizer.special.pad),
        ({"decoder_start": tokenizer.special.eos}, tokenizer.special.eos),
    ):
        special = replace(tokenizer.special, roles={**tokenizer.special.roles, **roles})
        other = type(tokenizer)(tokenizer.backend, special)
        folder = export(SpanCorruption(), randomised("encoder-decoder"), tmp_path / str(start), other)
        assert AutoConfig.from_pretrained(folder).decoder_start_token_id == start


def test_an_exported_encoder_can_be_saved_and_opened_again(tmp_path):
    for architecture in ("encoder-only", "encoder-decoder"):
        model = randomised(architecture)
        opened = OPENERS[architecture].from_pretrained(
            export(BY_ARCHITECTURE[architecture], model, tmp_path / architecture)
        )
        opened.save_pretrained(tmp_path / f"{architecture}-again")
        again = OPENERS[architecture].from_pretrained(tmp_path / f"{architecture}-again")
        for name, weight in model.state_dict().items():
            assert torch.equal(weight, again.model.state_dict()[name])


def test_a_fresh_wrapper_starts_as_our_models_do(tmp_path):
    """Every block starts as the identity: `transformers` must not draw its own weights over it."""
    config = AutoConfig.from_pretrained(export(MaskedLM(), randomised("encoder-only"), tmp_path / "out"))
    fresh = AutoModelForMaskedLM.from_config(config)
    assert all(block.attention.output.weight.eq(0).all() for block in fresh.model.blocks)


def test_export_changes_neither_the_model_nor_chance(tmp_path, tokenizer):
    for architecture in OPENERS:
        model = randomised(architecture).train()
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        state, spelled = torch.get_rng_state(), tokenizer.backend.to_str()
        export(BY_ARCHITECTURE[architecture], model, tmp_path / architecture, tokenizer)
        assert torch.equal(torch.get_rng_state(), state)
        assert tokenizer.backend.to_str() == spelled
        assert tokenizer.backend.encode_special_tokens
        assert model.training
        assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_half_precision_stays_half_precision(tmp_path):
    for architecture, opener in OPENERS.items():
        folder = export(BY_ARCHITECTURE[architecture], randomised(architecture).bfloat16(), tmp_path / architecture)
        assert opener.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16


def test_what_is_there_is_never_destroyed(tmp_path):
    model = randomised("decoder-only")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years of work")
    file = tmp_path / "file"
    file.write_text("more")
    for taken in (full, file):
        with pytest.raises(InputError, match="not an empty folder"):
            export(CausalLM(), model, taken)
    assert (full / "thesis.txt").read_text() == "years of work"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert (export(CausalLM(), model, empty) / "config.json").is_file()
    assert (export(CausalLM(), model, tmp_path / "new" / "folder") / "config.json").is_file()


def test_a_failure_leaves_nothing_behind(tmp_path, tokenizer, monkeypatch):
    from clozelab.integrations import export as module

    def full_disk(_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(module, "_transformers_tokenizer", full_disk)
    with pytest.raises(OSError, match="no space"):
        export(MaskedLM(), randomised("encoder-only"), tmp_path / "out", tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(tmp_path, tokenizer):
    with pytest.raises(InputError, match="causal needs a model that is decoder-only, got one that is encoder-only"):
        export(CausalLM(), randomised("encoder-only"), tmp_path / "out")
    with pytest.raises(InputError, match="got Linear"):
        export(CausalLM(), torch.nn.Linear(2, 2), tmp_path / "out")
    with pytest.raises(InputError, match="ids, the model 20"):
        export(CausalLM(), randomised("decoder-only", vocab_size=20), tmp_path / "out", tokenizer)
    model = AutoModelForMaskedLM.from_pretrained(export(MaskedLM(), randomised("encoder-only"), tmp_path / "out"))
    with pytest.raises(InputError, match="does not grow"):
        model.resize_token_embeddings(600)
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())
