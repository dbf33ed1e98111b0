"""Prefix, diffusion and fill-in-the-middle batches are checked for what they are, and padding in every batch."""

import pytest
import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives.fill_in_the_middle import RoleIds, move_middle
from clozelab.testing import CheckFailed, check_collator

ROLES = {"fim_prefix": 3, "fim_suffix": 4, "fim_middle": 5, "fim_end": 6}
SPECIAL = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1), roles=ROLES)


def changed(objective, change):
    """A collator that is not clozelab's: a function around one."""
    inner = objective.collator(SPECIAL)

    class Changed:
        def __call__(self, examples):
            texts = [torch.as_tensor(example["input_ids"]) for example in examples]
            text = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=0)
            return change(inner(examples), text)

        def set_epoch(self, epoch):
            inner.set_epoch(epoch)

    return Changed()


def same(batch, text):
    return batch


@pytest.mark.parametrize(
    ("objective", "kind", "checks"),
    [
        (PrefixLM(), "prefix", ["prefix"]),
        (MaskedDiffusion(), "weighted", ["hidden", "levels"]),
        (MaskedDiffusion(exact_count=False), "weighted", ["hidden", "levels"]),
        (FillInTheMiddle(), "middle", ["middle"]),
        (FillInTheMiddle(fim_rate=1.0, form="psm"), "middle", ["middle"]),
        (FillInTheMiddle(fim_rate=1.0, form="spm"), "middle", ["middle"]),
        (SpanCorruption(scheme="rolled-spans"), "spans", ["round trip", "decoder"]),
        (MaskedLM(scheme="bernoulli"), "masked", ["partition"]),
        (CausalLM(), "next-token", ["labels"]),
    ],
    ids=repr,
)
def test_the_kind_is_found_and_a_right_batch_passes(objective, kind, checks):
    for collator in (objective.collator(SPECIAL), changed(objective, same)):
        report = check_collator(collator, SPECIAL, workers=0)
        assert report.passed
        assert report.findings["returns"].found.startswith(f"{kind} batches")
        assert {report.findings[check].verdict for check in checks} == {"ok"}
        asked = {"noise", "corruption", "progress"} - set(report.not_checked)
        assert len(asked) == (3 if hasattr(collator, "corrupt") else 0)


@pytest.mark.parametrize(
    "objective", [PrefixLM(), MaskedDiffusion(), FillInTheMiddle(), MaskedLM(), CausalLM()], ids=repr
)
@pytest.mark.parametrize("settings", [{"within_documents": True}, {"pad_to_multiple_of": 8}], ids=str)
def test_settings_of_our_collators_make_no_fault(objective, settings):
    assert check_collator(objective.collator(SPECIAL, **settings), workers=0).passed


def test_what_does_not_apply_is_listed_in_one_line():
    report = check_collator(changed(CausalLM(), same), SPECIAL, workers=0)
    assert "middle" in report.not_checked
    [line] = [line for line in str(report).splitlines() if "partition" in line]
    assert line.startswith("  not checked targets, nothing to hide, ")
    assert line.endswith("not of a batch of the kind next-token")


def rank_from_the_left(batch, text):
    return batch | {"reading_rank": torch.arange(text.shape[1]).expand(text.shape)}


def prefix_one_too_long(batch, text):
    return batch | {"reading_rank": (batch["reading_rank"] - 1).clamp(min=0)}


def prefix_in_the_loss(batch, text):
    first = batch["labels"] != IGNORED
    return batch | {"labels": torch.where(first | first.roll(-1, 1), text, IGNORED)}


def rest_cut(batch, text):
    last = batch["attention_mask"].sum(1, keepdim=True) - 1
    return batch | {"labels": batch["labels"].masked_fill(torch.arange(text.shape[1]) == last, IGNORED)}


def zero_for_hidden(batch, text):
    return batch | {"input_ids": batch["input_ids"].masked_fill(batch["input_ids"] == 2, 50)}


def all_labels(batch, text):
    return batch | {"labels": text.masked_fill(batch["attention_mask"] == 0, IGNORED)}


def weights_at_padding(batch, text):
    return batch | {"weights": batch["weights"].amax(1, keepdim=True).expand(text.shape)}


def count_of_hidden(batch, text):
    return batch | {"count": (batch["labels"] != IGNORED).sum(1)}


def count_of_the_width(batch, text):
    return batch | {"count": torch.full_like(batch["count"], text.shape[1])}


def end_not_in_the_loss(batch, text):
    return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == 6, IGNORED)}


def roles_exchanged(batch, text):
    ids = batch["input_ids"]
    return batch | {"input_ids": ids.masked_fill(ids == 4, 5).masked_fill(ids == 5, 4)}


