"""Three arrangements of one block: what each can attend to, and what each cannot."""

import math

import pytest
import torch
import torch.nn.functional as F

from clozelab.errors import InputError
from clozelab.models import (
    ARCHITECTURES,
    PRESETS,
    DecoderOnly,
    EncoderDecoder,
    EncoderOnly,
    ModelConfig,
    build,
    causal_mask,
    model_config,
)

from .cases import CONFIG, IDS, TARGETS, V, changed, random_weights


@pytest.fixture(params=["decoder-only", "encoder-only", "encoder-decoder"])
def architecture(request) -> str:
    return request.param


def run(model, ids=IDS, targets=TARGETS, **flags):
    """Hidden states of any of the three."""
    if isinstance(model, EncoderDecoder):
        return model(ids, targets, **flags)
    return model(ids, **flags)


# ------------------------------------------------------------------ who attends to whom


def test_a_decoder_never_attends_to_what_comes_later():
    model = random_weights(DecoderOnly(CONFIG))
    for t in range(8):
        other = IDS.clone()
        other[:, t] = 50
        assert changed(model, IDS, other).tolist() == [s >= t for s in range(8)]


def test_an_encoder_attends_to_both_sides():
    model = random_weights(EncoderOnly(CONFIG))
    other = IDS.clone()
    other[:, 7] = 50
    assert changed(model, IDS, other).all()


def test_an_encoder_decoder_predicts_from_the_left_and_attends_to_all_of_the_text():
    model = random_weights(EncoderDecoder(CONFIG))
    for t in range(5):
        other = TARGETS.clone()
        other[:, t] = 50
        assert (model(IDS, TARGETS) != model(IDS, other)).any(-1).any(0).tolist() == [s >= t for s in range(5)]
    other = IDS.clone()
    other[:, 7] = 50
    assert (model(IDS, TARGETS) != model(other, TARGETS)).any(-1).all()


@pytest.mark.parametrize("flags", [{}, {"attention_mask": torch.tensor([[1] * 6 + [0] * 2, [0] + [1] * 7])}])
@pytest.mark.parametrize("made", [DecoderOnly, EncoderOnly])
def test_the_attention_matrix_is_what_gradients_find(made, flags):
    model = random_weights(made(ModelConfig(vocab_size=V, d_model=32, n_layers=1)))
    declared = model.attention_matrix(IDS, **flags)
    embedded: list[torch.Tensor] = []
    model.embedding.register_forward_hook(lambda module, ids, out: embedded.append(out))
    for t in range(8):
        embedded.clear()
        out = model(IDS, **flags)
        (gradient,) = torch.autograd.grad(out[:, t].square().sum() + out[:, t, 0].sum(), embedded[0])
        found = gradient.abs().sum(-1) > 0
        found[:, t] = declared[:, t, t]  # the residual stream always carries a token to its own place
        assert torch.equal(found, declared[:, t])


def test_the_encoder_decoder_declares_three_matrices():
    seen = EncoderDecoder(CONFIG).attention_matrix(IDS, TARGETS, attention_mask=torch.tensor([[1] * 8, [1] * 7 + [0]]))
    assert torch.equal(seen["decoder"], causal_mask(5).expand(2, 5, 5))
    assert seen["encoder"].shape == (2, 8, 8)
    assert seen["cross"].shape == (2, 5, 8)
    for name in ("encoder", "cross"):
        assert seen[name][0].all()
        assert not seen[name][1, :, 7].any()
        assert seen[name][1, :, :7].all()


# ------------------------------------------------------------------ padding and packing


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(architecture, side):
    model = random_weights(build(architecture, "tiny", V, d_model=32, n_layers=2))
    places = slice(0, 5) if side == "right" else slice(3, 8)
    padded, attention_mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    padded[0], attention_mask[0] = IDS[0], 1
    padded[1, places], attention_mask[1, places] = IDS[1, :5], 1
    together = run(model, padded, attention_mask=attention_mask)
    if architecture == "encoder-decoder":
        alone = model(IDS[1:, :5], TARGETS[1:])
        assert torch.allclose(together[1:], alone, atol=1e-5)
    else:
        assert torch.allclose(together[1:, places], model(IDS[1:, :5]), atol=1e-5)
    padded[1][attention_mask[1] == 0] = 50  # whatever stands in a pad
    again = run(model, padded, attention_mask=attention_mask)
    real = attention_mask.bool() if architecture != "encoder-decoder" else torch.ones_like(TARGETS).bool()
    assert torch.equal(together[real], again[real])


