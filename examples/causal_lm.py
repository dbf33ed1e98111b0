# %% [markdown]
# # Causal LM: say the next token, having read those before it
#
#     python examples/causal_lm.py
#
# About 25 seconds on two cores. From untrained (ln V = 7.6 nats) to below the unigram guess, in 300 steps on the
# English that comes with Python; then the model goes on with a sentence.

# %%
import math

import torch

from clozelab.objectives import CausalLM
from clozelab.training import TrainConfig, prepare, train

STEPS = 300  # a test sets this lower


def main(steps: int = STEPS, source: object = "builtin") -> float:
    """Returns the held-out loss in nats per token."""
    prepared = prepare(source, vocab_size=2048)
    objective = CausalLM()
    print(f"hides {objective.hides}; reads {objective.reads}; predicts {objective.predicts}\n")

    # What the objective makes of eight tokens. Nothing is covered and the labels are the inputs themselves: what is
    # hidden is what comes later, and it is the model that must not look there.
    tokens = prepared.text.blocks(8).take([0])
    batch = objective.collator(prepared.tokenizer.special).block(tokens, [0])
    pieces = prepared.tokenizer.pieces(batch["input_ids"][0].tolist())
    for t in range(7):
        print(f"  having read {''.join(pieces[: t + 1])!r}, say {pieces[t + 1]!r}")

    torch.manual_seed(0)
    model = objective.build_model(prepared.tokenizer.vocab_size, "tiny")
    config = TrainConfig(steps=steps, eval_every=100)
    result = train(objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config)
    for step, nats in result.curve:
        print(f"step {step:4d}: held-out loss {nats:.3f} nats per token (a uniform guess: {math.log(2048):.3f})")
    assert result.heldout is not None
    print(f"that is {result.heldout.bits_per_byte:.3f} bits per byte, whatever the tokenizer")

    generator = torch.Generator().manual_seed(0)
    sample = objective.complete(model, prepared.tokenizer, "Return a new", temperature=0.7, generator=generator)
    print("\nThe model goes on:", sample.marked())
    return result.heldout.nats


if __name__ == "__main__":
    main()
