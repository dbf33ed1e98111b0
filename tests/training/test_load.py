"""A trained run comes back with its objective, its options and its weights, or is refused by name."""

import json
from dataclasses import replace

import pytest
import torch

from clozelab.data import Tokenizer, pack
from clozelab.errors import InputError
from clozelab.models import DecoderOnly, ModelConfig
from clozelab.objectives import (
    OBJECTIVES,
    CausalLM,
    FillInTheMiddle,
    MaskedDiffusion,
    MaskedLM,
    SpanCorruption,
    options,
)
from clozelab.training import latest_checkpoint, load_run, read_run

from .one_of_several import TwoHeadedDecoder, TwoHeads

OTHER_OPTIONS = [
    CausalLM(z_loss=1e-4),
    MaskedLM(mask_rate=0.3, scheme="bernoulli", label_smoothing=0.1),
    SpanCorruption(noise_density=0.3, mean_noise_span_length=2.0, final_sentinel=True),
    MaskedDiffusion(exact_count=False),
    FillInTheMiddle(fim_rate=0.9, form="spm"),
]


@pytest.mark.parametrize("objective", [*(cls() for cls in OBJECTIVES.values()), *OTHER_OPTIONS], ids=repr)
def test_a_run_is_loaded_with_its_objective_options_and_weights(objective, small_run, same_weights, tmp_path):
    model, _ = small_run(objective, run=tmp_path / "run")
    trained = load_run(tmp_path / "run")
    assert trained.step == 12
    assert type(trained.objective) is type(objective)
    assert trained.objective.options() == objective.options()
    assert type(trained.model) is type(model)
    assert same_weights(model, trained.model)
    assert not trained.model.training
    assert trained.tokenizer.special == small_run.tokenizer.special


def test_ids_that_were_chosen_by_hand_come_back(small_run, tmp_path):
    """A tokenizer.json has no place for them."""
    special = small_run.tokenizer.special
    chosen = replace(special, roles={**special.roles, "decoder_start": special.eos})
    small_run.tokenizer = tokenizer = Tokenizer(small_run.tokenizer.backend, chosen)
    text = pack([f"{n} and {n} make {2 * n}." for n in range(40)], tokenizer, cache_dir=tmp_path / "cache")
    small_run(SpanCorruption(), packed=(text, text), run=tmp_path / "run")
    assert load_run(tmp_path / "run").tokenizer.special["decoder_start"] == special.eos


def test_a_loaded_model_completes_a_text(small_run, tmp_path):
    small_run(CausalLM(), run=tmp_path / "run")
    trained = load_run(tmp_path / "run")
    completed = trained.objective.complete(
        trained.model, trained.tokenizer, "Document 5 says", max_new_tokens=5, greedy=True
    )
    assert str(completed).startswith("Document 5 says")


def every_third(tokens, maskable, generator):
    return maskable & (torch.arange(len(tokens)) % 3 == 0)


def test_functions_are_not_recorded_and_must_be_given(small_run, same_weights, tmp_path):
    objective = MaskedLM(scheme=every_third)
    model, _ = small_run(objective, run=tmp_path / "run")
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["unrecorded_options"] == {"scheme": "every_third"}
    with pytest.raises(InputError, match=r"trained with scheme=every_third.*objective=MaskedLM\(scheme=every_third\)"):
        load_run(tmp_path / "run")
    trained = load_run(tmp_path / "run", objective=objective)
    assert trained.objective is objective
    assert same_weights(model, trained.model)
    with pytest.raises(InputError, match="trained with other options"):
        load_run(tmp_path / "run", objective=MaskedLM())
    with pytest.raises(InputError, match="trained with another objective"):
        load_run(tmp_path / "run", objective=CausalLM())
    with pytest.raises(InputError, match=r"other functions: .*every_third.*every_other"):
        load_run(tmp_path / "run", objective=MaskedLM(scheme=every_other))


def every_other(tokens, maskable, generator):
    return maskable & (torch.arange(len(tokens)) % 2 == 0)


@options
class Namesake(MaskedLM):
    name = "masked"


def test_a_class_that_has_taken_a_name_of_the_librarys_does_not_come_back_as_the_librarys(small_run, tmp_path):
    small_run(Namesake(), run=tmp_path / "run")
    with pytest.raises(InputError, match="objective of your own \\(Namesake, called masked\\)"):
        load_run(tmp_path / "run")
    with pytest.raises(InputError, match="trained with another class: Namesake, not MaskedLM"):
        load_run(tmp_path / "run", objective=MaskedLM())
    assert isinstance(load_run(tmp_path / "run", objective=Namesake()).objective, Namesake)


def test_an_objective_of_the_users_own_is_given(small_run, same_weights, tmp_path):
    """And its model, whose heads are built by `build_model`."""
    objective = TwoHeads()
    model = objective.build_model(small_run.tokenizer.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=2)
    small_run(objective, model=model, run=tmp_path / "run")
    with pytest.raises(InputError, match=r"objective of your own \(TwoHeads, called two-heads\): give it"):
        load_run(tmp_path / "run")
    trained = load_run(tmp_path / "run", objective=TwoHeads())
    assert isinstance(trained.model, TwoHeadedDecoder)
    assert same_weights(model, trained.model)


