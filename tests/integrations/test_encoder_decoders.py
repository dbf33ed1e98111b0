"""Encoder-decoders of Hugging Face, each of which starts its decoder with an id of its own.

After training on span corruption, their own `generate()` must say what they learned, which it does where the decoder
started with the same id in training. BART, mBART and LED do not start with padding, as T5 does.
"""

from types import SimpleNamespace

import pytest
import torch

transformers = pytest.importorskip("transformers")

from clozelab import SpanCorruption, SpecialIds  # noqa: E402
from clozelab.errors import InputError  # noqa: E402
from clozelab.generation import fill_spans  # noqa: E402

SYMBOLS, PAD, EOS, LANGUAGE, FIRST = 20, 0, 1, 3, 4  # ids 4 .. 23 are text
VOCABULARY = FIRST + SYMBOLS + 8
IDS = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "eos_token_id": EOS, "bos_token_id": 2}
OF_T5 = {"d_model": 64, "d_kv": 32, "d_ff": 128, "num_layers": 2, "num_heads": 2, "dropout_rate": 0}
OF_A_SIDE = {"ffn_dim": 128, "layers": 2, "attention_heads": 2}
OF_BART = {f"{side}_{name}": number for side in ("encoder", "decoder") for name, number in OF_A_SIDE.items()}
OF_BART |= {"d_model": 64, "dropout": 0, "max_position_embeddings": 64}
OF_LED = {"max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64, "attention_window": 8}


def t5():
    return transformers.T5ForConditionalGeneration(transformers.T5Config(decoder_start_token_id=PAD, **OF_T5, **IDS))


def mt5():
    return transformers.MT5ForConditionalGeneration(transformers.MT5Config(**OF_T5, **IDS))


def bart():
    return transformers.BartForConditionalGeneration(
        transformers.BartConfig(decoder_start_token_id=EOS, forced_eos_token_id=None, **OF_BART, **IDS)
    )


def mbart():
    return transformers.MBartForConditionalGeneration(
        transformers.MBartConfig(decoder_start_token_id=LANGUAGE, forced_eos_token_id=None, **OF_BART, **IDS)
    )


def led():
    shape = {key: value for key, value in OF_BART.items() if key != "max_position_embeddings"}
    return transformers.LEDForConditionalGeneration(
        transformers.LEDConfig(decoder_start_token_id=EOS, **shape, **OF_LED, **IDS)
    )


def pegasus():
    return transformers.PegasusForConditionalGeneration(
        transformers.PegasusConfig(
            decoder_start_token_id=PAD, forced_eos_token_id=None, scale_embedding=True, init_std=0.1, **OF_BART, **IDS
        )
    )


STARTS = {t5: PAD, mt5: PAD, bart: EOS, mbart: LANGUAGE, led: EOS, pegasus: PAD}
MODELS = pytest.mark.parametrize("make", STARTS, ids=lambda make: make.__name__)
OBJECTIVE = SpanCorruption(noise_density=0.25, mean_noise_span_length=2.0)


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def special(start):
    sentinels = range(VOCABULARY - 1, VOCABULARY - 9, -1)
    return SpecialIds(VOCABULARY, PAD, EOS, sentinels=sentinels, others=(2, LANGUAGE), roles={"decoder_start": start})


def batch_of(rows, start, seed):
    """Texts of 16 symbols, each the one after its predecessor: what is hidden follows from what is not."""
    first = torch.randint(SYMBOLS, (rows, 1), generator=torch.Generator().manual_seed(seed))
    tokens = FIRST + (first + torch.arange(16)) % SYMBOLS
    return OBJECTIVE.collator(special(start), seed=seed).block(tokens, range(rows))


class AsOurs(torch.nn.Module):
    """A model of Hugging Face behind the names that `fill_spans` calls; it reads all ids again for each new one."""

    architecture = "encoder-decoder"

    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.ids = model, SimpleNamespace(vocab_size=VOCABULARY), None

    def encode(self, input_ids, attention_mask):
        return self.model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)

    def decode(self, ids, encoded, *, attention_mask, cache):
        self.ids = ids if self.ids is None else torch.cat((self.ids, ids), 1)
        return self.model(encoder_outputs=encoded, attention_mask=attention_mask, decoder_input_ids=self.ids).logits

    def unembed(self, logits):
        return logits


