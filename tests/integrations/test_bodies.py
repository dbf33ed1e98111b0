"""Bodies of `transformers` from their configurations: each objective of their architecture fits, or is refused by name.

What fits has the loss that is computed by hand; the rest reads in an order that these models cannot, or has a head.
"""

import pytest
import torch

transformers = pytest.importorskip("transformers")

from clozelab.errors import InputError  # noqa: E402
from clozelab.objectives import OBJECTIVES  # noqa: E402

from .by_hand import by_hand  # noqa: E402
from .conftest import VOCABULARY  # noqa: E402

IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def llama():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=1, **SHAPE, **IDS))


def modern_bert():
    """One block with attention to all, one with a window, as in the published models."""
    none = {"cls_token_id": 1, "sep_token_id": 1, "global_attn_every_n_layers": 2, "local_attention": 128}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**none, **SHAPE, **IDS))


def t5_gated():
    """T5 1.1: gated feed-forward layers, and tables that are not shared."""
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "dropout_rate": 0}
    kind = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "decoder_start_token_id": 0}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**kind, **shape, **IDS))


BODIES = {"decoder-only": llama, "encoder-only": modern_bert, "encoder-decoder": t5_gated}
FIT = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is None]
REFUSED = [name for name in OBJECTIVES if name not in FIT]


def body(objective):
    """A body of its architecture in double precision, of which every weight matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BODIES[objective.architecture]()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return model.double().eval()


@pytest.mark.parametrize("name", FIT)
def test_the_loss_is_the_one_computed_by_hand(name, special, rows):
    objective = OBJECTIVES[name]()
    model, batch = body(objective), objective.collator(special)(rows)
    logits = model(**objective.model_inputs(model, batch)).logits
    loss, expected = objective(model, batch).mean, by_hand(objective, logits, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, theirs = (
        torch.autograd.grad(value, list(model.parameters()), allow_unused=True) for value in (loss, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", REFUSED)
def test_an_objective_that_such_a_body_cannot_serve_is_refused(name, special, rows):
    """It names what would be ignored: a key of the batch, or an output that is missing."""
    objective = OBJECTIVES[name]()
    model, batch = body(objective), objective.collator(special)(rows)
    with pytest.raises(InputError, match="|".join([type(model).__name__, *objective.targets(batch)])):
        objective(model, batch)
