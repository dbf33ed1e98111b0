"""Every objective: its value, its accumulation, what it pays, and what it accepts."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab.data import Bernoulli, SpecialIds
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES, CausalLM, Loss, MaskedLM, SpanCorruption

V = 100
ALL = [
    CausalLM(),
    MaskedLM(),
    MaskedLM(scheme=Bernoulli(0.3)),
    SpanCorruption(),
    SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0),
]


def batch_of(objective, special, rows=8, length=40, ragged=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, length, (rows,), generator=generator).tolist() if ragged else [length] * rows
    examples = [
        {"input_ids": torch.randint(3, 80, (n,), generator=generator), "example_id": b} for b, n in enumerate(lengths)
    ]
    return objective.collator(special)(examples)


def paired(objective, seed=0, **overrides):
    torch.manual_seed(seed)
    return objective.build_model(V, "tiny", d_model=32, n_layers=2, n_heads=2, **overrides)


def stirred(model):
    """Random weights everywhere: untrained blocks start as the identity, and nobody reads anybody yet."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


class Other(nn.Module):
    """Somebody else's model: bare logits, or an object that has `.logits`, by the batch's keys."""

    def __init__(self, wrapped: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, 16)
        self.head = nn.Linear(16, V)
        self.wrapped = wrapped
        nn.init.normal_(self.embed.weight)

    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        logits = self.head(self.embed(input_ids if decoder_input_ids is None else decoder_input_ids))
        return SimpleNamespace(logits=logits) if self.wrapped else logits


# ------------------------------------------------------------------ value


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_a_uniform_guess_costs_ln_v(objective, special):
    batch = batch_of(objective, special, ragged=True)
    model = paired(objective, tied=False)
    with torch.no_grad():
        model.unembedding.zero_()
    loss = objective(model, batch)
    assert loss.mean.item() == pytest.approx(math.log(V), rel=1e-6)
    bare = objective(torch.zeros(*batch["labels"].shape, V), batch["labels"])
    assert bare.mean.item() == pytest.approx(math.log(V), rel=1e-6)
    assert bare.count == loss.count


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_an_untrained_model_starts_near_ln_v(objective, special):
    loss = objective(paired(objective), batch_of(objective, special))
    assert loss.mean.item() == pytest.approx(math.log(V), rel=0.1)


def test_causal_labels_are_shifted_once_and_here():
    """A model that says the next token for certain has no loss; one that says its own token has."""
    labels = torch.tensor([[5, 6, 7, 8]])
    following = F.one_hot(torch.tensor([[6, 7, 8, 9]]), V).float() * 100
    same = F.one_hot(labels, V).float() * 100
    assert CausalLM()(following, labels).mean < 1e-6
    assert CausalLM()(same, labels).mean > 50
    assert MaskedLM()(same, labels).mean < 1e-6


def test_the_value_is_the_plain_cross_entropy_of_the_paid_positions(special):
    for objective in ALL:
        batch = batch_of(objective, special, ragged=True)
        logits = torch.randn(*batch["labels"].shape, V, generator=torch.Generator().manual_seed(0))
        outputs, labels = objective.align(logits, batch["labels"])
        expected = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=-100)
        assert objective(logits, batch["labels"]).mean.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("objective", ALL, ids=repr)
@pytest.mark.parametrize("wrapped", [False, True])
def test_our_models_and_anybodys_are_paid_alike(objective, special, wrapped):
    batch = batch_of(objective, special, ragged=True)
    other = Other(wrapped)
    keys = {key: batch[key] for key in ("input_ids", "decoder_input_ids") if key in batch}
    output = other(**keys)
    logits = output.logits if wrapped else output
    assert torch.equal(objective(other, batch).sum, objective(logits, batch["labels"]).sum)
    ours = paired(objective)
    hidden = ours(**{key: value for key, value in batch.items() if key != "labels"})
    direct = objective(ours.unembed(hidden), batch["labels"])
    assert objective(ours, batch).sum.item() == pytest.approx(direct.sum.item(), rel=1e-5)


