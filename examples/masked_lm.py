# %% [markdown]
# # Masked LM: hide some tokens, read both sides, predict the hidden ones
#
#     python examples/masked_lm.py
#
# About 25 seconds on two cores. 300 steps on the English that comes with Python; then the model fills blanks.
# The shares of 80/10/10 are counted on real batches.

# %%
import math

import torch

from clozelab import IGNORED, MaskedLM
from clozelab.training import TrainConfig, prepare, train

STEPS = 300  # a test sets this lower


def main(steps: int = STEPS, source: object = "builtin") -> float:
    """Returns the held-out loss in nats per hidden token."""
    prepared = prepare(source, vocab_size=2048)
    special = prepared.tokenizer.special
    objective = MaskedLM(mask_rate=0.15)
    print(f"hides {objective.hides}; reads {objective.attends_to}; predicts {objective.predicts}\n")

    # Of the hidden tokens 80% become [MASK], 10% a random token, 10% stay; they, and nothing else, are in the loss.
    blocks = prepared.text.blocks(128)
    ids = list(range(min(200, len(blocks))))
    tokens = blocks.take(ids)
    batch = objective.collator(special).block(tokens, ids)
    hidden = batch["labels"] != IGNORED
    masked = hidden & (batch["input_ids"] == special["mask"])
    kept = hidden & (batch["input_ids"] == tokens)
    print(
        f"  hidden: {hidden.float().mean():.3f} of {hidden.numel()} tokens, exactly {int(hidden[0].sum())} in each row"
    )
    for name, part in (("[MASK]", masked), ("unchanged", kept), ("a random token", hidden & ~masked & ~kept)):
        print(f"    {part.sum() / hidden.sum():.3f} of them are {name}")
    print(f"  changed outside the loss: {int(((batch['input_ids'] != tokens) & ~hidden).sum())}\n")

    torch.manual_seed(0)
    model = objective.build_model(prepared.tokenizer.vocab_size, "tiny")
    config = TrainConfig(steps=steps, eval_every=100)
    result = train(objective, model, prepared.tokenizer, prepared.text, prepared.heldout, config)
    for step, nats in result.curve:
        print(f"step {step:4d}: held-out loss {nats:.3f} nats per hidden token (a uniform guess: {math.log(2048):.3f})")

    answer = objective.complete(
        model, prepared.tokenizer, "Return ___ new list ___ the items of the sequence.", greedy=True
    )
    print("\nThe model fills:", answer.marked())
    assert result.heldout is not None
    return result.heldout.nats


if __name__ == "__main__":
    main()