def token_lost(batch, text):
    """The token behind MID is gone: another takes its place."""
    ids = batch["input_ids"].clone()
    behind = (ids == 5).roll(1, 1) & (ids > 6)
    return batch | {key: batch[key].masked_fill(behind, 90) for key in ("input_ids", "labels")}


def mask_of_ones(batch, text):
    return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}


def labels_at_padding(batch, text):
    return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == IGNORED, 0)}


@pytest.mark.parametrize(
    ("objective", "change", "check"),
    [
        (PrefixLM(), rank_from_the_left, "prefix"),
        (PrefixLM(), prefix_one_too_long, "prefix"),
        (PrefixLM(), prefix_in_the_loss, "prefix"),
        (PrefixLM(), rest_cut, "prefix"),
        (MaskedDiffusion(), zero_for_hidden, "hidden"),
        (MaskedDiffusion(), all_labels, "hidden"),
        (MaskedDiffusion(), weights_at_padding, "hidden"),
        (MaskedDiffusion(), count_of_hidden, "hidden"),
        (MaskedDiffusion(), count_of_the_width, "hidden"),
        (FillInTheMiddle(), end_not_in_the_loss, "middle"),
        (FillInTheMiddle(), roles_exchanged, "middle"),
        (FillInTheMiddle(), token_lost, "middle"),
        (MaskedLM(), mask_of_ones, "padding"),
        (SpanCorruption(), mask_of_ones, "padding"),
        (SpanCorruption(), labels_at_padding, "padding"),
        (CausalLM(), labels_at_padding, "padding"),
    ],
    ids=lambda one: getattr(one, "__name__", getattr(one, "name", one)),
)
def test_a_fault_of_a_batch_is_found_by_its_check(objective, change, check):
    with pytest.raises(CheckFailed) as failed:
        check_collator(changed(objective, change), SPECIAL, workers=0)
    assert check in failed.value.report.faults


class Diffusion:
    """A diffusion collator of somebody's own, with noise by text and epoch."""

    def __init__(self, level):
        self.level, self.epoch = level, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __call__(self, examples):
        rows = [torch.as_tensor(example["input_ids"]) for example in examples]
        text = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=0)
        noise = torch.full(text.shape, 2.0)
        ks, ns = [], []
        for b, row in enumerate(rows):
            seed = hash((self.epoch, *row.tolist())) % 2**31
            generator = torch.Generator().manual_seed(seed)
            n = len(row)
            u = float(torch.rand(1, generator=generator))
            noise[b, :n] = torch.rand(n, generator=generator)
            ks.append(max(1, min(n, self.level(u, n, noise[b]))))
            ns.append(n)
        k, n = torch.tensor(ks)[:, None], torch.tensor(ns)
        hidden = noise.argsort(1).argsort(1) < k
        is_token = torch.arange(text.shape[1]) < n[:, None]
        return {
            "input_ids": text.masked_fill(hidden, 2),
            "labels": text.masked_fill(~hidden, IGNORED),
            "weights": (n[:, None] / k) * is_token,
            "count": n,
            "attention_mask": is_token.long(),
        }


def test_the_levels_of_somebody_elses_diffusion_are_checked():
    right = Diffusion(lambda u, n, noise: 1 + int(u * n))
    assert check_collator(right, SPECIAL, workers=0).findings["levels"].verdict == "ok"
    for wrong in (
        lambda u, n, noise: n // 2 + int(u * (n - n // 2)) + 1,  # never few
        lambda u, n, noise: 1 + int(float(noise[0]) * n),  # one stream for level and choice
        lambda u, n, noise: round(u * n),  # the ends half as often
    ):
        with pytest.raises(CheckFailed) as failed:
            check_collator(Diffusion(wrong), SPECIAL, workers=0)
        assert "levels" in failed.value.report.faults


class Middle:
    """Fill-in-the-middle of somebody's own, which never cuts at the ends, or moves nothing."""

    def __init__(self, always):
        self.always, self.epoch = always, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __call__(self, examples):
        rows = []
        for example in examples:
            *text, end = list(example["input_ids"])
            generator = torch.Generator().manual_seed(hash((self.epoch, *text)) % 2**31)
            n = len(text)
            cuts = (1 + torch.rand(2, generator=generator) * max(n - 1, 0)).long().sort().values.tolist()
            cuts = self.always or cuts
            rows.append([*move_middle(text, *cuts, RoleIds(3, 4, 5, 6), spm=False), end])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=0)
        is_token = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
        return {"input_ids": ids, "labels": ids.masked_fill(~is_token, IGNORED), "attention_mask": is_token.long()}


