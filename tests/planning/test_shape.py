"""Parameters of a shape, and a shape for parameters."""

import math

import pytest

from clozelab.errors import InputError
from clozelab.models import ARCHITECTURES, ModelConfig
from clozelab.planning import config_near, parameters
from clozelab.planning.shape import size


def test_parameters_are_those_of_the_model(small):
    count = parameters(small.config, small.architecture)
    assert count.total == small.model.parameter_count()
    assert count.inner == small.model.parameter_count(vocabulary=False)
    assert sorted(count.ends + count.matrices) == sorted(tuple(p.shape) for p in small.model.parameters())


def test_a_block_has_twelve_squares_of_its_width_and_sixteen_with_a_memory():
    config = ModelConfig(vocab_size=10, d_model=96, n_layers=1)
    assert parameters(config, "decoder-only").inner == 12 * 96**2
    assert parameters(config, "encoder-decoder").inner == (12 + 16) * 96**2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("total", [1e7, 1.24e8, 3.5e8, 1.3e9, 7e9, 1.3e10, 7e10, 1.75e11, 1e12])
def test_a_shape_is_near_and_plausible(total, architecture):
    config = config_near(total, architecture)
    assert parameters(config, architecture).total == pytest.approx(total, rel=0.05)
    assert config.d_head in (64, 128)
    if total > 1e8:
        assert 50 <= config.d_model / config.n_layers <= 150


def test_more_parameters_are_never_a_smaller_model():
    totals = [parameters(config_near(10**e, "decoder-only"), "decoder-only").total for e in (7, 8, 9, 10, 11, 12, 13)]
    assert totals == sorted(totals)


def test_shares_of_the_device_that_has_most_are_whole_rows():
    assert size(((10, 3),), 4) == 3 * 3
    assert size(((10, 3),), 100) == 3
    assert all(size(((4096, 8),), n) * n >= 4096 * 8 for n in (1, 2, 3, 7, 8, 1000, 5000))


@pytest.mark.parametrize("total", [0, -1, math.nan, math.inf, 1e16, 1e3])
def test_what_no_shape_has_is_refused(total):
    with pytest.raises(InputError):
        config_near(total, "decoder-only")


def test_an_architecture_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="architecture must be one of"):
        parameters(ModelConfig(vocab_size=10), "recurrent")