# ------------------------------------------------------------------ what is paid


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_gradients_are_zero_where_nothing_is_paid(objective, special):
    """Catalogue of mistakes, row 4."""
    batch = batch_of(objective, special, ragged=True)
    logits = torch.randn(*batch["labels"].shape, V, requires_grad=True)
    objective(logits, batch["labels"]).sum.backward()
    paid = logits.grad.abs().sum(-1) > 0
    expected = batch["labels"] != -100
    if isinstance(objective, CausalLM):
        expected = torch.cat([expected[:, 1:], torch.zeros_like(expected[:, :1])], 1)
    assert torch.equal(paid, expected)


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_nothing_to_predict_costs_nothing_and_still_back_propagates(objective, special):
    """Catalogue of mistakes, rows 10 and 11."""
    batch = batch_of(objective, special)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    model = paired(objective)
    loss = objective(model, batch)
    assert (loss.sum.item(), loss.count.item(), loss.mean.item()) == (0.0, 0, 0.0)
    loss.mean.backward()
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in model.parameters())
    bare = torch.randn(2, 5, V, requires_grad=True)
    objective(bare, torch.full((2, 5), -100)).mean.backward()
    assert (bare.grad == 0).all()


# ------------------------------------------------------------------ accumulation


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_eight_rows_at_once_equal_eight_times_one_row(objective, special):
    """Catalogue of mistakes, row 12, with ragged counts: gradients agree to 1e-6 of the largest."""
    examples = batch_of(objective, special, ragged=True)
    model = stirred(paired(objective)).double()
    whole = objective(model, examples)
    whole.mean.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = Loss(torch.zeros((), dtype=torch.double), torch.tensor(0))
    counts = []
    for b in range(8):
        row = {key: value[b : b + 1] for key, value in examples.items()}
        loss = objective(model, row)
        loss.sum.backward()
        counts.append(int(loss.count))
        total = total + loss
    assert len(set(counts)) > 2  # ragged indeed
    assert total.count == whole.count
    assert total.mean.item() == pytest.approx(whole.mean.item(), rel=1e-6)
    for name, p in model.named_parameters():
        if name in expected:
            error = (p.grad / total.count - expected[name]).abs().max()
            assert error <= 1e-6 * expected[name].abs().max() + 1e-12


def test_the_mean_of_means_would_be_something_else():
    one, three = Loss(torch.tensor(4.0), torch.tensor(1)), Loss(torch.tensor(3.0), torch.tensor(3))
    assert (one + three).mean == 1.75
    assert (one.mean + three.mean) / 2 == 2.5


# ------------------------------------------------------------------ named terms


def test_label_smoothing_is_pytorchs(special):
    batch = batch_of(MaskedLM(), special)
    logits = torch.randn(*batch["labels"].shape, V)
    loss = MaskedLM(label_smoothing=0.1)(logits, batch["labels"])
    expected = F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=0.1)
    assert loss.mean.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = MaskedLM()(logits, batch["labels"])
    assert loss.terms["cross_entropy"].item() == pytest.approx(plain.sum.item())
    assert loss.sum.item() == pytest.approx(sum(term.item() for term in loss.terms.values()), rel=1e-6)


