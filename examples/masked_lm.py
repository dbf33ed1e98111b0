# %% [markdown]
# # Masked LM: say the covered tokens, having read both sides
#
#     python examples/masked_lm.py
#
# About 25 seconds on two cores. 300 steps on the English that comes with Python; then the model fills blanks.
# The 80/10/10 rule is counted on real batches before it is believed.

# %%
import math

import torch

from clozelab.objectives import MaskedLM
from clozelab.training import TrainConfig, prepare, train

STEPS = 300  # a test sets this lower


def main(steps: int = STEPS, source: object = "builtin") -> float:
    """Returns the held-out loss in nats per hidden token."""
    prepared = prepare(source, vocab_size=2048)
    special = prepared.tokenizer.special
    objective = MaskedLM(mask_rate=0.15)
    print(f"hides {objective.hides}; reads {objective.reads}; predicts {objective.predicts}\n")

    # Of the hidden tokens 80% read [MASK], 10% a random token, 10% themselves; all of them are paid, nothing else is.
    blocks = prepared.text.blocks(128)
    ids = list(range(min(200, len(blocks))))
    tokens = blocks.take(ids)
    batch = objective.collator(special).block(tokens, ids)
    paid = batch["labels"] != -100
    masked = paid & (batch["input_ids"] == special.mask)
    kept = paid & (batch["input_ids"] == tokens)
    print(f"  hidden: {paid.float().mean():.3f} of {paid.numel()} tokens, exactly {int(paid[0].sum())} in each row")
    for name, part in (("[MASK]", masked), ("themselves", kept), ("a random token", paid & ~masked & ~kept)):
        print(f"    {part.sum() / paid.sum():.3f} of them read {name}")
    print(f"  changed although not paid: {int(((batch['input_ids'] != tokens) & ~paid).sum())}\n")

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