def test_cuts_of_somebody_elses_are_noted_and_a_frozen_one_is_a_fault():
    finding = check_collator(Middle(None), SPECIAL, workers=0).findings["middle"]
    assert finding.verdict == "note"
    assert finding.found.startswith("no cut lies at [0, 6] of 0 .. 6")
    with pytest.raises(CheckFailed) as failed:
        check_collator(Middle([2, 3]), SPECIAL, workers=0)
    assert "epochs" in failed.value.report.faults


def test_tokens_that_are_lost_are_found_and_asked_about_where_the_kind_is_not_known():
    def one_in_ten_replaced(batch, text):
        odd = (text * 7 % 10 == 0) & (batch["labels"] == IGNORED) & (text > 6)
        return batch | {"input_ids": batch["input_ids"].masked_fill(odd, 50)}

    with pytest.raises(CheckFailed) as failed:
        check_collator(changed(MaskedLM(), one_in_ten_replaced), SPECIAL, workers=0)
    assert "recovered" in failed.value.report.faults
    report = check_collator(changed(MaskedLM(), one_in_ten_replaced), SPECIAL, workers=0, kind="other")
    assert report.findings["recovered"].verdict == "not checked"
    assert "is that meant?" in report.findings["recovered"].found


def test_data_that_the_scheme_asks_for_must_be_given():
    def scheme(tokens, maskable, generator, kinds):
        noise = torch.rand(len(tokens), generator=generator) + 0.1 * kinds
        return maskable & (noise <= noise.masked_fill(~maskable, 9).sort().values[len(tokens) // 8])

    collator = MaskedLM(scheme=scheme).collator(SPECIAL)
    with pytest.raises(InputError, match="needs kinds of each example: give example="):
        check_collator(collator)
    data = {"example": lambda ids: {"input_ids": ids, "kinds": [int(token) % 3 for token in ids]}}
    assert check_collator(collator, workers=0, **data).passed


def test_x_and_y_one_place_on_are_causal():
    def pairs(examples):
        rows = [torch.as_tensor(example["input_ids"]) for example in examples]
        x, y = (
            torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True, padding_value=fill)
            for part, fill in (((row[:-1] for row in rows), 0), ((row[1:] for row in rows), IGNORED))
        )
        return {"input_ids": x, "labels": y, "attention_mask": (x != 0).long()}

    report = check_collator(pairs, SPECIAL, workers=0)
    assert report.passed
    assert report.findings["labels"].found.startswith("labels are the inputs shifted by one already")


def pairs_of(examples):
    """Supervised pairs: nothing is hidden of the source, and the labels are another text."""
    ids, labels = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(one[key]) for one in examples], True, fill)
        for key, fill in (("input_ids", 0), ("labels", IGNORED))
    )
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids != 0).long()}


def test_pairs_of_a_source_and_a_target_are_of_no_known_kind():
    def example(ids):
        return {"input_ids": list(ids), "labels": sorted(map(int, ids))}

    report = check_collator(pairs_of, SPECIAL, workers=0, example=example)
    assert report.passed
    assert {"labels", "padding", "targets"} <= set(report.not_checked)


def test_rows_that_are_packed_into_one_are_not_checked_and_not_passed():
    def flat(examples):
        ids = torch.cat([torch.as_tensor(one["input_ids"]) for one in examples])[None]
        places = torch.cat([torch.arange(len(one["input_ids"])) for one in examples])[None]
        return {"input_ids": ids, "labels": ids.clone(), "position_ids": places}

    report = check_collator(flat, SPECIAL, workers=0)
    assert not report.faults
    assert not report.passed
    assert report.missing == ["returns"]
    assert report.counts["passed"] == 0


@pytest.mark.parametrize("change", [lambda batch, text: list(batch.values()), lambda batch, text: {"input_ids": text}])
def test_what_is_no_batch_is_one_fault(change):
    with pytest.raises(CheckFailed, match=r"FAULT +returns: (returns a list, not a dict|'labels' of 3 texts must be)"):
        check_collator(changed(CausalLM(), change), SPECIAL, workers=0)


@pytest.mark.parametrize("places", [(2, 0), (0, 1)])
def test_labels_of_other_places_or_texts_are_found(places):
    """Both are next tokens, and wrong."""

    def rolled(batch, text):
        return batch | {"labels": batch["labels"].roll(places, (1, 0))}

    with pytest.raises(CheckFailed) as failed:
        check_collator(changed(CausalLM(), rolled), SPECIAL, workers=0)
    assert "labels" in failed.value.report.faults
