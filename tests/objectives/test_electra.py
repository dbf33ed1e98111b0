"""ELECTRA: golden labels and counts, what is drawn and by which noise, gradients, floors against brute force."""

import itertools
import math

import pytest
import torch
from torch import nn

from clozelab import MaskedLM
from clozelab.errors import InputError
from clozelab.languages import HiddenMarkovSource, MarkovSource, detection_costs, replaced_probabilities
from clozelab.models import GeneratorDiscriminator, ModelConfig, Prediction
from clozelab.models.generator_discriminator import sample_ids
from clozelab.objectives import Electra, LossModule, total_counts

from .cases import SPECIAL, VOCAB, batch_of, reading_model, texts

IGNORED, MASK = -100, 2
CHAIN = MarkovSource(torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64))


class Told(nn.Module):
    """A generator that puts certain ids, and a discriminator with certain logits."""

    def __init__(self, ids, logits):
        super().__init__()
        self.ids, self.logits = torch.tensor(ids), torch.tensor(logits)

    def forward(self, input_ids, attention_mask=None, sampling_noise=None):
        generated = Prediction(100.0 * nn.functional.one_hot(self.ids, 15).float())
        sampled = sample_ids(generated, input_ids, sampling_noise)
        classes = torch.stack([torch.zeros_like(self.logits), self.logits], -1)
        return {"generator": generated, "discriminator": Prediction(classes, sampled=sampled)}


# ------------------------------------------------------------------ golden labels


GOLDEN = {
    "input_ids": torch.tensor([[7, MASK, 9, MASK, MASK, 12]]),
    "labels": torch.tensor([[7, 8, 9, 10, 11, 12]]),
    "sampling_noise": torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.5, 0.0]]),
    "attention_mask": torch.ones(1, 6, dtype=torch.int64),
}


def test_the_golden_row():
    """7 8 9 10 11 12, hidden 1 3 4, drawn 8 5 6: 7 8 9 5 6 12 is read, 0 0 0 1 1 0 is asked, counts 3 and 6."""
    objective, model = Electra(), Told([[0, 8, 0, 5, 6, 0]], [[0.3, -0.2, 0.1, 0.7, -0.4, 0.6]])
    outputs, targets = model(GOLDEN["input_ids"], sampling_noise=GOLDEN["sampling_noise"]), objective.targets(GOLDEN)
    assert targets["generator"].labels.tolist() == [[IGNORED, 8, IGNORED, 10, 11, IGNORED]]
    assert outputs["discriminator"].sampled.tolist() == [[7, 8, 9, 5, 6, 12]]
    assert targets["discriminator"].classes(outputs["discriminator"]).tolist() == [[0, 0, 0, 1, 1, 0]]
    assert {name: int(count) for name, count in objective.counts(GOLDEN).items()} == {
        "generator": 3,
        "discriminator": 6,
    }
    by_hand = sum(math.log1p(math.exp(z)) for z in (0.3, -0.2, 0.1, -0.7, 0.4, 0.6)) / 6
    loss = objective(model, GOLDEN)
    assert float(loss["discriminator"].mean) == pytest.approx(by_hand, rel=1e-6)
    assert float(loss["generator"].mean) == pytest.approx(200 / 3)  # one of three hit, the others 100 nats off
    assert loss.item() == pytest.approx(200 / 3 + 50 * by_hand, rel=1e-6)


@pytest.mark.parametrize(("vocab_size", "value"), [(30522, 44.98), (4096, 42.98)])
def test_a_uniform_guess_costs_ln_v_and_fifty_ln_2(vocab_size, value):
    uniform = Electra().uniform_values(vocab_size)
    assert uniform["generator"] + 50 * uniform["discriminator"] == pytest.approx(value, abs=0.005)


def test_a_token_that_is_out_of_the_loss_is_out_of_both_parts():
    example = {"input_ids": list(range(12)), "example_id": 0, "loss_mask": [1] * 6 + [0] * 6}
    batch = Electra(mask_rate=1.0).collator(SPECIAL)([example])
    assert {name: int(n) for name, n in Electra().counts(batch).items()} == {"generator": 6, "discriminator": 6}
    assert bool((batch["sampling_noise"] > 0).all())  # and is replaced even so


