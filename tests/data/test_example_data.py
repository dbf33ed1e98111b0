"""Data of an example: what schemes ask for, what is hidden and not in the loss, and how batches are filled up."""

import pytest
import torch

from clozelab.data import IGNORED, Collator, SpecialIds, rolled_mask, scheme_keys
from clozelab.errors import InputError
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    PrefixLM,
    SpanCorruption,
)

from . import cases

ROLES = {role: 90 + n for n, role in enumerate(cases.ROLES)}
ENDS = torch.arange(90 + len(ROLES)) % 7 == 0
SPECIAL = SpecialIds(len(ENDS), pad=0, eos=1, mask=2, sentinels=range(89, 79, -1), roles=ROLES, ends_sentence=ENDS)


# ------------------------------------------------------------------ schemes that ask for data


def hide_entities(tokens, maskable, generator, entity_ids):
    """One entity of the example, and nothing else."""
    entities = entity_ids[entity_ids > 0].unique()
    chosen = entities[torch.randint(len(entities), (1,), generator=generator)]
    return maskable & (entity_ids == chosen)


def test_a_scheme_gets_the_data_of_its_own_example():
    examples = [
        {"input_ids": [10, 11, 12, 13, 14], "entity_ids": [0, 1, 1, 0, 2]},
        {"input_ids": [20, 21, 22], "entity_ids": [3, 0, 3]},
    ]
    for objective in (MaskedLM(scheme=hide_entities, mask_replace_prob=1.0, random_replace_prob=0.0),):
        batch = objective.collator(SPECIAL)(examples)
        assert (batch["labels"][1] != IGNORED).tolist() == [True, False, True, False, False]
        assert (batch["labels"][0] != IGNORED).tolist() in ([False, True, True, False, False], [False] * 4 + [True])
        assert "entity_ids" not in batch  # read here, and not passed on
    spans = SpanCorruption(scheme=hide_entities).collator(SPECIAL)(examples[1:])
    assert spans["labels"].tolist() == [[89, 20, 88, 22, 1]]


def test_padding_that_an_example_brought_is_removed_from_its_data_too():
    padded = {"input_ids": [0, 0, 20, 21, 22], "entity_ids": [7, 7, 3, 0, 3], "attention_mask": [0, 0, 1, 1, 1]}
    batch = MaskedLM(scheme=hide_entities).collator(SPECIAL)([padded])
    assert (batch["labels"] != IGNORED).tolist() == [[True, False, True]]


def test_a_scheme_gets_words_and_documents_without_a_key():
    def hide_the_second_word(tokens, maskable, generator, word_ids):
        return maskable & (word_ids == 1)

    def hide_the_second_document(tokens, maskable, generator, document_ids):
        return maskable & (document_ids == 1)

    batch = MaskedLM(scheme=hide_the_second_word).collator(SPECIAL)(
        [{"input_ids": [10, 11, 12, 13], "word_ids": [0, 1, 1, 2]}]
    )
    assert (batch["labels"] != IGNORED).tolist() == [[False, True, True, False]]
    by_document = MaskedLM(scheme=hide_the_second_document)
    batch = by_document.collator(SPECIAL, within_documents=True)([[10, 11, 1, 12, 13]])
    assert (batch["labels"] != IGNORED).tolist() == [[False, False, False, True, True]]
    with pytest.raises(InputError, match="within_documents=True"):
        by_document.collator(SPECIAL)([[10, 11, 1, 12, 13]])


def test_what_a_scheme_reads_may_be_kept_too_and_what_the_collator_reads_may_not():
    example, objective = {"input_ids": [20, 21, 22], "entity_ids": [3, 0, 3]}, MaskedLM(scheme=hide_entities)
    batch = objective.collator(SPECIAL, keep=["entity_ids"])([example])
    assert (batch["labels"] != IGNORED).tolist() == [[True, False, True]]
    assert batch["entity_ids"].tolist() == [[3, 0, 3]]
    with pytest.raises(InputError, match="the collator reads word_ids itself and passes none on"):
        objective.collator(SPECIAL, keep=["entity_ids", "word_ids"])


