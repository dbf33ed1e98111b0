# %% [markdown]
# # Span corruption: hide runs of tokens behind sentinels, read the rest, predict the runs
#
#     python examples/span_corruption.py
#
# About 40 seconds on two cores. The T5 paper's own sentence first, then 300 steps on the English that comes with
# Python; then the model fills blanks of any length.

# %%
import math

import torch

from clozelab.data import corrupt_spans, restore_spans, solve_span_lengths
from clozelab.objectives import SpanCorruption
from clozelab.training import TrainConfig, prepare, train

STEPS = 300  # a test sets this lower


def main(steps: int = STEPS, source: object = "builtin") -> float:
    """Returns the held-out loss in nats per target token."""
    objective = SpanCorruption(noise_density=0.15, mean_noise_span_length=3.0)
    print(f"hides {objective.hides}; reads {objective.attends_to}; predicts {objective.predicts}\n")

    # Figure 2 of the T5 paper (Raffel et al. 2020), each word a token, "for inviting" and "last" hidden.
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    mask = torch.tensor([word in ("for", "inviting", "last") for word in words])
    sentinels = [100, 101, 102]
    inputs, targets = corrupt_spans(torch.arange(len(words)), mask, sentinels, final_sentinel=True)
    spell = {**dict(enumerate(words)), 100: "<X>", 101: "<Y>", 102: "<Z>"}
    print("  inputs: ", *(spell[i] for i in inputs.tolist()))
    print("  targets:", *(spell[i] for i in targets.tolist()))
    print("  restored:", *(spell[i] for i in restore_spans(inputs, targets, sentinels).tolist()))

    # How much text makes inputs of 512 tokens, so that nothing is padded?
    print(f"  lengths: {solve_span_lengths(512)}\n")

    prepared = prepare(source, vocab_size=2048)
    torch.manual_seed(0)
    model = objective.build_model(prepared.tokenizer.vocab_size, "tiny")
    config = TrainConfig(steps=steps, eval_every=100)
    result = train(objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config)
    for step, nats in result.curve:
        print(f"step {step:4d}: held-out loss {nats:.3f} nats per target token (a uniform guess: {math.log(2048):.3f})")

    answer = objective.complete(model, prepared.tokenizer, "Return ___ list ___ the sequence.", greedy=True)
    print("\nThe model fills:", answer.marked())
    assert result.heldout is not None
    return result.heldout.nats


if __name__ == "__main__":
    main()