def test_ends_of_text_and_pads_are_never_hidden_and_pads_are_not_asked_about():
    ends = [{**one, "input_ids": [*one["input_ids"], SPECIAL.eos]} for one in texts((9, 4))]
    batch = Electra(mask_rate=1.0).collator(SPECIAL)(ends)
    assert batch["sampling_noise"].gt(0).sum(1).tolist() == [9, 4]
    assert batch["labels"].ne(IGNORED).sum(1).tolist() == [10, 5]


# ------------------------------------------------------------------ the generator


def test_the_generator_is_masked_lm_on_the_same_tokens():
    objective, masked = Electra(mask_rate=0.4), MaskedLM(mask_rate=0.4, mask_replace_prob=0.85, random_replace_prob=0.0)
    model = reading_model(objective)
    loss, alone = objective(model, batch_of(objective)), masked(model.generator, batch_of(masked))
    torch.testing.assert_close(loss["generator"].sum, alone.sum)
    assert int(loss["generator"].count) == int(alone.count)


def test_85_of_100_hidden_tokens_are_masks_and_the_others_stay():
    batch = batch_of(Electra(), (100,) * 200)
    hidden, inputs = batch["sampling_noise"] > 0, batch["input_ids"]
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=1e-6)
    masks = inputs == SPECIAL.mask
    assert masks[hidden].float().mean().item() == pytest.approx(0.85, abs=0.02)
    assert torch.equal(inputs[~masks], batch["labels"][~masks])


@pytest.mark.parametrize(("share", "width", "heads"), [(0.25, 32, 1), (0.5, 64, 2), (1.0, 128, 4), (0.0625, 8, 1)])
def test_the_generator_has_fewer_heads_as_wide_as_before_or_one_narrower(share, width, heads):
    config = Electra(generator_size=share).build_model(50, "tiny").generator.config
    assert (config.d_model, config.n_heads, config.n_layers) == (width, heads, 4)


def test_the_table_is_one_weight_under_one_name():
    model = GeneratorDiscriminator(ModelConfig(50, d_model=16, n_heads=2, n_layers=1))
    tables = [name for name, p in model.named_parameters() if len(p) == 50]
    assert tables == ["discriminator.embedding.weight"]
    assert model.generator.unembedding is model.discriminator.embedding.weight
    untied = GeneratorDiscriminator(ModelConfig(50, d_model=16, n_heads=2, n_layers=1, tied=False))
    assert untied.generator.unembedding is untied.discriminator.head