def test_padding_of_the_decoder_changes_nothing():
    model = random_weights(EncoderDecoder(CONFIG))
    decoder_attention_mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    padded = torch.cat((TARGETS[:1], torch.cat((torch.zeros(1, 2).long(), TARGETS[1:, :3]), 1)))
    together = model(IDS, padded, decoder_attention_mask=decoder_attention_mask)
    assert torch.allclose(together[1, 2:], model(IDS[1:], TARGETS[1:, :3])[0], atol=1e-5)


@pytest.mark.parametrize("made", [DecoderOnly, EncoderOnly])
def test_packed_documents_are_computed_as_if_alone(made):
    model = random_weights(made(CONFIG))
    packed = torch.cat((IDS[:1, :3], IDS[1:, :5]), 1)  # (1, 8): two documents in a row
    together = model(packed, document_ids=torch.tensor([[1, 1, 1, 2, 2, 2, 2, 2]]))
    assert torch.allclose(together[:, :3], model(IDS[:1, :3]), atol=1e-5)
    assert torch.allclose(together[:, 3:], model(IDS[1:, :5]), atol=1e-5)


def test_packed_documents_of_an_encoder_decoder_are_computed_as_if_alone():
    model = random_weights(EncoderDecoder(CONFIG))
    together = model(
        torch.cat((IDS[:1, :3], IDS[1:, :5]), 1),
        torch.cat((TARGETS[:1, :4], TARGETS[1:, :2]), 1),
        document_ids=torch.tensor([[1, 1, 1, 2, 2, 2, 2, 2]]),
        decoder_document_ids=torch.tensor([[1, 1, 1, 1, 2, 2]]),
    )
    assert torch.allclose(together[:, :4], model(IDS[:1, :3], TARGETS[:1, :4]), atol=1e-5)
    assert torch.allclose(together[:, 4:], model(IDS[1:, :5], TARGETS[1:, :2]), atol=1e-5)


# ------------------------------------------------------------------ the two ends


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("d_model", [128, 512])
def test_the_first_loss_is_that_of_a_uniform_guess(architecture, tied, d_model):
    torch.manual_seed(0)
    overrides = {"n_decoder_layers": 1} if architecture == "encoder-decoder" else {}
    for vocab_size in (65, 4096):
        model = build(architecture, "tiny", vocab_size, d_model=d_model, n_layers=1, tied=tied, **overrides)
        ids, targets, labels = torch.randint(vocab_size, (3, 8, 64))
        loss = F.cross_entropy(model.unembed(run(model, ids, targets)).flatten(0, 1), labels.flatten())
        assert loss.item() == pytest.approx(math.log(vocab_size), rel=0.02)


def test_with_a_zero_table_every_token_is_as_likely(architecture):
    model = random_weights(build(architecture, "tiny", V, d_model=32, tied=False))
    torch.nn.init.zeros_(model.unembedding)
    log_probabilities = model.unembed(run(model)).log_softmax(-1)
    assert torch.allclose(log_probabilities, torch.full_like(log_probabilities, -math.log(V)))


def test_a_tied_table_embeds_and_unembeds(architecture):
    tied, untied = (build(architecture, "tiny", V, tied=tied) for tied in (True, False))
    assert tied.unembedding is tied.embedding.weight
    assert untied.unembedding is not untied.embedding.weight
    assert untied.parameter_count() - tied.parameter_count() == V * 128
    assert untied.parameter_count(vocabulary=False) == tied.parameter_count(vocabulary=False)
    for model in (tied, untied):
        assert isinstance(model.unembedding, torch.nn.Parameter)
        assert model.unembed(torch.randn(2, 3, 128)).shape == (2, 3, V)


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_saved_and_loaded(architecture, tied):
    model = random_weights(build(architecture, "tiny", V, d_model=32, tied=tied))
    copy = ARCHITECTURES[model.architecture](model.config).eval()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(run(copy), run(model))
    assert len({id(weight) for weight in model.state_dict().values()}) == len(model.state_dict())


