# %% [markdown]
# # Causal LM: read from the left, predict every next token
#
#     python examples/causal_lm.py
#
# About 25 seconds on two cores. From untrained (ln V = 7.6 nats) to below the unigram guess, in 300 steps on the
# English that comes with Python; then the model continues a sentence.

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
    print(f"hides {objective.hides}; reads {objective.attends_to}; predicts {objective.predicts}\n")

    # The batch of eight tokens. The inputs are not changed and the labels equal them: what is hidden is the future, by
    # the causal mask of the model.
    tokens = prepared.text.blocks(8).take([0])
    batch = objective.collator(prepared.tokenizer.special).block(tokens, [0])
    pieces = prepared.tokenizer.pieces(batch["input_ids"][0].tolist())
    for t in range(7):
        print(f"  after {''.join(pieces[: t + 1])!r} predict {pieces[t + 1]!r}")

    torch.manual_seed(0)
    model = objective.build_model(prepared.tokenizer.vocab_size, "tiny")
    config = TrainConfig(steps=steps, eval_every=100)
    result = train(objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config)
    for step, nats in result.curve:
        print(f"step {step:4d}: held-out loss {nats:.3f} nats per token (a uniform guess: {math.log(2048):.3f})")
    assert result.heldout is not None
    print(f"that is {result.heldout.bits_per_byte:.3f} bits per byte, comparable between tokenizers")

    generator = torch.Generator().manual_seed(0)
    sample = objective.complete(model, prepared.tokenizer, "Return a new", temperature=0.7, generator=generator)
    print("\nThe model continues:", sample.marked())
    return result.heldout.nats


if __name__ == "__main__":
    main()