def test_the_discriminator_teaches_the_generator_the_table_alone():
    objective = Electra(mask_rate=0.5)
    model, batch = reading_model(objective), batch_of(objective)
    for part, taught in (("discriminator", "discriminator"), ("generator", "generator")):
        model.zero_grad()
        objective(model, batch)[part].sum.backward()
        moved = {name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
        assert "discriminator.embedding.weight" in moved
        assert {name.split(".")[0] for name in moved - {"discriminator.embedding.weight", "verdict"}} == {taught}


# ------------------------------------------------------------------ what is drawn


def test_ids_are_drawn_as_often_as_they_are_probable():
    p = torch.tensor([0.5, 0.0, 0.3, 0.2], dtype=torch.float64)
    noise = (torch.arange(1000)[None].double() + 0.5) / 1000
    drawn = sample_ids(Prediction(p.log().expand(1, 1000, 4)), torch.zeros(1, 1000).long(), noise)
    assert drawn[0].bincount(minlength=4).tolist() == [500, 0, 300, 200]


def test_the_same_ids_are_drawn_alone_in_micro_batches_and_when_traced(monkeypatch):
    """So on any number of processes, which divide the rows of a step."""
    objective = Electra(mask_rate=0.5)
    model, examples, collate = reading_model(objective), texts((24, 9, 31, 16)), objective.collator(SPECIAL)

    def sampled(batch):
        return model(**objective.model_inputs(model, batch))["discriminator"].sampled

    together = sampled(collate(examples))
    assert bool((together != collate(examples)["input_ids"]).any())
    for b, example in enumerate(examples):
        alone = sampled(collate([example]))[0]
        assert torch.equal(alone, together[b, : len(alone)])
    monkeypatch.setattr("clozelab.models.generator_discriminator.DRAWN", 1)  # one id at a time
    assert torch.equal(sampled(collate(examples)), together)
    monkeypatch.setattr("clozelab.models.generator_discriminator.tracing", lambda: True)
    assert torch.equal(sampled(collate(examples)), together)


def test_another_epoch_draws_other_ids_for_the_same_hidden_tokens():
    """The noise of the draws is a stream of its own."""
    first, second = (batch_of(Electra(mask_rate=1.0), epoch=epoch)["sampling_noise"] for epoch in (0, 1))
    here = first > 0
    assert torch.equal(here, second > 0)
    assert not bool((first == second)[here].any())
    assert float(first[here].mean()) == pytest.approx(0.5, abs=0.1)


def test_two_micro_batches_have_the_gradient_of_one_step():
    objective = Electra(mask_rate=0.3)
    model, examples, collate = reading_model(objective), texts((24, 9, 31, 16, 12)), objective.collator(SPECIAL)
    objective(model, collate(examples)).mean.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    parts = [collate(examples[:1]), collate(examples[1:])]
    counts = total_counts(objective.counts(batch) for batch in parts)
    for batch in parts:
        LossModule(objective, model)(batch, counts)[0].backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (torch.tensor([[0.5, 0.0]]).bfloat16(), "cast to the precision of the model"),
        (torch.tensor([[1.5, 0.0]]), r"in \(0, 1\]"),
        (torch.tensor([[0.5]]), "sampling_noise|noise of the shape"),
    ],
)
def test_noise_that_would_draw_something_else_is_refused(noise, message):
    with pytest.raises(InputError, match=message):
        sample_ids(Prediction(torch.zeros(1, 2, 5)), torch.tensor([[1, 2]]), noise)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Electra()(MaskedLM().build_model(VOCAB, d_model=16, n_layers=1), batch_of(Electra())),
            r"needs the output generator of the model.* or in clozelab\.integrations\.electra\.ElectraPair, of",
        ),
        (lambda: Electra()(reading_model(Electra()), batch_of(MaskedLM())), "'sampling_noise' of the batch"),
        (lambda: MaskedLM()(reading_model(MaskedLM()), batch_of(Electra())), "sampling_noise|are not hidden"),
        (lambda: Electra(generator_size=0.001), r"generator_size must lie in \[0.0625, 1\], got 0.001"),
        (lambda: Electra(generator_size=0.0625).build_model(50, d_model=8, n_heads=1), "no width left"),
        (lambda: GeneratorDiscriminator(ModelConfig(50), 0.0), "share of the width"),
        (
            lambda: Electra()(
                reading_model(Electra()), {**batch_of(Electra()), "input_ids": batch_of(Electra())["labels"].clamp(0)}
            ),
            "not hidden|nothing is hidden",
        ),
        (lambda: floor(Electra(), CHAIN.sample(2, 8)), "hidden independently at one rate"),
        (lambda: floor(Electra(scheme="bernoulli", random_replace_prob=0.1), CHAIN.sample(2, 8)), "no random ones"),
        (lambda: replaced_probabilities(CHAIN, torch.tensor([[0, 1]]), 1.0), "a rate in"),
        (lambda: replaced_probabilities(CHAIN, torch.tensor([[0, 2]]), 0.1), "symbols must lie in"),
        (lambda: detection_costs(HALF, HALF, HALF > 1, 0.0), r"a rate in \(0, 1\]"),
        (lambda: detection_costs(HALF, HALF[:, :1], HALF > 1, 0.1), "of the shape"),
        (lambda: detection_costs(3 * HALF, HALF, HALF > 1, 0.1), "expected probabilities in fits"),
        (lambda: bound_of(Electra(scheme="bernoulli"), CHAIN.sample(2, 8)), "all become masks"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


# ------------------------------------------------------------------ floors


def floor(objective, text, special=None):
    special = CHAIN.special_ids() if special is None else special
    batch = objective.collator(special).block(text, range(len(text)))
    return objective.entropy_floor(CHAIN, batch, special), batch


def brute_force(length, rate, ideal):
    """{text as it is read: (its probability, p(replaced) at each place)}, by all texts, hidden sets and draws."""
    found = {}
    p = {x: float(CHAIN.log_prob(torch.tensor(x)).exp()) for x in itertools.product((0, 1), repeat=length)}
    for text, hidden in itertools.product(p, itertools.product((False, True), repeat=length)):
        matching = [x for x in p if all(h or x[t] == text[t] for t, h in enumerate(hidden))]
        total = sum(p[x] for x in matching)
        of_hidden = math.prod(rate if h else 1 - rate for h in hidden)
        for drawn in itertools.product((0, 1), repeat=sum(hidden)):
            put, read = iter(drawn), []
            chance = p[text] * of_hidden
            for t, h in enumerate(hidden):
                read.append(next(put) if h else text[t])
                if h:
                    own = sum(p[x] for x in matching if x[t] == read[t]) / total
                    chance *= own if ideal else 0.5
            of_read, replaced = found.setdefault(tuple(read), [0.0, [0.0] * length])
            found[tuple(read)] = [
                of_read + chance,
                [one + chance * (a != b) for one, a, b in zip(replaced, text, read)],
            ]
    return {read: (chance, [one / chance for one in each]) for read, (chance, each) in found.items()}


@pytest.mark.parametrize("generator", ["ideal", "uniform"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_the_best_discriminator_is_that_of_brute_force(generator, length):
    expected = brute_force(length, 0.3, generator == "ideal")
    found = replaced_probabilities(CHAIN, torch.tensor(list(expected)), 0.3, generator)
    torch.testing.assert_close(found, torch.tensor([each for _, each in expected.values()], dtype=torch.float64))


@pytest.mark.parametrize(("length", "entropy"), [(1, 0.2288), (4, 0.1738), (8, 0.1649)])
def test_the_floor_behind_a_uniform_generator_is_the_golden_one(length, entropy):
    """Nats a token, by the expectation over all texts as they are read; without a look at the text it is 0.2664."""
    text = torch.tensor(list(itertools.product((0, 1), repeat=length)))
    channel = 0.85 * torch.eye(2, dtype=torch.float64) + 0.15 / 2
    reached = CHAIN.stationary * channel.T[text[:, 0]]
    for t in range(1, length):
        reached = (reached @ CHAIN.transition) * channel.T[text[:, t]]
    replaced = replaced_probabilities(CHAIN, text, 0.15, "uniform")
    costs = -(torch.xlogy(replaced, replaced) + torch.xlogy(1 - replaced, 1 - replaced))
    assert reached.sum().item() == pytest.approx(1)
    assert (reached.sum(1) * costs.mean(1)).sum().item() == pytest.approx(entropy, abs=5e-5)
    share = 0.15 / 2
    assert -share * math.log(share) - (1 - share) * math.log(1 - share) == pytest.approx(0.2664, abs=5e-5)


def test_the_floor_is_the_expectation_of_what_the_noise_of_the_batch_draws():
    """Behind the ideal generator, over 20,000 texts of 4 symbols, within four standard errors of brute force."""
    objective = Electra(mask_rate=0.4, mask_replace_prob=0.75, scheme="bernoulli")
    floors, _ = floor(objective, CHAIN.sample(20_000, 4, seed=0))
    expected = sum(
        chance * sum(-one * math.log(one) - (1 - one) * math.log1p(-one) for one in each if 0 < one < 1)
        for chance, each in brute_force(4, 0.3, ideal=True).values()
    )
    each = floors["discriminator"]
    assert float(each.mean()) == pytest.approx(expected, abs=4 * float(each.std()) / 20_000**0.5)


def test_the_generators_floor_is_that_of_masked_lm():
    options = {"scheme": "bernoulli", "mask_replace_prob": 0.85, "random_replace_prob": 0.0}
    text = CHAIN.sample(20, 8, seed=0)
    assert torch.equal(floor(Electra(**options), text)[0]["generator"], floor(MaskedLM(**options), text)[0]["logits"])


# ------------------------------------------------------------------ a bound behind any generator

HALF = torch.full((1, 2), 0.5)
ALL_MASKS = Electra(scheme="bernoulli", mask_replace_prob=1.0, mask_rate=0.3)


def bound_of(objective, text, source=CHAIN, **options):
    """The bound behind an untrained generator whose predictions differ from place to place, with model and batch."""
    special = source.special_ids(sentinels=0)
    torch.manual_seed(0)
    model = objective.build_model(special.vocab_size, d_model=8, n_layers=1, n_heads=1)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    batch = objective.collator(special).block(text, range(len(text)))
    return objective.detection_bound(source, model, batch, special, **options), model, batch


@pytest.mark.parametrize("generator", ["ideal", "uniform"])
def test_of_a_single_symbol_nothing_more_can_be_told_and_the_bound_is_exact(generator):
    seen = torch.tensor([[0], [1]])
    fits = CHAIN.stationary[seen]
    drawn = fits if generator == "ideal" else torch.full_like(fits, 0.5)
    exact = replaced_probabilities(CHAIN, seen, 0.3, generator)
    for replaced, chance in ((True, exact), (False, 1 - exact)):
        torch.testing.assert_close(detection_costs(fits, drawn, torch.full((2, 1), replaced), 0.3), -chance.log())


def test_behind_the_ideal_generator_the_bound_lies_below_the_floor():
    """By all texts of three symbols, hidden sets and draws; a symbol that is known to be hidden costs -ln p of it."""
    rate, bound, texts = 0.3, 0.0, list(itertools.product((0, 1), repeat=3))
    p = {x: float(CHAIN.log_prob(torch.tensor(x)).exp()) for x in texts}

    def given(x, t, hidden):
        """p(x[t] | what is visible of x beside it)."""
        alike = [y for y in texts if all(hidden[s] or s == t or y[s] == x[s] for s in range(3))]
        return sum(p[y] for y in alike if y[t] == x[t]) / sum(p[y] for y in alike)

    for text, hidden in itertools.product(texts, itertools.product((False, True), repeat=3)):
        chance = p[text] * math.prod(rate if h else 1 - rate for h in hidden)
        for seen in (x for x in texts if all(h or x[t] == text[t] for t, h in enumerate(hidden))):
            one_changed = [(*text[:t], seen[t], *text[t + 1 :]) for t in range(3)]
            fits, drawn = ([given(one_changed[t], t, h) for t in range(3)] for h in ((False,) * 3, hidden))
            of_draws = math.prod(q for q, h in zip(drawn, hidden) if h)
            replaced = torch.tensor([[a != b for a, b in zip(text, seen)]])
            costs = detection_costs(torch.tensor([fits]), torch.tensor([drawn]), replaced, rate)
            bound += chance * of_draws * float(costs.sum())
    floor = sum(
        chance * sum(-one * math.log(one) - (1 - one) * math.log1p(-one) for one in each if 0 < one < 1)
        for chance, each in brute_force(3, rate, ideal=True).values()
    )
    assert 0.1 < bound < floor - 0.01


@pytest.mark.parametrize("hidden_chain", [False, True])
def test_the_bound_of_a_model_is_its_definition(hidden_chain):
    """Each place of a text by hand: p by the probabilities of texts, q by the generator with this place hidden."""
    source = HiddenMarkovSource(CHAIN, torch.tensor([[0.8, 0.2], [0.3, 0.7]])) if hidden_chain else CHAIN
    text = torch.tensor([[0, 1, 1, 0, 1]])
    found, model, batch = bound_of(ALL_MASKS, text, source)
    seen = model(batch["input_ids"], sampling_noise=batch["sampling_noise"])["discriminator"].sampled
    assert (batch["sampling_noise"] > 0).any()
    for t in range(5):
        ids, whole = batch["input_ids"].clone(), text.clone()
        ids[0, t], whole[0, t] = source.special_ids(sentinels=0)["mask"], 1 - text[0, t]
        own, other = float(source.log_prob(text).exp()), float(source.log_prob(whole).exp())
        p = {int(text[0, t]): own / (own + other), int(whole[0, t]): other / (own + other)}.get(int(seen[0, t]), 0.0)
        q = model.generator.unembed(model.generator(ids))[0, t].softmax(0)[seen[0, t]].item()
        kept, drawn = 0.7 * p + 0.3 * p * q, 0.3 * q * (1 - p)
        expected = -math.log((drawn if seen[0, t] != text[0, t] else kept) / (kept + drawn))
        assert float(found[0, t]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_of_tokens_that_are_known_to_be_hidden_only_what_fits_counts():
    fits, replaced = torch.tensor([[0.7, 0.7]]), torch.tensor([[False, True]])
    found = detection_costs(fits, torch.tensor([[0.2, 0.9]]), replaced, 1.0)
    torch.testing.assert_close(found, -torch.tensor([[0.7, 0.3]]).log())


# ------------------------------------------------------------------ a trained model


def test_the_generator_fills_blanks(tokenizer):
    objective = Electra()
    model = objective.build_model(tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    completion = objective.complete(
        LossModule(objective, model).model, tokenizer, "The cat ___ on the mat.", greedy=True
    )
    assert sum(by_model for _, by_model in completion.parts) == 1
    assert len(objective.sample(model, tokenizer, "The cat sat on the mat.").parts) > 1