def test_a_model_memorises_a_row(architecture):
    torch.manual_seed(0)
    model = build(architecture, "tiny", V, d_model=32, n_layers=2)
    labels = torch.arange(30, 40).view(2, 5) if architecture == "encoder-decoder" else IDS.flip(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = F.cross_entropy(model.unembed(run(model)).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_model_runs_under_autocast(architecture):
    model = random_weights(build(architecture, "tiny", V, d_model=32))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = run(model)
    hidden.sum().backward()
    assert torch.allclose(hidden.float(), run(model), atol=0.3)


# ------------------------------------------------------------------ sizes

PUBLISHED = {  # parameters without tables over tokens and positions, and without BERT's pooler
    "decoder-only": 124_439_808 - 50_257 * 768 - 1024 * 768,  # GPT-2 small
    "encoder-only": 109_482_240 - 30_522 * 768 - 512 * 768 - 2 * 768 - 2 * 768 - (768 * 768 + 768),  # BERT-base
    "encoder-decoder": 222_903_552 - 32_128 * 768,  # T5-base
}


def test_base_is_as_large_as_what_was_published(architecture):
    with torch.device("meta"):
        model = build(architecture, "base", vocab_size=32_000)
    # biases and the gains of norms, which ours do without, are 0.02% to 0.15% of the published
    assert model.parameter_count(vocabulary=False) == pytest.approx(PUBLISHED[architecture], rel=0.002)


@pytest.mark.parametrize(("size", "about"), [("tiny", 1.3e6), ("small", 12e6)])
def test_the_three_are_comparable_at_every_size(architecture, size, about):
    with torch.device("meta"):
        assert build(architecture, size, vocab_size=4096).parameter_count() == pytest.approx(about, rel=0.15)


def test_presets_can_be_overridden():
    config = model_config("encoder-decoder", "tiny", 100, n_decoder_layers=1, tied=False)
    assert (config.n_decoder_layers, config.tied, config.d_model) == (
        1,
        False,
        PRESETS["encoder-decoder"]["tiny"]["d_model"],
    )


# ------------------------------------------------------------------ the public door


def test_what_does_not_fit_is_refused_with_the_reason():
    decoder, both = DecoderOnly(CONFIG), EncoderDecoder(CONFIG)
    with pytest.raises(InputError, match=r"input_ids must lie in 0 .. 59, got -100 .. 8"):
        decoder(torch.tensor([[8, -100]]))
    with pytest.raises(InputError, match=r"decoder_input_ids must lie in 0 .. 59, got 60 .. 60"):
        both(IDS, torch.tensor([[60]]))
    with pytest.raises(InputError, match=r"expected input_ids \(B, T\) of whole numbers"):
        decoder(torch.tensor([1, 2]))
    with pytest.raises(InputError, match=r"expected input_ids \(B, T\) of whole numbers"):
        decoder(torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"expected attention_mask of the shape \(2, 8\)"):
        decoder(IDS, attention_mask=torch.ones(2, 7))
    with pytest.raises(InputError, match="go together"):
        both(IDS, TARGETS, document_ids=torch.ones_like(IDS))
    with pytest.raises(InputError, match="n_decoder_layers is for an encoder-decoder"):
        EncoderOnly(ModelConfig(vocab_size=V, n_decoder_layers=2))
    with pytest.raises(InputError, match="architecture must be one of decoder-only, encoder-only, encoder-decoder"):
        build("gpt", "tiny", V)
    with pytest.raises(InputError, match="size must be one of tiny, small, base"):
        build("decoder-only", "huge", V)
    with pytest.raises(InputError, match="a model has no momentum; what can be set is vocab_size"):
        build("decoder-only", "tiny", V, momentum=0.1)


def test_models_never_see_labels(architecture):
    model = build(architecture, "tiny", V)
    with pytest.raises(TypeError, match="labels"):
        run(model, labels=IDS)