def test_what_a_scheme_asks_for_and_does_not_get_is_named():
    objective = MaskedLM(scheme=hide_entities)
    with pytest.raises(InputError, match="example 1 has no entity_ids"):
        objective.collator(SPECIAL)([{"input_ids": [10], "entity_ids": [1]}, {"input_ids": [11]}])
    with pytest.raises(InputError, match="packed tokens do not have"):
        objective.collator(SPECIAL).block(torch.arange(10, 18)[None], [0])
    with pytest.raises(InputError, match="has 'entity_ids', which the collator does not read"):
        MaskedLM().collator(SPECIAL)([{"input_ids": [10], "entity_ids": [1]}])


def test_parameters_with_a_default_are_the_schemes_own():
    assert scheme_keys(lambda tokens, maskable, generator, rate=0.15: maskable) == ()
    assert scheme_keys(lambda tokens, maskable, generator, *, sentences: maskable) == ("sentences",)
    assert scheme_keys(torch.ones_like) == ()


# ------------------------------------------------------------------ hidden, and not in the loss


@pytest.mark.parametrize("objective", [MaskedLM(mask_rate=0.9), MaskedDiffusion(), CausalLM(), PrefixLM()], ids=repr)
def test_a_token_may_be_hidden_and_not_in_the_loss(objective):
    text = list(range(10, 30))
    examples = [{"input_ids": text, "loss_mask": [1] * 10 + [0] * 10, "example_id": b} for b in range(20)]
    without = [{"input_ids": text, "example_id": b} for b in range(20)]
    batch, plain = objective.collator(SPECIAL)(examples), objective.collator(SPECIAL)(without)
    assert torch.equal(batch["input_ids"], plain["input_ids"])  # hidden all the same
    assert (batch["labels"][:, 10:] == IGNORED).all()
    assert torch.equal(batch["labels"][:, :10], plain["labels"][:, :10])
    assert (plain["labels"][:, 10:] != IGNORED).any()


def test_spans_and_middles_keep_their_structure_in_the_loss():
    text, half = list(range(10, 30)), [1] * 10 + [0] * 10
    collate = SpanCorruption(noise_density=0.5, mean_noise_span_length=2.0).collator(SPECIAL)
    batch, plain = collate([{"input_ids": text, "loss_mask": half}]), collate([text])
    assert torch.equal(batch["input_ids"], plain["input_ids"])
    assert torch.equal(batch["decoder_input_ids"], plain["decoder_input_ids"])
    kept = batch["labels"] != IGNORED
    assert ((plain["labels"] < 20) | (plain["labels"] > 29))[kept].all()  # no token of the second half,
    assert plain["labels"][~kept].tolist()[-1] in range(20, 30)
    assert kept[0, -1]  # and the end of text
    moved = FillInTheMiddle(fim_rate=1.0).collator(SPECIAL)([{"input_ids": text, "loss_mask": half}])
    out = moved["labels"] == IGNORED
    assert moved["input_ids"][out].sort().values.tolist() == list(range(20, 30))


# ------------------------------------------------------------------ the shape of batches


@pytest.mark.parametrize(
    "objective",
    [MaskedLM(), CausalLM(), PrefixLM(), MaskedDiffusion(), SpanCorruption(), FillInTheMiddle()],
    ids=lambda o: o.name,
)
def test_rows_are_filled_up_to_a_multiple(objective):
    examples = [list(range(10, 10 + n)) for n in (13, 21)]
    plain = objective.collator(SPECIAL)(examples)
    filled = objective.collator(SPECIAL, pad_to_multiple_of=16)(examples)
    for key, value in plain.items():
        if value.dim() == 1:
            assert torch.equal(filled[key], value)
            continue
        assert filled[key].shape[1] % 16 == 0
        assert torch.equal(filled[key][:, : value.shape[1]], value)
        rest = filled[key][:, value.shape[1] :]
        assert (rest == (IGNORED if key == "labels" else 0)).all()  # the pad is 0 here
    assert "pad_to_multiple_of=16" in repr(objective.collator(SPECIAL, pad_to_multiple_of=16))


