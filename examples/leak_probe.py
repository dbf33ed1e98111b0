"""Does an output depend on a token that it must not? Change one token at a time and see which outputs move.

    python examples/leak_probe.py                     a few seconds; also writes runs/leaks.png

Three models with random weights, probed on one short text of two packed documents, and a fourth with the most common
mistake: a causal objective on a model without a causal mask. Its loss falls faster than that of a correct model, which
is all that a training log shows.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from clozelab.data import SpecialIds
from clozelab.display import draw_leaks
from clozelab.evaluation import probe_objective
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption

special = SpecialIds(vocab_size=40, pad=0, eos=1, mask=2, sentinels=range(39, 29, -1))
text = torch.tensor([[5, 6, 7, 8, 9, 1, 10, 11, 12, 13, 14, 15]])  # 1 ends the first document


def random_model(objective):
    """A model with random weights: as they are initialised, our blocks are the identity and attend to nothing."""
    model = objective.build_model(special.vocab_size, "tiny", d_model=32, n_layers=2, n_heads=2)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def main() -> None:
    """Probe four pairs of objective and model, print the verdicts, draw the matrices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/leaks.png"), help="the picture")
    out = parser.parse_args().out
    torch.manual_seed(0)
    causal, masked = CausalLM(), MaskedLM()
    span = SpanCorruption(noise_density=0.4, mean_noise_span_length=2.0)
    exhibits = [
        ("causal LM", causal, random_model(causal), "input_ids"),
        ("masked LM", masked, random_model(masked), "input_ids"),
        ("span corruption, its decoder", span, random_model(span), "decoder_input_ids"),
        ("causal LM without a causal mask", causal, random_model(masked), "input_ids"),
    ]
    figure = Figure(figsize=(15, 3), layout="constrained")
    for axes, (name, objective, model, key) in zip(figure.subplots(1, len(exhibits)), exhibits):
        batch = objective.collator(special, within_documents=True).block(text, [0])
        report = probe_objective(objective, model, batch)["logits", key]
        print(f"{name}\n{report}\n")
        draw_leaks(axes, report)
        axes.set_title(f"{name}\n{axes.get_title()}", fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    print(f"as a picture: {out}")


if __name__ == "__main__":
    main()
