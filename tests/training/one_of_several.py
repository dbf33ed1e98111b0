"""What each process of `test_processes.py` does: the same runs, written into a folder.

torchrun --nproc-per-node 2 one_of_several.py FOLDER [--replicated] [--sharded] [--resume] [--muon]

Replicated unless only `--sharded` is said; with both flags it does both, into FOLDER/replicated and FOLDER/sharded.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from clozelab.data import pack, train_bpe
from clozelab.objectives import CausalLM, MaskedLM, SpanCorruption
from clozelab.training import Processes, TrainConfig, init_processes, train
from clozelab.training.run import seeded_model

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(80)]
OBJECTIVES = (CausalLM(), MaskedLM(), SpanCorruption())
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


def runs(folder: Path, processes: Processes, *, optimizer: str = "adamw", resume: bool = False) -> None:
    """Each objective, in double precision: what remains of a difference is then no rounding of single precision."""
    tokenizer = train_bpe(DOCUMENTS, vocab_size=400, sentinels=20)
    text, heldout = (pack(part, tokenizer, cache_dir=folder) for part in (DOCUMENTS[:60], DOCUMENTS[60:]))
    torch.set_default_dtype(torch.float64)
    try:
        for objective in OBJECTIVES:
            model = seeded_model(objective, tokenizer.vocab_size, "tiny", 0, d_model=16, n_layers=2, n_heads=1)
            run, config = folder / objective.name, replace(CONFIG, optimizer=optimizer)
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
            runs(place, replace(these, sharded=way == "sharded"), optimizer=name, resume=again)
