"""No output moves with its own answer; a corruption or a loss that lets it is found."""

import pytest
import torch

from clozelab.errors import InputError
from clozelab.evaluation import answer_leaks
from clozelab.models import DecoderOnly, EncoderOnly, ModelConfig
from clozelab.objectives import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, options
from clozelab.objectives.loss import Target, next_token_labels

from ..objectives.cases import SPECIAL, VOCAB, each_objective, from_the_left, reading_model, texts

FULL = ModelConfig(vocab_size=VOCAB, d_model=16, n_layers=2, n_heads=2)


def with_random_weights(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.double()


@each_objective
def test_no_output_of_any_objective_moves_with_its_own_answer(objective):
    report = answer_leaks(objective, reading_model(objective), texts((16, 9)), SPECIAL)
    assert report.passed, report
    assert str(report) == f"no output moves with its own answer, in {report.tested} pairs"


def test_the_number_of_pairs_is_what_the_loss_predicts():
    """Causal: every token but the first. Diffusion: each hidden one. Kept tokens of masked LM are exempt."""
    examples = texts((16,))

    def tested(objective):
        return answer_leaks(objective, reading_model(objective), examples, SPECIAL).tested

    assert tested(CausalLM()) == 15
    for objective in (MaskedDiffusion(), MaskedLM(mask_rate=0.5, mask_replace_prob=1.0, random_replace_prob=0.0)):
        hidden = int((objective.collator(SPECIAL)(examples)["labels"] != -100).sum())
        assert tested(objective) == hidden > 0
    assert tested(MaskedLM(mask_rate=1.0, mask_replace_prob=0.0, random_replace_prob=0.0)) == 0  # all kept


def test_nothing_tested_is_no_pass():
    objective = MaskedLM(mask_rate=1.0, mask_replace_prob=0.0, random_replace_prob=0.0)
    report = answer_leaks(objective, reading_model(objective), texts((16,)), SPECIAL)
    assert (report.tested, report.leaks, report.passed) == (0, (), False)
    assert str(report).startswith("nothing tested")


@options
class PrefixInTheLoss(PrefixLM):
    """The most instructive mistake: prefix tokens read one another, so each reads its own answer one place on."""

    name = "prefix in the loss"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": examples.tokens.masked_fill(~examples.is_token, -100)}


def test_a_prefix_in_the_loss_is_found():
    objective = PrefixInTheLoss()
    report = answer_leaks(objective, reading_model(objective), texts((12,)), SPECIAL)
    rank = objective.collator(SPECIAL)(texts((12,)))["reading_rank"][0]
    prefix = int((rank == 0).sum())
    assert prefix > 2
    assert set(report.leaks) == {("logits", t, 0, t + 1) for t in range(prefix - 1)}
    assert report.tested == 11
    assert not report.passed
    assert str(report).startswith("LEAK: logits 0 moves with its own answer, token 1 of example 0")


@pytest.mark.parametrize("objective", from_the_left(), ids=repr)
def test_a_causal_mask_that_was_lost_is_found(objective):
    """Every output leaks whose answer stands in the input."""

    class Open(EncoderOnly):
        def forward(self, input_ids, attention_mask=None):
            return super().forward(input_ids, attention_mask)

    examples = [{"input_ids": list(range(12)), "example_id": b} for b in range(4)]  # each token once
    report = answer_leaks(objective, with_random_weights(Open(FULL)), examples, SPECIAL)
    batch = objective.collator(SPECIAL)(examples)
    labels = objective.targets(batch)["logits"].labels  # (B, T)
    asked = (labels != -100) & ~SPECIAL.is_special(labels.clamp(min=0))
    visible = asked & (labels[:, :, None] == batch["input_ids"][:, None]).any(-1)
    assert len(report.leaks) == int(visible.sum()) > 0
    assert report.tested == int(asked.sum())


def test_a_visible_token_in_the_loss_of_an_encoder_is_found():
    """Output t - 1 gives token t, as in masked next-token prediction, but of tokens that were not hidden."""

    @options
    class Shifted(MaskedLM):
        name = "shifted"

        def corrupt(self, examples):
            return super().corrupt(examples) | {"labels": examples.tokens}

        def targets(self, batch):
            return {"logits": Target(next_token_labels(batch))}

    objective = Shifted(mask_rate=0.3, mask_replace_prob=1.0, random_replace_prob=0.0)
    report = answer_leaks(objective, reading_model(objective), texts((12,)), SPECIAL)
    visible = objective.collator(SPECIAL)(texts((12,)))["input_ids"][0] != SPECIAL.mask
    assert set(report.leaks) == {("logits", t, 0, t + 1) for t in range(11) if visible[t + 1]}
    assert len(report.leaks) < report.tested == 11  # a hidden answer moves nothing


def test_a_target_one_place_early_leaks_nothing_and_is_for_golden_vectors_to_find():
    """The token after the next one: wrong, and no leak."""

    @options
    class ShiftedTwice(CausalLM):
        name = "shifted twice"

        def targets(self, batch):
            return {"logits": Target(next_token_labels({**batch, "labels": next_token_labels(batch)}))}

    objective = ShiftedTwice()
    assert answer_leaks(objective, reading_model(objective), texts((12,)), SPECIAL).passed


def test_a_change_after_which_other_tokens_are_hidden_is_left_out():
    """A scheme that hides by the ids themselves: what it hides before and after cannot be compared."""

    def odd(tokens, maskable, generator):
        return maskable & (tokens % 2 == 1)

    objective = MaskedLM(scheme=odd, mask_replace_prob=1.0, random_replace_prob=0.0)
    examples = texts((12,))
    report = answer_leaks(objective, reading_model(objective), examples, SPECIAL, alternatives=100)
    assert report.passed
    assert report.tested == sum(token % 2 == 1 for token in examples[0]["input_ids"])


def test_special_ids_are_never_changed_and_padding_is_left_out():
    example = {"input_ids": [5, 6, SPECIAL.eos, 7, 8, SPECIAL.pad], "attention_mask": [1, 1, 1, 1, 1, 0]}
    objective = CausalLM()
    assert answer_leaks(objective, reading_model(objective), [example], SPECIAL).tested == 3  # 6, 7 and 8
    empty = answer_leaks(objective, reading_model(objective), [[SPECIAL.eos]], SPECIAL)
    assert (empty.tested, empty.passed) == (0, False)


def test_an_example_brings_its_own_id_labels_and_a_model_of_logits():
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = with_random_weights(DecoderOnly(FULL))

        def forward(self, input_ids, attention_mask=None):
            return self.inner.unembed(self.inner(input_ids))

    ids = [5, 6, 7, 8, 9, 10]
    example = {"input_ids": ids, "example_id": "a text", "labels": [-100, *ids[1:]]}
    assert answer_leaks(CausalLM(), Theirs(), [example], SPECIAL).tested == 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: answer_leaks(CausalLM, model, [[5, 6]], SPECIAL), "the objective"),
        (lambda model: answer_leaks(CausalLM(), None, [[5, 6]], SPECIAL), "the model"),
        (lambda model: answer_leaks(CausalLM(), model, [[5, 6]], None), "special ids"),
        (lambda model: answer_leaks(CausalLM(), model, [[5, 6]], SPECIAL, alternatives=0), "alternatives"),
        (lambda model: answer_leaks(CausalLM(), model, [[5, 6]], SPECIAL, tolerance=-1), "tolerance"),
        (lambda model: answer_leaks(CausalLM(), model, [[5, VOCAB]], SPECIAL), "must lie in 0"),
        (lambda model: answer_leaks(CausalLM(), model, [{"ids": [5]}], SPECIAL), "input_ids"),
    ],
)
def test_a_wrong_call_names_what_was_expected(call, message):
    with pytest.raises(InputError, match=message):
        call(reading_model(CausalLM()))


def test_moved_middles_are_tested_in_both_orders():
    for form in ("psm", "spm"):
        objective = FillInTheMiddle(form=form, fim_rate=1.0)
        report = answer_leaks(objective, reading_model(objective), texts((14,)), SPECIAL)
        assert report.tested == 14  # PRE stands before all of them, so every token of the text is predicted
        assert report.passed