def test_kept_keys_are_refused_where_rows_change_though_the_width_does_not():
    """A row of 9 whose middle is moved is as wide as an unmoved one of 13."""
    objective, in_place = FillInTheMiddle(fim_rate=0.5), []
    for b in range(20):
        rows = [{"input_ids": list(range(10, 10 + n)), "example_id": b} for n in (9, 13)]
        in_place.append(objective.collator(SPECIAL)(rows)["attention_mask"].sum(1).tolist() == [9, 13])
        collate = objective.collator(SPECIAL, keep="score")
        scored = [{**row, "score": row["input_ids"]} for row in rows]
        if in_place[-1]:
            batch = collate(scored)
            assert torch.equal(batch["score"], batch["input_ids"])
            continue
        with pytest.raises(InputError, match="changes the number of tokens"):
            collate(scored)
    assert any(in_place)
    assert not all(in_place)


def test_a_default_device_of_torch_does_not_reach_the_collator():
    with torch.device("meta"):
        collate = MaskedLM().collator(SPECIAL)
        batch = collate([[10, 11, 12], [13, 14]])
        block = collate.block([[10, 11, 12]], [0])
    assert {value.device.type for value in [*batch.values(), *block.values()]} == {"cpu"}


@pytest.mark.parametrize("cls", OBJECTIVES.values(), ids=OBJECTIVES)
def test_empty_texts_have_nothing_to_predict_and_no_texts_make_an_empty_batch(cls):
    batch = cls().collator(SPECIAL)([[], [10, 11, 12], {"input_ids": [0, 0], "attention_mask": [0, 0]}])
    counts = torch.stack([target.row_counts for target in cls().targets(batch).values()])  # (parts, 3)
    assert (counts > 0).any(0).tolist() == [False, True, False]
    assert bool(counts[0, 1] > 0)
    none = cls().collator(SPECIAL).block(torch.zeros(0, 5, dtype=torch.int64), [])
    assert none["input_ids"].shape[0] == none["labels"].shape[0] == 0


# ------------------------------------------------------------------ progress


def test_progress_reaches_both_forms_of_the_collator():
    seen = []

    def corrupt(examples):
        seen.append(examples.progress)
        return {"input_ids": examples.tokens, "attention_mask": examples.is_token.long(), "labels": examples.answers}

    collate = Collator(corrupt, SPECIAL)
    collate([[10, 11]])
    collate.set_progress(0.25)
    collate([[10, 11]])
    collate.block([[10, 11]], [0])
    collate.block([[10, 11]], [0], progress=0.5)
    assert seen == [1.0, 0.25, 0.25, 0.5]
    with pytest.raises(InputError, match="progress lies in"):
        collate.set_progress(1.5)


# ------------------------------------------------------------------ T5's roll


def test_rolled_spans_hide_all_places_alike_and_the_default_does_not():
    rows, n = 4000, 20
    tokens = torch.arange(10, 10 + n).expand(rows, n)
    hidden = {}
    for scheme in ("random-spans", "rolled-spans"):
        objective = SpanCorruption(noise_density=0.25, mean_noise_span_length=5.0, scheme=scheme)
        batch = objective.collator(SPECIAL).block(tokens, range(rows))
        hidden[scheme] = torch.stack([(batch["labels"] == token).sum() for token in tokens[0]]) / rows
    assert hidden["random-spans"].tolist() == [0.0] * 15 + [1.0] * 5  # always the same mask
    torch.testing.assert_close(hidden["rolled-spans"], torch.full((n,), 0.25), atol=5 * (0.19 / rows) ** 0.5, rtol=0)


def test_a_mask_is_rolled_by_each_offset_among_what_may_be_hidden():
    maskable = torch.tensor([[True, False, True, True, True]])
    mask = torch.tensor([[True, False, True, False, False]])
    rolled = [rolled_mask(mask, maskable, torch.tensor([[k / 4]]))[0].long().tolist() for k in range(4)]
    assert rolled == [[1, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 1]]


def test_the_inputs_of_rolled_spans_and_of_a_scheme_of_your_own_never_exceed_the_length():
    for objective in (
        SpanCorruption(scheme="rolled-spans"),
        SpanCorruption(scheme=lambda tokens, maskable, generator: maskable & (torch.arange(len(tokens)) % 2 == 0)),
    ):
        n = objective.source_length(64)
        batch = objective.collator(SpecialIds(200, pad=0, eos=1, sentinels=range(199, 160, -1))).block(
            torch.arange(10, 10 + n).expand(300, n), range(300)
        )
        assert 62 <= batch["input_ids"].shape[1] <= 64