def test_label_smoothing_converts_to_t5xs_convention():
    """eps' = eps V / (V - 1) here is eps spread over the V - 1 wrong ids there."""
    eps, logits, label = 0.1, torch.randn(V, generator=torch.Generator().manual_seed(0)), 7
    log_p = logits.log_softmax(-1)
    wrong = (log_p.sum() - log_p[label]) / (V - 1)
    theirs = -((1 - eps) * log_p[label] + eps * wrong)
    ours = MaskedLM(label_smoothing=eps * V / (V - 1))(logits[None, None], torch.tensor([[label]]))
    assert ours.mean.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_z_loss_is_the_square_of_log_z():
    logits = torch.randn(1, 3, V)
    loss = MaskedLM(z_loss=0.01)(logits, torch.tensor([[5, -100, 6]]))
    expected = 0.01 * logits[:, [0, 2]].logsumexp(-1).square().sum()
    assert loss.terms["z_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.sum.item() == pytest.approx((loss.terms["cross_entropy"] + expected).item(), rel=1e-5)


# ------------------------------------------------------------------ who reads whom


def test_a_later_token_never_changes_an_earlier_causal_logit(special):
    """Catalogue of mistakes, row 19: "perplexity 2.9"."""
    model = stirred(paired(CausalLM()))
    ids = torch.randint(3, 80, (1, 20))
    other = ids.clone()
    other[0, 12:] = (other[0, 12:] + 1) % 80 + 3
    a, b = model(ids), model(other)
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.equal(a[:, 12:], b[:, 12:])


def test_a_later_token_does_change_the_encoder(special):
    """Catalogue of mistakes, row 20, the other way round."""
    model = stirred(paired(MaskedLM()))
    ids = torch.randint(3, 80, (1, 20))
    other = ids.clone()
    other[0, 19] = (other[0, 19] + 1) % 80 + 3
    moved = (model(ids) - model(other)).abs().amax(-1)[0] > 0
    assert moved.all()


def test_the_gradient_of_an_early_loss_reaches_no_later_decoder_input(special):
    objective = SpanCorruption()
    model = stirred(paired(objective))
    batch = batch_of(objective, special, rows=1)
    a = model(**{k: v for k, v in batch.items() if k != "labels"})
    later = {**batch, "decoder_input_ids": batch["decoder_input_ids"].clone()}
    later["decoder_input_ids"][0, 5:] = 4
    b = model(**{k: v for k, v in later.items() if k != "labels"})
    assert torch.equal(a[:, :5], b[:, :5])
    assert not torch.equal(a[:, 5:], b[:, 5:])


# ------------------------------------------------------------------ the three verbs, bad input


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_says_what_it_hides_reads_and_predicts(name):
    objective = OBJECTIVES[name]()
    assert all((objective.hides, objective.reads, objective.predicts, objective.canonical, objective.architecture))
    assert objective.name == name


def test_labels_that_were_shifted_already_are_found(special):
    batch = CausalLM().collator(special).block(torch.randint(3, 80, (2, 10)), [0, 1])
    shifted = torch.cat([batch["labels"][:, 1:], torch.full((2, 1), -100)], 1)
    with pytest.raises(InputError, match="shifted by one already"):
        CausalLM()(Other(False), {**batch, "labels": shifted})
    CausalLM()(Other(False), {**batch, "input_ids": torch.full((2, 10), 5), "labels": torch.full((2, 10), 5)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MaskedLM()(torch.zeros(2, 5, V), torch.zeros(2, 6, dtype=torch.long)), "same batch"),
        (lambda: MaskedLM()(torch.zeros(2, 5, V), torch.full((2, 5), V)), "vocabulary grown"),
        (lambda: MaskedLM()(torch.zeros(2, 5, V), torch.full((2, 5), -1)), "labels must lie in"),
        (lambda: MaskedLM()(Other(False), {"input_ids": torch.zeros(1, 2)}), "batch with 'labels'"),
        (lambda: MaskedLM()(torch.zeros(2, 5, V), {"labels": 0}), "tensor of labels"),
        (lambda: MaskedLM(mask_rate=15), "strictly between 0 and 1"),
        (lambda: MaskedLM(mask_replace_prob=0.9, random_replace_prob=0.2), "at most 1"),
        (lambda: SpanCorruption(noise_density=0.0), "strictly between 0 and 1"),
        (lambda: SpanCorruption(mean_noise_span_length=0.2), "at least 1 token"),
        (lambda: CausalLM(label_smoothing=1.0), "label_smoothing"),
        (lambda: CausalLM(z_loss=-1), "z_loss"),
        (lambda: SpanCorruption(scheme=lambda t, m, g: m).source_length(10), "only known for RandomSpans"),
    ],
)
def test_bad_input_is_told_what_was_expected(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_a_model_without_a_head_is_named():
    class Headless(nn.Module):
        def forward(self, input_ids):
            return SimpleNamespace(last_hidden_state=0)

    with pytest.raises(InputError, match="without a language-modelling head"):
        MaskedLM()(Headless(), {"input_ids": torch.ones(1, 2), "labels": torch.zeros(1, 2)})


def test_training_reduces_each_loss_of_one_batch(special: SpecialIds):
    """The tiny overfit: 60 steps on 4 rows bring each loss below half of where it began."""
    for objective in (CausalLM(), MaskedLM(), SpanCorruption()):
        batch, model = batch_of(objective, special, rows=4, length=24), paired(objective)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        first = objective(model, batch).mean.item()
        for _ in range(60):
            optimizer.zero_grad()
            objective(model, batch).mean.backward()
            optimizer.step()
        assert objective(model, batch).mean.item() < first / 2


def test_a_wrapper_that_hides_the_unembedding_is_refused(special):
    """Its hidden states, were they as wide as the vocabulary or wider, would pass for logits."""
    objective = MaskedLM()
    model = objective.build_model(special.vocab_size, "tiny", d_model=128, n_layers=1, n_heads=1)
    batch = objective.collator(special)([{"input_ids": list(range(5, 25))}])
    with pytest.raises(InputError, match=r"got a DataParallel around one.*LossModule\(objective, model\)"):
        objective(torch.nn.DataParallel(model), batch)
