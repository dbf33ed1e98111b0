"""The loss of an objective, written out: a sum over positions and one division."""


def by_hand(objective, logits, batch):
    """What `objective` costs on logits (B, T, V), from its paper and not from its code.

    Output t of a decoder predicts the token at t + 1, all others the one in their place; masked diffusion weighs each
    hidden token by n / k and divides by all n tokens.
    """
    later = 1 if objective.architecture == "decoder-only" else 0
    total, count = 0.0, 0.0
    for row, labels, tokens in zip(logits.log_softmax(-1), batch["labels"].tolist(), lengths(batch)):
        asked = [(t, label) for t, label in enumerate(labels[later:]) if label != -100]
        weight = tokens / len(asked) if objective.name == "diffusion" else 1.0
        total -= sum(weight * row[t, label] for t, label in asked)
        count += tokens if objective.name == "diffusion" else len(asked)
    return total / count


def lengths(batch):
    """Tokens of each row."""
    return batch["attention_mask"].sum(1).tolist()
