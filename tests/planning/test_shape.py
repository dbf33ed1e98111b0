"""Parameters of a shape, and a shape for parameters."""

import math

import pytest
import torch

from clozelab.errors import InputError
from clozelab.models import ModelConfig
from clozelab.objectives import OBJECTIVES, CausalLM, SpanCorruption
from clozelab.planning import config_near, parameters
from clozelab.planning.shape import size

from ..objectives.cases import SAMPLED_NAMES


def test_parameters_are_those_of_the_model(small):
    count = parameters(small.objective, small.config)
    assert count.total == sum(p.numel() for p in small.model.parameters())
    if hasattr(small.model, "parameter_count"):  # no wrapper of a trunk and its heads
        assert count.in_blocks == small.model.parameter_count(vocabulary=False)
    assert sorted(count.tables + count.matrices) == sorted(tuple(p.shape) for p in small.model.parameters())


def test_a_block_has_twelve_squares_of_its_width_and_sixteen_with_cross_attention():
    config = ModelConfig(vocab_size=10, d_model=96, n_layers=1)
    assert parameters(CausalLM(), config).in_blocks == 12 * 96**2
    assert parameters(SpanCorruption(), config).in_blocks == (12 + 16) * 96**2


@pytest.mark.parametrize("name", SAMPLED_NAMES)
@pytest.mark.parametrize("total", [1e7, 1.24e8, 7e9, 1e12])
def test_a_shape_is_near_and_plausible(total, name):
    objective = OBJECTIVES[name]()
    config = config_near(total, objective)
    assert parameters(objective, config).total == pytest.approx(total, rel=0.05)
    assert config.d_head in (64, 128)
    if total > 1e8:
        assert 50 <= config.d_model / config.n_layers <= 150


def test_more_parameters_are_never_a_smaller_model():
    totals = [parameters(CausalLM(), config_near(10**e, CausalLM())).total for e in (7, 8, 9, 10, 11, 12, 13)]
    assert totals == sorted(totals)


def test_shares_of_the_device_that_has_most_are_whole_rows():
    assert size(((10, 3),), 4) == 3 * 3
    assert size(((10, 3),), 100) == 3
    assert all(size(((4096, 8),), n) * n >= 4096 * 8 for n in (1, 2, 3, 7, 8, 1000, 5000))


@pytest.mark.parametrize("total", [0, -1, math.nan, math.inf, 1e16, 1e3])
def test_a_number_that_no_shape_has_is_refused(total):
    with pytest.raises(InputError):
        config_near(total, CausalLM())


def test_counting_draws_no_weights():
    state = torch.get_rng_state()
    parameters(CausalLM(), ModelConfig(vocab_size=10, d_model=16, n_heads=1, dropout=0.125))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_objective_and_no_shape_is_refused():
    with pytest.raises(InputError, match="the objective"):
        parameters("decoder-only", ModelConfig(vocab_size=10))
    with pytest.raises(InputError, match="the shape of a model"):
        parameters(CausalLM(), {"vocab_size": 10})
