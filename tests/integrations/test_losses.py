"""The loss of our objectives on Hugging Face's models: as computed by hand, and right under accumulation.

Eight rows as eight micro-batches of one must give the gradient of eight rows at once. The mean of eight means does not,
wherever rows have different numbers of loss positions: a row of 12 tokens then weighs as much as one of 96.
"""

import pytest
import torch
from packaging.version import Version

transformers = pytest.importorskip("transformers")

from clozelab import OBJECTIVES, MaskedLM  # noqa: E402
from clozelab.errors import InputError  # noqa: E402
from clozelab.objectives import total_counts  # noqa: E402

from .by_hand import by_hand  # noqa: E402

TESTED = "5.23.0"
THEIRS = [name for name, objective in OBJECTIVES.items() if objective.export_refusal is None]
"""Objectives that a model of Hugging Face can be trained on: theirs have no place for a reading rank."""
MEANS = ["causal", "masked", "span"]
"""Objectives whose loss is the one that the models compute themselves: a plain mean over labels."""


def gradient(model):
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad(set_to_none=True)
    return found


def apart(a, b):
    """How far a is from b, as a share of b."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", THEIRS)
@torch.no_grad()
def test_the_loss_on_a_model_of_hugging_face_is_the_one_computed_by_hand(name, make, special, rows):
    objective, model = make(name)
    batch = objective.collator(special)(rows)
    logits = model(**objective.model_inputs(model, batch)).logits
    loss = objective(model, batch).mean
    assert float(loss) == pytest.approx(float(by_hand(objective, logits, batch)), rel=1e-5)
    assert float(objective(logits, batch).mean) == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.parametrize("name", MEANS)
def test_on_one_batch_their_own_loss_is_ours(name, make, special, rows):
    objective, model = make(name)
    batch = objective.collator(special)(rows)
    ours, theirs = objective(model, batch).mean, model(**batch).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    ours.backward()
    our_gradient = gradient(model)
    theirs.backward()
    assert apart(our_gradient, gradient(model)) < 1e-5


@pytest.mark.parametrize("name", THEIRS)
def test_eight_rows_one_at_a_time_have_the_gradient_of_eight_rows_at_once(name, make, special, rows):
    objective, model = make(name)
    rows = [{**row, "example_id": k} for k, row in enumerate(rows)]
    collate = objective.collator(special)
    objective(model, collate(rows)).mean.backward()
    at_once = gradient(model)
    batches = [collate([row]) for row in rows]
    counts = total_counts(objective.counts(batch) for batch in batches)
    for batch in batches:
        objective(model, batch).over(counts).backward()
    assert apart(gradient(model), at_once) < 1e-6
    for batch in batches:
        (objective(model, batch).mean / 8).backward()
    assert apart(gradient(model), at_once) > 0.01  # a mean of means is another gradient


@pytest.mark.parametrize("name", MEANS)
def test_their_own_count_is_used_by_one_of_the_three_models_only(name, make, special, rows):
    """Their Trainer relies on `num_items_in_batch` to divide the sum; BERT and T5 accept it and ignore it."""
    if Version(transformers.__version__) != Version(TESTED):
        pytest.skip(f"observed in {TESTED}")
    objective, model = make(name)
    batch = objective.collator(special)(rows)
    [count] = objective.counts(batch).values()
    ratio = (model(**batch, num_items_in_batch=10 * count).loss / model(**batch).loss).item()
    assert ratio == pytest.approx(0.1 if name == "causal" else 1.0, rel=1e-4)


@pytest.mark.parametrize("name", MEANS)
def test_a_batch_with_nothing_to_predict_adds_zero(name, make, special, rows):
    objective, model = make(name)
    batch = objective.collator(special)(rows[:2])
    batch["labels"] = torch.full_like(batch["labels"], -100)
    loss = objective(model, batch)
    assert (loss.sum.item(), loss.count.item()) == (0, 0)
    loss.sum.backward()
    assert gradient(model).eq(0).all()
    assert model(**batch).loss.isnan()  # theirs


@pytest.mark.parametrize("name", THEIRS)
def test_document_ids_that_a_model_of_hugging_face_would_ignore_are_an_error(name, make, special):
    objective, model = make(name)
    row = {"input_ids": [5, 6, 7, 1] * 8}
    batch = objective.collator(special, within_documents=True)([row])
    with pytest.raises(
        InputError, match=rf"neither {type(model).__name__} nor the {name} objective reads .*document_ids"
    ):
        objective(model, batch)


def test_a_reading_rank_that_gpt2_would_ignore_is_an_error(make, special, rows):
    objective, model = make("prefix")
    with pytest.raises(InputError, match="neither GPT2LMHeadModel nor the prefix objective reads reading_rank"):
        objective(model, objective.collator(special)(rows))


@torch.no_grad()
def test_token_types_reach_bert_where_they_are_kept(make, special):
    objective, model = make("masked")
    row = {"input_ids": list(range(5, 25)), "token_type_ids": [0] * 8 + [1] * 12}
    with pytest.raises(InputError, match="keep="):
        objective.collator(special)([row])
    kept = objective.collator(special, keep=["token_type_ids"])([row])
    assert kept["token_type_ids"].tolist() == [row["token_type_ids"]]
    logits = model(**{key: kept[key] for key in ("input_ids", "attention_mask", "token_type_ids")}).logits
    assert float(objective(model, kept).mean) == pytest.approx(float(by_hand(objective, logits, kept)), rel=1e-6)
    without = objective.collator(special)([{"input_ids": row["input_ids"]}])
    assert float(objective(model, without).mean) != pytest.approx(float(objective(model, kept).mean), rel=1e-4)
    with pytest.raises(InputError, match="token_type_ids"):  # ours has no such types
        MaskedLM()(MaskedLM().build_model(120, "tiny", d_model=16, n_layers=1, n_heads=1), kept)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`")  # its new name is not in 5.0
@pytest.mark.parametrize("name", MEANS)
def test_gradient_checkpointing_changes_no_gradient(name, make, special, rows):
    objective, model = make(name)
    batch = objective.collator(special)(rows)
    objective(model.train(), batch).backward()
    expected = gradient(model)
    model.gradient_checkpointing_enable()
    objective(model, batch).backward()
    assert apart(gradient(model), expected) < 1e-12


@pytest.mark.parametrize("name", MEANS)
def test_under_autocast_the_loss_is_that_of_logits_in_bfloat16(name, make, special, rows):
    objective, model = make(name)
    model, batch = model.float(), objective.collator(special)(rows)
    whole = objective(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**objective.model_inputs(model, batch)).logits
        loss = objective(model, batch)
    assert logits.dtype == torch.bfloat16
    assert loss.sum.dtype == torch.float32
    assert loss.item() == pytest.approx(by_hand(objective, logits.float(), batch).item(), rel=1e-5)
    assert loss.item() == pytest.approx(whole.item(), rel=0.02)
