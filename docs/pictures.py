"""Draws `docs/three_objectives.png`, the picture of the README, from the batches that the models get.

python docs/pictures.py
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from clozelab import CausalLM, MaskedLM, SpanCorruption
from clozelab.display import draw_attention, word_tokenizer

TEXT = "Thank you for inviting me to your party last week ."
HIDDEN = (2, 3, 8)  # "for inviting" and "last", as in figure 2 of the T5 paper


def hide(tokens: torch.Tensor, maskable: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The same three words for all objectives that hide words."""
    mask = torch.zeros_like(maskable)
    mask[list(HIDDEN)] = True
    return mask


def main(path: Path = Path(__file__).parent / "three_objectives.png") -> None:
    """Draw the causal, the masked and the span objective side by side."""
    tokenizer = word_tokenizer(TEXT)
    tokens = torch.tensor([tokenizer.encode(TEXT)])
    vocab_size = tokenizer.special.vocab_size
    figure = Figure(figsize=(15, 5.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    panels = figure.subplots(1, 3)
    masked = MaskedLM(scheme=hide, mask_replace_prob=1.0, random_replace_prob=0.0)
    for axes, objective in zip(panels, (CausalLM(), masked, SpanCorruption(scheme=hide))):
        batch = objective.collator(tokenizer.special).block(tokens, [0])
        model = objective.build_model(vocab_size, d_model=16, n_layers=1, n_heads=1)
        draw_attention(axes, objective, model, batch, tokenizer)
        axes.set_title(f"{objective.name} ({objective.canonical}): predicts {objective.predicts}", fontsize=12)
    figure.supxlabel(
        "Left of a row: the token that the model gets. Coloured: the tokens that it attends to. "
        "Right, in bold: the token that it must predict.",
        fontsize=12,
    )
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
