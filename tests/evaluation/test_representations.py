"""Representations: padding does not change them; a probe finds what is there and nothing that is not."""

import math

import pytest
import torch

from clozelab.errors import InputError
from clozelab.evaluation import bag_of_words, embed, linear_probe, nearest_neighbours
from clozelab.models import build

ARCHITECTURES = ("decoder-only", "encoder-only", "encoder-decoder")


def randomised(architecture, **more):
    """Random weights everywhere: untrained blocks are the identity, and attend to nothing."""
    more |= {"n_decoder_layers": 1} if architecture == "encoder-decoder" else {}
    model = build(architecture, "tiny", 50, d_model=16, n_layers=2, n_heads=2, **more)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model


def texts(rows=6, length=9):
    return torch.randint(3, 50, (rows, length), generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------ embed


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_changes_nothing(architecture, side):
    """Neither its ids nor its number: as the text alone, but for rounding."""
    model, text = randomised(architecture), texts()
    alone = embed(model, text)
    for pad in (0, 7):
        filler = torch.full((len(text), 4), pad)
        parts = (text, filler) if side == "right" else (filler, text)
        flags = (torch.ones_like(text), torch.zeros_like(filler))
        mask = torch.cat(flags if side == "right" else flags[::-1], 1)
        padded = embed(model, torch.cat(parts, 1), mask)
        torch.testing.assert_close(padded, alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(embed(model, torch.cat(parts, 1), mask.bool()), padded)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_mean_of_the_hidden_states(architecture):
    model, text = randomised(architecture).eval(), texts()
    read = model.encode if architecture == "encoder-decoder" else model
    with torch.no_grad():
        torch.testing.assert_close(embed(model, text), read(text).mean(1))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_texts_do_not_see_one_another(batch_size):
    model, text = randomised("encoder-only"), texts()
    torch.testing.assert_close(embed(model, text, batch_size=batch_size), embed(model, text), rtol=1e-4, atol=1e-5)


def test_no_dropout_and_no_gradients_and_the_mode_stays():
    model, text = randomised("encoder-only", dropout=0.5), texts()
    for mode in (True, False):
        model.train(mode)
        first = embed(model, text)
        assert model.training is mode
        assert not first.requires_grad
        assert torch.equal(first, embed(model, text))


def test_texts_that_have_no_representation_are_refused():
    model = randomised("encoder-only")
    with pytest.raises(InputError, match="at least one token"):
        embed(model, texts(2, 3), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    with pytest.raises(InputError, match=r"expected input_ids .*\(B, T\)"):
        embed(model, [[5, 6]])
    with pytest.raises(InputError, match=r"expected input_ids .*\(B, T\)"):
        embed(model, torch.tensor([5, 6]))
    with pytest.raises(InputError, match="expected attention_mask of the shape"):
        embed(model, texts(2, 3), torch.ones(2, 4))
    with pytest.raises(InputError, match=r"must lie in 0 \.\. 49"):
        embed(model, torch.tensor([[50]]))


def test_a_model_that_returns_no_hidden_states_is_refused():
    class Theirs(torch.nn.Module):
        def forward(self, input_ids, attention_mask):
            return {"logits": input_ids}

    with pytest.raises(InputError, match=r"hidden states .* got dict"):
        embed(Theirs(), texts())


# ------------------------------------------------------------------ bag of words


def test_a_bag_counts_and_forgets_the_order():
    bag = bag_of_words(torch.tensor([[3, 3, 3, 3, 4, 0], [4, 3, 3, 3, 3, 1]]), torch.tensor([[1] * 5 + [0]] * 2), 6)
    expected = torch.tensor([0, 0, 0, 2, 1, 0]) / math.sqrt(5)  # square roots of 4 and 1, at length one
    torch.testing.assert_close(bag, expected.repeat(2, 1))


@pytest.mark.parametrize("ids", [[[6]], [[-100]]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(InputError, match=r"must lie in 0 .. 5"):
        bag_of_words(torch.tensor(ids), None, 6)


# ------------------------------------------------------------------ probes of vectors


def planted(n, distance, classes=2, seed=0, width=16):
    """Normal deviates; the mean of class c lies at `distance` along direction c."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    directions = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(9))).Q
    vectors = torch.randn(n, width, generator=generator) + distance * directions[labels]
    return vectors, labels


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_planted_direction_is_found(probe, classes):
    share = probe(*planted(400, 12.0, classes), *planted(400, 12.0, classes, seed=1))
    assert share > 0.99


def test_a_probe_is_as_good_as_is_possible():
    """Two normal classes at a distance d can be told apart with probability Phi(d / 2): within 3 points of it."""
    distance = 2.0 / math.sqrt(2)  # along two orthogonal directions, so that the means lie 2 apart
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    share = linear_probe(*planted(2000, distance), *planted(2000, distance, seed=1))
    assert abs(share - best) < 0.03


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
def test_random_labels_are_predicted_at_chance(probe):
    """Of 4 classes a quarter, within 3 standard errors of 2000 answers."""
    (train, _), (test, _) = planted(500, 3.0), planted(2000, 3.0, seed=1)
    generator = torch.Generator().manual_seed(2)
    labels, test_labels = (torch.randint(4, (n,), generator=generator) for n in (500, 2000))
    share = probe(train, labels, test, test_labels)
    assert abs(share - 0.25) < 3 * math.sqrt(0.25 * 0.75 / 2000)


def test_the_scale_of_a_feature_does_not_matter():
    """Features are standardised: a probe that was fitted by gradient steps would see the largest alone."""
    train, test = planted(300, 4.0), planted(300, 4.0, seed=1)
    scale = torch.logspace(-3, 3, 16)
    share = linear_probe(*train, *test)
    assert abs(linear_probe(train[0] * scale + 5, train[1], test[0] * scale + 5, test[1]) - share) < 0.01


def test_a_feature_that_never_changes_does_no_harm():
    train, test = planted(100, 8.0), planted(100, 8.0, seed=1)
    constant = [torch.cat([vectors, torch.full((100, 1), 1e4)], 1) for vectors, _ in (train, test)]
    assert linear_probe(constant[0], train[1], constant[1], test[1]) == linear_probe(*train, *test)


def test_the_answer_is_a_function_of_its_arguments():
    """No seed, no global random state, and no grad mode of the caller; the arguments stay as they were."""
    train, test = planted(100, 1.0), planted(100, 1.0, seed=1)
    before = [value.clone() for value in (*train, *test)]
    first = linear_probe(*train, *test)
    torch.manual_seed(5)
    with torch.no_grad():
        assert linear_probe(*train, *test) == first
    assert all(torch.equal(a, b) for a, b in zip(before, (*train, *test)))


def test_a_label_that_was_never_learned_is_never_predicted():
    vectors = torch.eye(3)
    assert linear_probe(vectors, torch.tensor([0, 1, 0]), vectors, torch.tensor([2, 2, 2])) == 0.0
    assert linear_probe(vectors[:1], torch.tensor([1]), vectors[:1], torch.tensor([1])) == 1.0  # one text is enough


def test_near_is_by_direction_from_the_common_mean():
    """Two texts whose vectors lie far out in one direction that all texts share: only the rest tells them apart."""
    common = torch.tensor([100.0, 0.0, 0.0])
    train = common + torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    test = common + torch.tensor([[0.0, 3.0, 0.5], [0.0, 0.1, 2.0]])
    assert nearest_neighbours(train, torch.tensor([0, 1]), test, torch.tensor([0, 1])) == 1.0


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, y: (v, y[:3], v, y), r"got \(4, 2\) and \(3,\) to learn from"),
        (lambda v, y: (v, y, v, y[:3]), r"got \(4, 2\) and \(3,\) to test on"),
        (lambda v, y: (v, y, v[:, :1], y), "vectors of one size, got 2 to learn from and 1"),
        (lambda v, y: (v, y[:, None], v, y), r"and \(4, 1\) to learn from"),
        (lambda v, y: (v, y, v[:0], y[:0]), "at least one"),
        (lambda v, y: (v[:0], y[:0], v, y), "at least one"),
        (lambda v, y: (v * math.nan, y, v, y), "did the model diverge"),
        (lambda v, y: (v, y, v * math.inf, y), "did the model diverge"),
        (lambda v, y: (v, y - 1, v, y), "expected labels 0, 1, ... to learn from"),
        (lambda v, y: (v, y * 0.5, v, y), "expected labels 0, 1, ... to learn from, got torch.float32"),
    ],
)
def test_what_does_not_fit_together_is_refused(probe, change, message):
    with pytest.raises(InputError, match=message):
        probe(*change(torch.rand(4, 2), torch.tensor([0, 1, 0, 1])))


# ------------------------------------------------------------------ embed, the last token alone


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_the_last_token_is_the_last_real_one(architecture, side):
    model, text = randomised(architecture).eval(), texts()
    read = model.encode if architecture == "encoder-decoder" else model
    filler = torch.zeros(len(text), 4, dtype=torch.long)
    parts, flags = (text, filler), (torch.ones_like(text), filler)
    if side == "left":
        parts, flags = parts[::-1], flags[::-1]
    with torch.no_grad():
        alone = read(text)[:, -1]
    last = embed(model, torch.cat(parts, 1), torch.cat(flags, 1), pool="last")
    torch.testing.assert_close(last, alone, rtol=1e-4, atol=1e-5)


def test_another_way_to_pool_is_refused():
    with pytest.raises(InputError, match="pool"):
        embed(randomised("encoder-only"), texts(), pool="first")
