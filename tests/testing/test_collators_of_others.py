"""Collators of other people: their own diffusion, fill-in-the-middle, pairs, packed rows."""

import pytest
import torch

from clozelab import CausalLM
from clozelab.data import IGNORED
from clozelab.objectives.fill_in_the_middle import RoleIds, move_middle
from clozelab.testing import CheckFailed, check_collator

from .test_collator_kinds import SPECIAL, changed


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
