"""The parts of a block, each against what it is meant to be."""

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from clozelab.errors import InputError
from clozelab.models import ModelConfig, Visibility, attention_reference, causal
from clozelab.models.layers import Attention, Block, FeedForward, attend, rms_norm, rotary, rotate


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def qkv(queries: int = 6, keys: int = 6, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [torch.randn(2, 3, n, 8, dtype=dtype, requires_grad=True) for n in (queries, keys, keys)]


def test_rotary_products_depend_on_the_distance_alone():
    q, k = torch.randn(8), torch.randn(8)

    def product(t: int, s: int) -> torch.Tensor:
        turned = [rotate(x.view(1, 1, 1, 8), rotary(torch.tensor([at]), 8)) for x, at in ((q, t), (k, s))]
        return (turned[0] * turned[1]).sum()

    assert torch.allclose(product(7, 4), product(103, 100), atol=1e-4)
    assert torch.allclose(product(0, 0), q @ k, atol=1e-6)
    assert not torch.allclose(product(7, 4), product(4, 7), atol=1e-2)


def test_rotary_turns_and_does_not_stretch():
    x = torch.randn(2, 3, 5, 8)
    assert torch.allclose(rotate(x, rotary(torch.arange(5), 8)).norm(dim=-1), x.norm(dim=-1), atol=1e-5)


def test_rms_norm_keeps_the_direction_and_sets_the_length():
    x = 50 * torch.randn(4, 16)
    assert torch.allclose(rms_norm(x, 1e-6).square().mean(-1), torch.ones(4), atol=1e-5)
    assert torch.allclose(F.cosine_similarity(rms_norm(x, 1e-6), x), torch.ones(4))
    assert torch.equal(rms_norm(torch.zeros(1, 16), 1e-6), torch.zeros(1, 16))


@pytest.mark.parametrize(
    "visible",
    [
        Visibility.of(6, 6, causal=True),
        Visibility.of(6, 6, causal=False),
        Visibility.of(2, 6, causal=True),
        Visibility.of(1, 6, causal=True),
        Visibility.of(6, 6, causal=True, attention_mask=torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])),
    ],
    ids=["causal", "full", "two after four", "one after five", "padded on both sides"],
)
def test_the_fused_kernel_does_what_the_six_lines_say(visible):
    ours, theirs = qkv(visible.queries), None
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    out, expected = attend(*ours, visible), attention_reference(*theirs, visible.matrix)
    assert torch.allclose(out, expected, atol=1e-6)
    out.square().sum().backward()
    expected.square().sum().backward()
    for x, y in zip(ours, theirs):
        assert x.grad is not None
        assert torch.allclose(x.grad, y.grad, atol=1e-5)


def test_without_a_mask_the_reference_reads_everything():
    q, k, v = qkv()
    assert torch.equal(attention_reference(q, k, v), F.softmax(q * 8**-0.5 @ k.mT, -1) @ v)


@pytest.mark.parametrize("keys", [6, 600])
def test_short_and_long_bfloat16_agree_with_float32(keys):
    visible = Visibility.of(6, keys, causal=False)
    q, k, v = qkv(6, keys)
    out = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), visible)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), attend(q, k, v, visible), atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", [attend, lambda q, k, v, visible: attention_reference(q, k, v, visible.matrix)])
def test_who_may_read_nobody_gets_zero(how, dtype):
    visible = Visibility.of(6, 6, causal=True, attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6]))
    q, k, v = qkv(dtype=dtype)
    out = how(q, k, v, visible)
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

    def note(q, k, v, visible):
        seen.append((q @ k.mT).abs().max() * q.shape[-1] ** -0.5)
        return attend(q, k, v, visible)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clozelab.models.layers.attend", note)
        attention(1000 * x, Visibility.of(5, 5, causal=True))
    assert seen[0] <= 8**0.5 + 1e-4


def test_a_fresh_block_is_the_identity():
    config = ModelConfig(vocab_size=9, d_model=32)
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 3, 32)
    turns = rotary(torch.arange(5), config.d_head)
    plain, reader = Block(config), Block(config, reads_memory=True)
    assert torch.equal(plain(x, Visibility.of(5, 5, causal=True), turns), x)
    cross = Visibility.of(5, 3, causal=False)
    assert torch.equal(reader(x, Visibility.of(5, 5, causal=True), turns, memory, cross), x)


def test_the_feed_forward_reads_no_neighbour():
    config = ModelConfig(vocab_size=9, d_model=32)
    feed_forward = FeedForward(config)
    torch.nn.init.normal_(feed_forward.output.weight)
    x = torch.randn(2, 5, 32)
    assert torch.allclose(feed_forward(x)[:, 3], feed_forward(x[:, 3]), atol=1e-5)


def test_a_gated_feed_forward_costs_what_four_times_the_width_costs():
    for width in (128, 384, 768):
        config = ModelConfig(vocab_size=9, d_model=width)
        assert config.feed_forward_size % 8 == 0
        assert sum(p.numel() for p in FeedForward(config).parameters()) == pytest.approx(8 * width**2, rel=0.01)


def test_a_config_survives_json():
    config = ModelConfig(vocab_size=100, d_model=64, n_layers=3, n_heads=2, d_ff=96, tied=False)
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    default = ModelConfig(vocab_size=100)
    assert ModelConfig(**json.loads(json.dumps(dataclasses.asdict(default)))) == default


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be a whole number of at least 1, got 0"),
        ({"n_layers": 0}, "layers must be"),
        ({"n_heads": 3}, "even multiple of heads 3"),
        ({"d_model": 100, "n_heads": 4}, "rotary positions turn them in pairs"),
        ({"d_model": 64.0}, "width must be a whole number"),
        ({"feed_forward": -1}, "feed_forward must be"),
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
    assert torch.allclose(by_name, attention_reference(q, k, v, causal(6)), atol=1e-6)
