"""Tiny models of Hugging Face without dropout, their weights drawn from a seed, and texts of several lengths."""

import os

import pytest
import torch

from clozelab import OBJECTIVES, SpecialIds

os.environ.setdefault("HF_HUB_OFFLINE", "1")
VOCABULARY = 120
ROLES = sorted({role for objective in OBJECTIVES.values() for role in objective.roles} - {"mask"})
WORDS = 90 - len(ROLES)


def gpt2(transformers, vocab_size):
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    none = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=vocab_size, **shape, **none, **ids))


def bert(transformers, vocab_size):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    none = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "max_position_embeddings": 64}
    return transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=vocab_size, **shape, **none))


def t5(transformers, vocab_size):
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=vocab_size, dropout_rate=0, decoder_start_token_id=0, **shape)
    return transformers.T5ForConditionalGeneration(config)


BY_ARCHITECTURE = {"decoder-only": gpt2, "encoder-only": bert, "encoder-decoder": t5}


def special_ids():
    """Ids from 3 on are text; then the roles of all objectives, and thirty sentinels from the last id down."""
    roles = {role: WORDS + n for n, role in enumerate(ROLES)}
    tables = {"starts_word": torch.arange(VOCABULARY) % 2 == 0, "ends_sentence": torch.arange(VOCABULARY) % 7 == 0}
    return SpecialIds(VOCABULARY, pad=0, eos=1, mask=2, sentinels=range(119, 89, -1), roles=roles, **tables)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """The Trainer makes its folder where it is."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(name="special")
def _special():
    return special_ids()


@pytest.fixture
def rows():
    """Eight rows of 6 to 48 tokens, so that each has another number of loss positions."""
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(3, WORDS, (6 * k,), generator=generator)} for k in range(1, 9)]


@pytest.fixture
def make():
    """make(name, theirs=True): (objective, model) in double precision, from a seed."""

    def make(name, *, theirs=True, vocab_size=VOCABULARY):
        objective = OBJECTIVES[name]()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if theirs:
                transformers = pytest.importorskip("transformers")
                model = BY_ARCHITECTURE[objective.architecture](transformers, vocab_size)
            else:
                model = objective.build_model(vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
            for parameter in model.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        return objective, model.double()

    return make
