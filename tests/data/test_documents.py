"""Within documents: nothing of one document reaches another, neither as input nor as target."""

import pytest
import torch

from clozelab import CausalLM, SpanCorruption
from clozelab.data import corrupt_span_batch, shift_targets
from clozelab.objectives import OBJECTIVES, Objective

from .cases import SPECIAL


def random_weights(objective: Objective) -> torch.nn.Module:
    """Fresh blocks are the identity, which no token leaks through: give them random double-precision weights."""
    model = objective.build_model(100, "tiny", d_model=32, n_layers=2).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
    return model.eval()


def test_the_decoder_starts_again_at_each_document():
    """12 tokens, two documents: the second one's first target, 99 .. 23, is predicted from the start id."""
    collate = SpanCorruption(noise_density=0.4, mean_noise_span_length=2.0).collator(SPECIAL, within_documents=True)
    batch = collate.block(torch.tensor([[15, 16, 17, 18, 1, 20, 21, 22, 23, 24, 25, 1]]), [3])
    labels, inputs = batch["labels"][0].tolist(), batch["decoder_input_ids"][0].tolist()
    documents = batch["decoder_document_ids"][0].tolist()
    second = documents.index(1)
    assert documents == [0] * second + [1] * (len(documents) - second)
    assert 0 < second < len(documents)
    assert inputs == [0, *labels[: second - 1], 0, *labels[second:-1]]


def test_a_packed_row_of_span_corruption_is_its_documents_one_by_one():
    """The same masks, the same sentinels: the hidden states of every target token agree to rounding."""
    documents = [[15, 16, 17, 18, 1], [20, 21, 22, 23, 24, 25, 1], [30, 31, 32]]
    hidden = ["00110", "0110010", "011"]
    row = torch.tensor([[token for document in documents for token in document]])
    mask = torch.tensor([[flag == "1" for flag in "".join(hidden)]])
    objective = SpanCorruption(scheme=lambda tokens, maskable, generator: mask[0])
    packed = objective.collator(SPECIAL, within_documents=True).block(row, [0])
    model = random_weights(SpanCorruption())
    together = model(**{key: value for key, value in packed.items() if key != "labels"})[0]

    alone, labels, used = [], [], 0
    for document, flags in zip(documents, hidden):
        spans = corrupt_span_batch(
            torch.tensor([document]),
            torch.tensor([[flag == "1" for flag in flags]]),
            SPECIAL.sentinels[used:],
            eos=1 if document is documents[-1] else None,  # the row's closing end of text belongs to the last one
        )
        used += int(torch.isin(spans.inputs, torch.tensor(SPECIAL.sentinels)).sum())
        alone.append(model(spans.inputs, shift_targets(spans.targets, 0))[0])
        labels += spans.targets[0].tolist()
    assert packed["labels"][0].tolist() == labels
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_no_token_is_predicted_by_the_end_of_another_document():
    """`[30 90 1 40 50 1]`: the loss at 40 would be that of a guess after 30 90 1, which is another text."""
    tokens = torch.tensor([[30, 90, 1, 40, 50, 1]])
    objective = CausalLM()
    within = objective.collator(SPECIAL, within_documents=True).block(tokens, [0])
    across = objective.collator(SPECIAL).block(tokens, [0])
    assert objective.targets(within)["logits"].labels.tolist() == [[90, 1, -100, 50, 1, -100]]
    assert objective.targets(across)["logits"].labels.tolist() == [[90, 1, 40, 50, 1, -100]]


@pytest.mark.parametrize("name", [name for name, made in OBJECTIVES.items() if made.architecture == "decoder-only"])
def test_a_packed_row_of_a_decoder_costs_what_its_documents_cost(name):
    """Each document corrupted as it is in the row, but in a row of its own."""
    objective = OBJECTIVES[name]()
    model = random_weights(objective)
    tokens = torch.tensor([[15, 16, 17, 18, 1, 20, 21, 22, 23, 24, 25, 1, 30, 31, 32]])
    for example_id in range(5):
        packed = objective.collator(SPECIAL, within_documents=True).block(tokens, [example_id])
        whole = objective(model, packed)
        parts = []
        for d in range(3):
            here = packed["document_ids"][0] == d
            of_document = {key: value[:, here] if value.dim() > 1 else value for key, value in packed.items()}
            parts.append(objective(model, of_document))
        for name, part in whole.items():
            assert "count" in packed or sum(int(one[name].count) for one in parts) == int(part.count)
            torch.testing.assert_close(sum(one[name].sum for one in parts), part.sum, rtol=1e-12, atol=0)
