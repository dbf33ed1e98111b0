"""Causal LM: one shift, here; documents; labels that are shifted already."""

import pytest
import torch
import torch.nn.functional as F

from clozelab import CausalLM, InputError
from clozelab.objectives import next_token_labels

from .cases import SPECIAL, VOCAB, batch_of, reading_model, texts


def test_labels_are_shifted_once_and_here():
    """A model that is certain of the next token has no loss; one that is certain of its own token has."""
    labels = torch.tensor([[5, 6, 7, 8]])
    following = F.one_hot(torch.tensor([[6, 7, 8, 9]]), VOCAB).float() * 100
    same = F.one_hot(labels, VOCAB).float() * 100
    assert CausalLM()(following, labels).item() < 1e-6
    assert CausalLM()(same, labels).item() > 50


def test_the_batch_is_the_text_itself():
    batch = batch_of(CausalLM(), (5, 3))
    assert torch.equal(batch["labels"][0], batch["input_ids"][0])
    assert batch["labels"][1, 3:].tolist() == [-100, -100]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]


def test_padding_on_the_left_predicts_nothing():
    """`[0, 1, 1]` and a hole: the output at a pad is in no loss, whatever stands behind it."""
    labels, mask = torch.tensor([[7, 5, 6], [5, 7, 6]]), torch.tensor([[0, 1, 1], [1, 0, 1]])
    assert next_token_labels({"labels": labels, "attention_mask": mask}).tolist() == [[-100, 6, -100], [7, -100, -100]]
    [row] = CausalLM().collator(SPECIAL)([{"input_ids": [9, 5, 9, 6], "attention_mask": [0, 1, 0, 1]}])["input_ids"]
    assert row.tolist() == [5, 6]  # the collator removes what a row brings


def test_a_document_is_not_predicted_by_the_one_before_it():
    """Within documents the first token of a later one is in no loss: nothing that may be read tells it."""
    text = torch.tensor([[30, 31, SPECIAL.eos, 20, 21, SPECIAL.eos]])
    objective = CausalLM()
    batch = objective.collator(SPECIAL, within_documents=True).block(text, [0])
    assert objective.targets(batch)["logits"].labels.tolist() == [[31, SPECIAL.eos, -100, 21, SPECIAL.eos, -100]]
    apart = objective.collator(SPECIAL)([text[0, :3].tolist(), text[0, 3:].tolist()])
    model = reading_model(objective)
    packed, separate = objective(model, batch), objective(model, apart)
    assert packed.count == separate.count == 4
    assert packed.item() == pytest.approx(separate.item(), rel=1e-12)


def test_labels_that_are_already_shifted_are_refused():
    batch, model = batch_of(CausalLM(), (10, 10)), reading_model(CausalLM())
    shifted = torch.cat([batch["labels"][:, 1:], torch.full((2, 1), -100)], 1)
    with pytest.raises(InputError, match="already shifted by one"):
        CausalLM()(model, {**batch, "labels": shifted})
    same = torch.full((2, 10), 5)
    CausalLM()(model, {**batch, "input_ids": same, "labels": same})  # where both readings agree, none is refused
    one = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 7, -100]])}
    with pytest.raises(InputError, match="already shifted by one"):  # by the one label that there is
        CausalLM()(model, one)


def test_labels_of_your_own_are_left_out_where_they_are_ignored():
    examples = [{**text, "labels": [-100] * 4 + text["input_ids"][4:]} for text in texts((8, 8))]
    batch = CausalLM().collator(SPECIAL)([*examples, texts((8,))[0]])
    assert (batch["labels"] != -100).sum(1).tolist() == [4, 4, 8]  # a row without labels keeps all of its own