@torch.no_grad()
def completed(model, batch, start, length):
    """(by the model's own `generate()`, by `fill_spans`): targets (B, length), eos after the end."""
    text = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    theirs = model.generate(**text, max_new_tokens=length, do_sample=False, num_beams=1)[:, 1:]
    theirs = torch.nn.functional.pad(theirs, (0, length - theirs.shape[1]), value=EOS)
    ended = (theirs == EOS).cumsum(1) > 0
    ours = fill_spans(AsOurs(model), **text, start_id=start, eos=EOS, max_new_tokens=length, greedy=True)
    return theirs.masked_fill(ended, EOS), ours


@MODELS
def test_generate_of_a_fresh_model_begins_with_the_role_of_the_decoder_start(make):
    model, start = seeded(make).eval(), STARTS[make]
    theirs, ours = completed(model, batch_of(4, start, seed=0), start, length=6)
    assert torch.equal(theirs, ours)


@MODELS
def test_a_batch_that_starts_the_decoder_otherwise_is_refused(make):
    model, start = seeded(make), STARTS[make]
    assert OBJECTIVE(model, batch_of(2, start, seed=0)).mean > 0
    for wrong in {PAD, EOS, LANGUAGE} - {start}:
        with pytest.raises(InputError, match=rf"starts its decoder with {start}, and the batch with {wrong}"):
            OBJECTIVE(model, batch_of(2, wrong, seed=0))


def test_without_a_start_of_its_own_generate_begins_with_bos_and_so_must_the_batch():
    """The default of `MBartConfig`."""
    model = seeded(lambda: transformers.MBartForConditionalGeneration(transformers.MBartConfig(**OF_BART, **IDS)))
    assert model.generate(torch.tensor([[5, 6, EOS]]), max_new_tokens=1)[0, 0] == IDS["bos_token_id"]
    assert OBJECTIVE(model, batch_of(2, IDS["bos_token_id"], seed=0)).mean > 0
    with pytest.raises(InputError, match="starts its decoder with 2, and the batch with 0"):
        OBJECTIVE(model, batch_of(2, PAD, seed=0))


def trained(make, start, loss_of, steps=300):
    """After 300 steps of 32 texts; the learning rate rises for 20 of them and then falls to zero."""
    model = seeded(make).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3 if make in (t5, mt5) else 2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min(1, (n + 1) / 20) * (1 - n / steps))
    for step in range(steps):
        loss_of(model, batch_of(32, start, seed=step)).mean.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval()


def share_right(targets, labels):
    here = labels != -100
    return float((targets[:, : labels.shape[1]] == labels)[here].float().mean())


@pytest.mark.slow
@MODELS
def test_after_training_generate_says_what_was_learned(make):
    start = STARTS[make]
    model = trained(make, start, OBJECTIVE)
    heldout = batch_of(64, start, seed=10_000)
    theirs, ours = completed(model, heldout, start, length=heldout["labels"].shape[1])
    share = share_right(theirs, heldout["labels"])
    print(f"{make.__name__}: {share:.3f} of the target tokens right, loss {float(OBJECTIVE(model, heldout)):.3f}")
    assert torch.equal(theirs, ours)
    assert share > 0.9


@pytest.mark.slow
def test_a_decoder_that_began_with_another_id_in_training_generates_something_else():
    """The batch is not refused, since the objective gets no more than the logits."""

    def loss_of(model, batch):
        return OBJECTIVE(model(**OBJECTIVE.model_inputs(model, batch)).logits, batch)

    model = trained(bart, PAD, loss_of)
    heldout = batch_of(64, PAD, seed=10_000)
    theirs, ours = completed(model, heldout, PAD, length=heldout["labels"].shape[1])
    begun_as_trained, begun_as_configured = (share_right(ids, heldout["labels"]) for ids in (ours, theirs))
    print(f"BART trained from padding: {begun_as_trained:.3f} from padding, {begun_as_configured:.3f} by generate()")
    assert begun_as_trained > 0.9
    assert begun_as_configured < begun_as_trained - 0.1
