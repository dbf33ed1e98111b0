"""The objects that the fuzz test calls, and calls with."""

import copy
from pathlib import Path

import torch
from fuzz_arguments import right_arguments
from fuzz_hostile import hostile_values
from torch import nn

from clozelab import data, languages, models, objectives, planning, training

SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2}
TEXTS = [f"The number {n} comes before {n + 1}." for n in range(60)]


class Pool:
    """What calls are made of. `right[name]()` and `right["function.name"]()` are arguments that can be meant."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.texts = folder, TEXTS
        self.special = data.SpecialIds(
            vocab_size=40, pad=0, eos=1, mask=2, sentinels=range(39, 29, -1), roles={"fim_prefix": 5, "fim_suffix": 6}
        )
        roles = [role for kind in objectives.OBJECTIVES.values() for role in kind.roles]
        self.tokenizer = data.train_bpe(TEXTS, vocab_size=400, sentinels=10, roles=roles)
        self.packed = data.pack(TEXTS, self.tokenizer, cache_dir=folder / "cache")
        self.config = models.ModelConfig(400, **SHAPE)
        self.settings = training.TrainConfig(
            steps=1, length=16, batch_size=2, eval_rows=2, eval_every=0, precision="float32"
        )
        self.causal, self.masked, self.span = objectives.CausalLM(), objectives.MaskedLM(), objectives.SpanCorruption()
        self.models = {name: models.build(name, "tiny", 400, **SHAPE) for name in models.ARCHITECTURES}
        self.blocks = self.packed.blocks(16)
        self.row = planning.row_of(self.causal, 32)
        self.counted = planning.parameters(self.causal, self.config)
        self.planned = planning.plan(self.causal, self.config, tokens=1e6, length=32, batch_tokens=1e4)
        self.coin = languages.MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
        self.corpus = data.load_corpus(TEXTS)
        rows = folder / "rows.jsonl"
        rows.write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS))
        self.streamed = data.load_corpus(rows, streaming=True).train
        self.stream = data.Stream(self.streamed, self.tokenizer)
        self.prepared = training.Prepared(self.corpus, self.tokenizer, self.packed, self.packed)
        self.compared = training.compare([self.causal], self.prepared, tokens=64, config=self.settings)
        self.run = folder / "run"
        training.train(
            self.causal,
            self.model("decoder-only"),
            self.tokenizer,
            self.packed,
            self.packed,
            self.settings,
            run=self.run,
        )
        self.right = right_arguments(self)
        self.hostile = hostile_values(self)

    def model(self, architecture: str) -> nn.Module:
        """A model that a call may train or break."""
        return copy.deepcopy(self.models[architecture])

    def batch(self, objective: objectives.Objective) -> data.Batch:
        """A batch of two rows of an objective."""
        return objective.collator(self.tokenizer.special).block(self.blocks.take([0, 1]), [0, 1])

    def instances(self) -> dict[type, list]:
        """Objects whose methods are called."""
        found = [
            *(self.tokenizer, self.special, self.packed, self.blocks, self.stream, self.streamed, self.settings),
            *(self.config, self.coin, self.counted, self.planned, self.row, self.right["machine"](), self.causal),
            *(self.masked, self.span, *self.models.values(), self.right["examples"](), self.right["noise_object"]()),
            *(kind() for kind in objectives.OBJECTIVES.values()),
            *(self.right["loss"](), self.right["part"](), self.right["scores"](), self.right["collator"]()),
            *(self.right["processes"](), self.right["optimizer"](), training.latest_checkpoint(self.run)),
            *(languages.World(), languages.MixtureSource((self.coin, self.coin)), self.right["target"]()),
            *(
                self.right["report"](),
                self.right["leaks"](),
                self.right["batches_object"](),
                self.right["completion"](),
            ),
        ]
        by_class: dict[type, list] = {}
        for one in found:
            by_class.setdefault(type(one), []).append(one)
        return by_class
