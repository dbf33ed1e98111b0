"""The parts of a block, each against what it is meant to be."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from clozelab.errors import InputError
from clozelab.models import AttentionMask, ModelConfig, attention_reference, causal_mask, self_attention_mask
from clozelab.models.layers import Attention, Block, FeedForward, apply_rotary, attend, rms_norm, rotary_freqs

ROWS = torch.zeros(2, 6, dtype=torch.int64)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def qkv(queries: int = 6, keys: int = 6, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(2, 3, n, 8, dtype=dtype, requires_grad=True) for n in (queries, keys, keys)]


def test_rotary_products_depend_on_the_distance_alone():
    q, k = torch.randn(8), torch.randn(8)

    def product(t: int, s: int) -> torch.Tensor:
        rotated = [apply_rotary(x.view(1, 1, 1, 8), rotary_freqs(torch.tensor([at]), 8)) for x, at in ((q, t), (k, s))]
        return (rotated[0] * rotated[1]).sum()

    assert torch.allclose(product(7, 4), product(103, 100), atol=1e-4)
    assert torch.allclose(product(0, 0), q @ k, atol=1e-6)
    assert not torch.allclose(product(7, 4), product(4, 7), atol=1e-2)


def test_rotary_rotates_and_does_not_stretch():
    x = torch.randn(2, 3, 5, 8)
    assert torch.allclose(apply_rotary(x, rotary_freqs(torch.arange(5), 8)).norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_each_row_may_have_positions_of_its_own():
    x, positions = torch.randn(2, 3, 5, 8), torch.tensor([[0, 1, 2, 3, 4], [4, 0, 9, 9, 2]])
    together = apply_rotary(x, rotary_freqs(positions[:, None], 8))
    for row in range(2):
        alone = apply_rotary(x[row : row + 1], rotary_freqs(positions[row], 8))
        assert torch.equal(together[row : row + 1], alone)


def test_the_rotation_that_is_compiled_is_the_other_one(monkeypatch):
    x, freqs = torch.randn(2, 3, 5, 8, dtype=torch.float64), rotary_freqs(torch.arange(5), 8, dtype=torch.float64)
    eager = apply_rotary(x, freqs)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.allclose(apply_rotary(x, freqs), eager, rtol=0, atol=1e-14)


def test_rms_norm_keeps_the_direction_and_sets_the_length():
    x = 50 * torch.randn(4, 16)
    assert torch.allclose(rms_norm(x, 1e-6).square().mean(-1), torch.ones(4), atol=1e-5)
    assert torch.allclose(F.cosine_similarity(rms_norm(x, 1e-6), x), torch.ones(4))
    assert torch.equal(rms_norm(torch.zeros(1, 16), 1e-6), torch.zeros(1, 16))


@pytest.mark.parametrize(
    "mask",
    [
        AttentionMask(6, 6, causal=True),
        AttentionMask(6, 6, causal=False),
        AttentionMask(2, 6, causal=True),
        AttentionMask(1, 6, causal=True),
        self_attention_mask(ROWS, causal=True, attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])),
        self_attention_mask(ROWS, causal=True, reading_rank=torch.tensor([[0, 0, 0, 1, 2, 3], [5, 2, 1, 3, 0, 4]])),
    ],
    ids=["causal", "full", "two after four", "one after five", "padded on both sides", "ranked"],
)
def test_the_fused_kernel_is_attention_by_its_definition(mask):
    ours = qkv(mask.queries)
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    out, expected = attend(*ours, mask), attention_reference(*theirs, mask.matrix)
    assert torch.allclose(out, expected, atol=1e-6)
    out.square().sum().backward()
    expected.square().sum().backward()
    for x, y in zip(ours, theirs):
        assert x.grad is not None
        assert torch.allclose(x.grad, y.grad, atol=1e-5)


def test_without_a_mask_the_reference_attends_to_everything():
    q, k, v = qkv()
    assert torch.equal(attention_reference(q, k, v), F.softmax(q * 8**-0.5 @ k.mT, -1) @ v)


@pytest.mark.parametrize("keys", [6, 600])
def test_short_and_long_bfloat16_agree_with_float32(keys):
    mask = AttentionMask(6, keys, causal=False)
    q, k, v = qkv(6, keys)
    out = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), attend(q, k, v, mask), atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", [attend, lambda q, k, v, mask: attention_reference(q, k, v, mask.matrix)])
def test_a_query_that_may_attend_to_nothing_outputs_zero(how, dtype):
    padding = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    mask = self_attention_mask(ROWS, causal=True, attention_mask=padding)
    q, k, v = qkv(dtype=dtype)
    out = how(q, k, v, mask)
    out.square().sum().backward()
    assert torch.equal(out[0, :, :2], torch.zeros(3, 2, 8, dtype=dtype))
    assert out[0, :, 2:].abs().sum() > 0
    for x in (q, k, v):
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert torch.equal(k.grad[0, :, :2], torch.zeros(3, 2, 8, dtype=dtype))  # a pad's column gets zero attention
    assert torch.equal(v.grad[0, :, :2], torch.zeros(3, 2, 8, dtype=dtype))


def test_normalised_queries_and_keys_bound_the_scores():
    attention = Attention(ModelConfig(vocab_size=9, d_model=32))
    x = torch.randn(1, 5, 32)
    seen = []

    def note(q, k, v, mask):
        seen.append((q @ k.mT).abs().max() * q.shape[-1] ** -0.5)
        return attend(q, k, v, mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clozelab.models.layers.attend", note)
        attention(1000 * x, AttentionMask(5, 5, causal=True))
    assert seen[0] <= 8**0.5 + 1e-4


def test_a_fresh_block_is_the_identity():
    config = ModelConfig(vocab_size=9, d_model=32)
    x, encoded = torch.randn(2, 5, 32), torch.randn(2, 3, 32)
    freqs = rotary_freqs(torch.arange(5), config.d_head)
    plain, crossed = Block(config), Block(config, cross_attention=True)
    assert torch.equal(plain(x, AttentionMask(5, 5, causal=True), freqs), x)
    cross = AttentionMask(5, 3, causal=False)
    assert torch.equal(crossed(x, AttentionMask(5, 5, causal=True), freqs, encoded, cross), x)


def test_the_feed_forward_mixes_no_positions():
    config = ModelConfig(vocab_size=9, d_model=32)
    feed_forward = FeedForward(config)
    torch.nn.init.normal_(feed_forward.output.weight)
    x = torch.randn(2, 5, 32)
    assert torch.allclose(feed_forward(x)[:, 3], feed_forward(x[:, 3]), atol=1e-5)


def test_a_gated_feed_forward_costs_what_four_times_the_width_costs():
    for d_model in (128, 384, 768):
        config = ModelConfig(vocab_size=9, d_model=d_model)
        assert config.feed_forward_size % 8 == 0
        assert sum(p.numel() for p in FeedForward(config).parameters()) == pytest.approx(8 * d_model**2, rel=0.01)


def test_a_config_survives_json():
    config = ModelConfig(vocab_size=100, d_model=64, n_layers=3, n_heads=2, d_ff=96, tied=False)
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    default = ModelConfig(vocab_size=100)
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(default)))) == default


def test_a_config_can_be_written_to():
    """Hugging Face's Trainer writes `use_cache` into the configuration of the model that it trains."""
    config = ModelConfig(vocab_size=100)
    config.use_cache = False
    assert config == ModelConfig(vocab_size=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, got 0"),
        ({"n_layers": 0}, "n_layers must be"),
        ({"n_heads": 3}, "even multiple of n_heads 3"),
        ({"d_model": 100, "n_heads": 4}, "rotary positions rotate them in pairs"),
        ({"d_model": 64.0}, "d_model must be a whole number"),
        ({"d_ff": -1}, "d_ff must be"),
        ({"rotary_base": 0.0}, "rotary_base must be positive"),
        ({"norm_eps": -1e-6}, "norm_eps must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_reason(settings, message):
    with pytest.raises(InputError, match=message):
        ModelConfig(**{"vocab_size": 100, **settings})


def test_the_causal_matrix_is_what_the_causal_kernel_does():
    q, k, v = qkv()
    by_name = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(by_name, attention_reference(q, k, v, causal_mask(6)), atol=1e-6)
