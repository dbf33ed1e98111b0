"""What each process of `test_processes.py` does: the same runs of every objective, written into a folder.

torchrun --nproc-per-node 2 one_of_several.py FOLDER [--replicated] [--sharded] [--resume] [--muon] [--few]

Replicated unless `--sharded` alone is given; with both flags it does both, into FOLDER/replicated and FOLDER/sharded.
With `--few` it trains one objective of each architecture and the one of two parts, not all.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from clozelab.data import pack, train_bpe
from clozelab.models import DecoderOnly
from clozelab.objectives import OBJECTIVES, CausalLM, Objective, Prediction, Target, next_token_labels, options
from clozelab.training import Processes, TrainConfig, init_processes, seeded_model, train

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(80)]
CONFIG = TrainConfig(
    steps=6,
    length=24,
    batch_size=6,  # on 4 processes 2, 2, 1, 1
    micro_batch_size=2,
    eval_rows=8,
    eval_every=3,
    checkpoint_every=3,
    precision="float32",
)


class TwoHeadedDecoder(DecoderOnly):
    """Predicts the next token and, by a head of its own, the one after it."""

    def __init__(self, config):
        super().__init__(config)
        self.second = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, input_ids, attention_mask=None):
        hidden = super().forward(input_ids, attention_mask)
        table = self.unembedding
        return {"next": Prediction(hidden, table), "second": Prediction(self.second(hidden), table)}


@options
class TwoHeads(CausalLM):
    """Two parts with different counts and weights: every next token, and the even ones among those after the next."""

    name = "two-heads"

    def build_model(self, vocab_size, size="tiny", **overrides):
        return TwoHeadedDecoder(super().build_model(vocab_size, size, **overrides).config)

    def targets(self, batch):
        following = next_token_labels(batch)
        second = next_token_labels({"labels": following})
        return {"next": Target(following), "second": Target(second.where(second % 2 == 0, -100), weight=0.3)}

    def breakdown(self, batch):
        return {"first is even": (batch["input_ids"][:, 0] % 2 == 0).long()}

    def uniform_values(self, vocab_size):
        return dict.fromkeys(("next", "second"), super().uniform_values(vocab_size)["logits"])


EVERY = (*(objective() for objective in OBJECTIVES.values()), TwoHeads())


FEW = (*{objective.architecture: objective for objective in reversed(EVERY[:-1])}.values(), EVERY[-1])
"""The first one of each architecture, and the one of two parts."""


def runs(
    folder: Path,
    processes: Processes,
    *,
    optimizer: str = "adamw",
    resume: bool = False,
    objectives: tuple[Objective, ...] = EVERY,
) -> None:
    """Each objective, in double precision: what remains of a difference is not rounding of single precision.

    Sharded runs take the ZeRO stages in turn; half of them recompute their blocks, the others write in the background.
    """
    roles = [role for objective in EVERY for role in objective.roles]
    tokenizer = train_bpe(DOCUMENTS, vocab_size=400, sentinels=20, roles=roles)
    text, heldout = (pack(part, tokenizer, cache_dir=folder) for part in (DOCUMENTS[:60], DOCUMENTS[60:]))
    torch.set_default_dtype(torch.float64)
    try:
        for number, objective in enumerate(objectives):
            model = seeded_model(objective, tokenizer.vocab_size, "tiny", 0, d_model=16, n_layers=2, n_heads=1)
            run, config = folder / objective.name, replace(CONFIG, optimizer=optimizer)
            if processes.sharded:
                processes = replace(processes, zero_stage=3 - number % 3)
                config = replace(config, recompute=number % 2 == 1, async_checkpoints=number % 2 == 0)
            train(objective, model, tokenizer, text, heldout, config, run=run, resume=resume, processes=processes)
    finally:
        torch.set_default_dtype(torch.float32)


if __name__ == "__main__":
    folder, *flags = sys.argv[1:]
    ways = [way for way in ("replicated", "sharded") if f"--{way}" in flags] or ["replicated"]
    with init_processes(sharded="sharded" in ways) as these:
        for way in ways:
            place = Path(folder) / (way if len(ways) == 2 else "")
            name, again = "muon" if "--muon" in flags else "adamw", "--resume" in flags
            which = FEW if "--few" in flags else EVERY
            settings = {"optimizer": name, "resume": again, "objectives": which}
            runs(place, replace(these, sharded=way == "sharded"), **settings)
