"""The page of `show`: its data are the tensors of the batches, and no text can break out of it."""

import pytest
import torch

from clozelab.data import IGNORED
from clozelab.display import show_objectives, show_page, word_tokenizer
from clozelab.display.pages.cards import runs
from clozelab.display.pages.colours import DARK_PAPER, LIGHT_PAPER, SEEN, contrast, ink_on, readable
from clozelab.display.tokens import token_texts
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES, CausalLM, MaskedLM, PrefixLM, SpanCorruption, options

from .pages import Page, decoded

TEXT = "Thank you for inviting me to your party last week ."
HOSTILE = "a </script><script>alert(1)</script> <img src=x onerror=alert(1)> \x1b[31m \u2028 \" & ' <!-- {{ 7 }} $"


def tokenizer_of(objectives, text=TEXT):
    return word_tokenizer(text, roles=sorted({role for one in objectives for role in one.roles}))


@pytest.fixture(scope="module")
def family():
    """Every objective, its tokenizer, and the data of the page."""
    objectives = [kind() for kind in OBJECTIVES.values()]
    tokenizer = tokenizer_of(objectives)
    page = show_page(objectives, tokenizer, TEXT, seeds=[3, 4], epochs=[0, 2], rates=[0.5])
    return objectives, tokenizer, Page(page).data


def batches_of(family, card, objective):
    """(the batch of the page, the collator's, the objective that made it) of each seed, epoch and rate."""
    _, tokenizer, data = family
    rate = card["rate"]
    tokens = torch.tensor([tokenizer.encode(TEXT)])
    for s, seed in enumerate(data["seeds"]):
        for e, epoch in enumerate(data["epochs"]):
            for r, value in enumerate(rate["values"] if rate else [None]):
                made = type(objective)(**{rate["name"]: value}) if rate else objective
                batch = made.collator(tokenizer.special, seed=seed).block(tokens, [0], epoch=epoch)
                yield card["batches"][card["at"][s][e][r]], batch, made


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_data_are_the_tensors_and_each_target_reads_what_the_objective_declares(name, family):
    objectives, _, data = family
    place = [one.name for one in objectives].index(name)
    card = data["objectives"][place]
    for shown, batch, objective in batches_of(family, card, objectives[place]):
        for sequence in shown["sequences"]:
            assert sequence["ids"] == batch[sequence["key"]][0].tolist()
        reads, targets = objective.reads(batch), objective.targets(batch)
        assert [one["name"] for one in shown["outputs"]] == [*targets]
        for output in shown["outputs"]:
            target = targets[output["name"]]
            assert output["labels"] == target.labels[0].tolist()
            assert output["count"] == int(target.row_counts.sum())
            assert output["weight"] == target.weight
            if target.weights is not None:
                assert output["weights"] == pytest.approx(target.weights[0].tolist(), rel=1e-3)
            in_loss = [label != IGNORED for label in output["labels"]]
            assert [why is not None for why in output["why"]] == in_loss
            for key, rows in output["reads"].items():
                declared = reads[output["name"], key][0]
                found = [decoded(card["reads"][row]) for row in rows]
                assert found == [{*row.nonzero().flatten().tolist()} for row in declared]
            assert {key for one, key in reads if one == output["name"]} == {*output["reads"]}


def test_ids_are_written_as_in_the_terminal(family):
    _, tokenizer, data = family
    ids = [int(one) for one in data["names"]]
    assert [*data["names"].values()] == token_texts(tokenizer, ids)
    labels = {
        one for card in data["objectives"] for batch in card["batches"] for o in batch["outputs"] for one in o["labels"]
    }
    read = {
        one for card in data["objectives"] for batch in card["batches"] for s in batch["sequences"] for one in s["ids"]
    }
    assert (labels | read) - {IGNORED} <= {*ids}


def why_of(objective, seed=0):
    """(word, clause) of each target of the first output."""
    tokenizer = tokenizer_of([objective])
    page = show_page([objective], tokenizer, TEXT, seeds=[seed], epochs=[0], rates=[])
    data = Page(page).data
    [card] = data["objectives"]
    [batch] = card["batches"]
    output, names = batch["outputs"][0], data["names"]
    clauses = [None if one is None else card["reasons"][one] for one in output["why"]]
    return [(names[str(one)], clause) for one, clause in zip(output["labels"], clauses) if clause], batch


@pytest.mark.parametrize(
    ("random", "how", "clause"),
    [(1.0, "random", "another token drawn at random"), (0.0, "kept", "stays visible")],
    ids=["random", "kept"],
)
def test_random_and_kept_tokens_are_marked_and_said(random, how, clause):
    found, batch = why_of(MaskedLM(mask_rate=0.3, mask_replace_prob=0.0, random_replace_prob=random))
    assert len(found) == 3
    assert all(clause in reason for _, reason in found)
    assert [*batch["sequences"][0]["hidden_as"].values()] == [how] * 3