def test_a_decoder_that_was_trained_on_masked_tokens_comes_back_as_a_decoder(small_run, tmp_path):
    """An encoder has weights of the same names and shapes."""
    shape = ModelConfig(small_run.tokenizer.vocab_size, d_model=16, n_layers=1, n_heads=2)
    small_run(MaskedLM(), model=DecoderOnly(shape), run=tmp_path / "run")
    assert isinstance(load_run(tmp_path / "run").model, DecoderOnly)


def test_a_model_of_the_users_own_is_refused_with_the_way_to_read_it(small_run, tmp_path):
    class Bigrams(torch.nn.Module):
        def __init__(self, vocab_size):
            super().__init__()
            self.table = torch.nn.Embedding(vocab_size, vocab_size)

        def forward(self, input_ids, attention_mask=None):
            return self.table(input_ids)

    small_run(CausalLM(), model=Bigrams(small_run.tokenizer.vocab_size), run=tmp_path / "run")
    with pytest.raises(InputError, match=r"a model of your own \(Bigrams\).*latest_checkpoint\(run\).load_model"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"mask_rate": 7}}, "its options make no masked objective"),
        ({"options": {"colour": "red"}}, "its options make no masked objective"),
        ({"options": None}, "run.json is damaged: options: input should be a valid dictionary, got None"),
        ({"objective": ["masked"]}, "run.json is damaged: objective: input should be a valid string, got"),
        ({"architecture": "decoder-decoder"}, "a model of your own"),
        ({"model": {"vocab_size": 500, "d_model": -1}}, "describes no model"),
        ({"model": {"vocab_size": 500, "n_layers": 10**9}}, "more than its checkpoint has weights"),
        ({"model": {"vocab_size": 500, "size": "base"}}, "describes no model"),
    ],
    ids=str,
)
def test_a_description_that_makes_no_run_is_one_line(change, message, small_run, write_run, tmp_path):
    """Also where its checksum is right."""
    small_run(MaskedLM(), run=tmp_path / "run")
    write_run(tmp_path / "run", {**read_run(tmp_path / "run"), **change})
    with pytest.raises(InputError, match=message) as caught:
        load_run(tmp_path / "run")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [
        ("model", "rotary_base", 3.0),
        ("options", "mask_rate", 0.16),
        ("train", "seed", 1),
        ("special", "mask", 4),
        ("corpus", "tokens", 7),
        ("description", "note", "another"),
    ],
)
def test_a_number_that_was_altered_is_not_believed(key, field, value, small_run, tmp_path):
    """Each of them could be meant, so nothing but the checksum shows it."""
    small_run(MaskedLM(), run=tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    described = json.loads(path.read_text())
    described[key][field] = value
    path.write_text(json.dumps(described, indent=1))
    with pytest.raises(InputError, match=r"run\.json is damaged: it is not what was written; was it edited\?$"):
        load_run(tmp_path / "run")
    del described["sha256_of_this"]
    path.write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"run\.json is damaged: it has lost its checksum"):
        read_run(tmp_path / "run")


@pytest.mark.parametrize("exchanged", ["run.json", "checkpoints"])
@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 0.1}], ids=str)
def test_a_part_of_another_run_is_not_taken_for_this_ones(exchanged, change, small_run, tmp_path):
    """Both runs are whole, of one objective and shape; the checkpoint says to which it belongs."""
    small_run(MaskedLM(), run=tmp_path / "mine")
    small_run(MaskedLM(), replace(small_run.config, **change), run=tmp_path / "theirs")
    (tmp_path / "mine" / exchanged).rename(tmp_path / "kept")
    (tmp_path / "theirs" / exchanged).rename(tmp_path / "mine" / exchanged)
    with pytest.raises(InputError, match=r"step-00000012 is of another run: \S*mine/run\.json describes another; "):
        load_run(tmp_path / "mine")
    with pytest.raises(InputError, match="another run"):
        small_run(MaskedLM(), run=tmp_path / "mine", resume=True)


def test_a_run_that_is_extended_keeps_its_fingerprint_and_a_seal(small_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    before = latest_checkpoint(tmp_path / "run").state["identity"]
    small_run(MaskedLM(), small_run.config.extend(2), run=tmp_path / "run", resume=True)
    assert load_run(tmp_path / "run").step == 14
    assert latest_checkpoint(tmp_path / "run").state["identity"] == before


def test_a_tokenizer_that_was_exchanged_is_found(small_run, tmp_path):
    small_run(MaskedLM(), run=tmp_path / "run")
    path = tmp_path / "run" / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(InputError, match="not the one that this model was trained with"):
        load_run(tmp_path / "run")