def test_a_sentence_says_why_a_target_is_in_the_loss():
    assert {reason for _, reason in why_of(CausalLM())[0]} == {"it is the next token, which is not read yet"}
    hidden = why_of(MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0))[0]
    assert {reason for _, reason in hidden} == {"it is hidden: the model reads {read} in its place"}
    first, *run, last = why_of(SpanCorruption())[0]
    assert (first[0], first[1].partition(":")[0]) == ("<0>", "it is a sentinel")
    assert {reason for _, reason in run} == {"it is in the hidden run behind <0>, which the encoder does not read"}
    assert last == ("</s>", "it ends the targets: the model must predict where they end")


def test_an_objective_whose_outputs_read_their_targets_is_told_so():
    @options
    class Leaking(CausalLM):
        name = "leaking"

        def reads(self, batch):
            return {one: torch.ones_like(reads) for one, reads in super().reads(batch).items()}

    assert {reason for _, reason in why_of(Leaking())[0]} == {
        "it is a token to come. But it is read already, which is a leak"
    }


def test_no_text_breaks_out_of_the_page_and_control_characters_are_seen():
    objectives = [MaskedLM(), CausalLM()]
    tokenizer = tokenizer_of(objectives, HOSTILE)
    few = {"seeds": [0], "epochs": [0]}
    page = show_page(objectives, tokenizer, HOSTILE, **few)
    found = Page(page)
    assert page.count("</script>") == len([one for one, _ in found.elements if one == "script"]) == 2
    assert not [one for one, given in found.elements if one == "img" or any(name.startswith("on") for name in given)]
    assert not {sign for sign in page if sign < " " and sign != "\n"} | {*page} & {"\u2028", "\x7f"}
    assert {"\\u001b", "\u001b"}.isdisjoint(found.data["names"].values())
    assert "␛" in "".join(found.data["objectives"][0]["text"])
    embedded = show_page(objectives, tokenizer, HOSTILE, embed=True, **few)
    assert [name for name, _ in Page(embedded).elements] == ["iframe"]
    assert Page(Page(embedded).elements[0][1]["srcdoc"]).data == found.data


def test_the_page_loads_nothing():
    assert Page(show_page([CausalLM()], tokenizer_of([CausalLM()]), TEXT)).loaded == []


def test_the_size_is_small_and_limited(monkeypatch):
    objectives = [CausalLM(), MaskedLM()]
    tokenizer = tokenizer_of(objectives)
    assert len(show_page(objectives, tokenizer, TEXT)) < 80_000
    monkeypatch.setattr("clozelab.display.pages.page.LIMIT", 40_000)
    with pytest.raises(InputError, match=r"would have .* bytes, and 40,000 are its limit: give fewer"):
        show_page(objectives, tokenizer, TEXT)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text": ""}, "the text is empty"),
        ({"objectives": []}, "at least one objective"),
        ({"seeds": []}, "at least one .* seed"),
        ({"objectives": [PrefixLM]}, "the objective"),
        ({"length": 0}, "length"),
    ],
    ids=["no text", "no objective", "no seed", "a class", "no length"],
)
def test_bad_input_is_named(wrong, message):
    arguments = {"objectives": [CausalLM()], "tokenizer": tokenizer_of([]), "text": TEXT, **wrong}
    with pytest.raises(InputError, match=message):
        show_page(**arguments)


def test_a_rate_that_is_not_possible_is_left_out_and_told():
    def every_other(tokens, maskable, generator):
        return maskable & (torch.arange(len(tokens)) % 2 == 0)

    objective = MaskedLM(scheme=every_other)
    data = Page(show_page([objective], tokenizer_of([objective]), TEXT, rates=[0.5])).data
    assert data["objectives"][0]["rate"] is None
    assert data["refused"] == [
        "masked, mask_rate 0.5: mask_rate 0.5 would be ignored: a scheme of your own has its own rate"
    ]


def test_a_notebook_shows_the_page_with_the_seeds_from_its_own_on():
    shown = show_objectives([MaskedLM()], tokenizer_of([MaskedLM()]), TEXT, seed=5)
    bundle = shown._repr_mimebundle_([], [])
    assert "predicts" in bundle["text/plain"]
    frame = Page(bundle["text/html"]).elements[0][1]
    assert Page(frame["srcdoc"]).data["seeds"] == [5, 6, 7, 8]
    assert bundle["text/html"] == shown._repr_html_()


@pytest.mark.parametrize("paper", [LIGHT_PAPER, DARK_PAPER], ids=["light", "dark"])
def test_every_objective_has_a_colour_that_can_be_seen(paper):
    for kind in OBJECTIVES.values():
        colour = readable(kind.colour, paper)
        assert contrast(colour, paper) >= SEEN >= 3
        assert contrast(ink_on(colour), colour) >= 4.5


def test_runs_of_nothing_are_an_empty_text():
    assert runs(torch.zeros(3).bool()) == ""
    assert decoded("0-2,5") == {0, 1, 2, 5}
