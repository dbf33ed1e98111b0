"""Values for the fuzz test: right ones by the name of the parameter, hostile ones, and right ones that were spoiled."""

import argparse
import copy
import math
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from clozelab import data, evaluation, languages, models, objectives, planning, testing, training

SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2}
TEXTS = [f"The number {n} comes before {n + 1}." for n in range(60)]


class Pool:
    """What calls are made of. `right[name]()` and `right["function.name"]()` are arguments that can be meant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
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
            self.causal, self.model("decoder-only"), self.tokenizer, self.packed, self.packed, self.settings, run=self.run
        )
        self.right = self._right()
        self.hostile = self._hostile()

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
            *(self.right["report"](), self.right["leaks"](), self.right["batches_object"](), self.right["completion"]()),
        ]
        by_class: dict[type, list] = {}
        for one in found:
            by_class.setdefault(type(one), []).append(one)
        return by_class

    def _right(self) -> dict:
        ids = torch.arange(5, 29).view(3, 8)
        free, noise = torch.ones(3, 8, dtype=torch.bool), torch.rand(3, 8)
        flat = {"maskable": free[0], "noise": noise[0], "mask": free[0] & (ids[0] % 3 == 0), "tokens": ids[0]}
        values = {
            **{name: lambda v=value: v.clone() for name, value in flat.items()},
            **{name: lambda: ids.clone() for name in ("input_ids", "prompt_ids", "labels", "inputs", "targets")},
            **{name: lambda: torch.zeros(3, 8, dtype=torch.long) for name in ("document_ids", "documents")},
            **{name: lambda: torch.zeros(3, 8, dtype=torch.long) for name in ("reading_rank", "reading_group")},
            "query_documents": lambda: ids % 3,
            "key_documents": lambda: ids % 3,
            "query_rank": lambda: ids % 3,
            "key_rank": lambda: ids % 3,
            "query_group": lambda: ids % 3,
            "key_group": lambda: ids % 3,
            "encoder_tokens": lambda: ids.clone(),
            "attention_mask": lambda: torch.ones(3, 8, dtype=torch.long),
            "is_token": lambda: free.clone(),
            "in_loss": lambda: free.clone(),
            "word_ids": lambda: torch.arange(8) // 2,
            "logits": lambda: torch.randn(3, 40),
            "q": lambda: torch.randn(1, 2, 8, 4),
            "k": lambda: torch.randn(1, 2, 8, 4),
            "v": lambda: torch.randn(1, 2, 8, 4),
            "train": lambda: torch.randn(6, 4),
            "test": lambda: torch.randn(3, 4),
            "test_labels": lambda: torch.tensor([0, 1, 0]),
            "linear_probe.labels": lambda: torch.tensor([0, 1, 0, 1, 0, 1]),
            "nearest_neighbours.labels": lambda: torch.tensor([0, 1, 0, 1, 0, 1]),
            "attention_matrix": lambda: torch.ones(4, 4).tril().bool(),
            "replacements": lambda: torch.arange(5, 20),
            "transition": lambda: torch.tensor([[0.9, 0.1], [0.2, 0.8]]),
            "seen": lambda: torch.ones(40),
            "heldout": lambda: 0.1,
            "unigram_loss.heldout": lambda: torch.ones(40),
            "pack_shards.heldout": lambda: ["one", "two"],
            "train.heldout": lambda: self.packed,
            "unigram_baseline.seen": lambda: [self.batch(self.causal)],
            "unigram_baseline.heldout": lambda: [self.batch(self.causal)],
            "uniform_baseline.heldout": lambda: [self.batch(self.causal)],
            "smallest.noise": lambda: noise.clone(),
            "among": lambda: free.clone(),
            "index": lambda: torch.tensor([1, 0, 2]),
            "order": lambda: "confidence",
            "fill_masks.order": lambda: "all",
            "arrange.order": lambda: torch.arange(8).flip(0).expand(2, 8).clone(),
            "tokens_in_rows": lambda: ids.clone(),
            "table": lambda: torch.randn(40, 16),
            "states": lambda: torch.randn(3, 8, 16),
            "sum": lambda: torch.tensor(3.0),
            "Part.count": lambda: torch.tensor(2),
            "count": lambda: self.counted,
            "unigram_loss.count": lambda: 5.0,
            "check_mask_scheme.count": lambda: 20,
            "weights": lambda: None,
            "rate": lambda: 0.3,
            "sentinels": lambda: [39, 38, 37, 36, 35, 34],
            "train_bpe.sentinels": lambda: 4,
            "train_characters.sentinels": lambda: 4,
            "load_tokenizer.sentinels": lambda: 4,
            "prepare.sentinels": lambda: 4,
            "prepare_stream.sentinels": lambda: 4,
            "eos": lambda: 1,
            "pad": lambda: 0,
            "mask_id": lambda: 2,
            "start": lambda: 0,
            "start_id": lambda: 0,
            "stream": lambda: self.stream,
            "scheme_mask.stream": lambda: 3,
            "uniform.stream": lambda: 3,
            "uniform_row.stream": lambda: 3,
            "length": lambda: 16,
            "n": lambda: 20,
            "raw": lambda: 64,
            "queries": lambda: 4,
            "keys": lambda: 4,
            "rows": lambda: 2,
            "check_mask_scheme.rows": lambda: None,
            "check_collator.rows": lambda: 8,
            "batch_size": lambda: 2,
            "vocab_size": lambda: 400,
            "SpecialIds.vocab_size": lambda: 40,
            "max_new_tokens": lambda: 2,
            "generate_answers.tokens": lambda: 2,
            "plan.tokens": lambda: 1e6,
            "compare.tokens": lambda: 200,
            "total": lambda: 1e6,
            "devices": lambda: 2,
            "noise_density": lambda: 0.3,
            "mean_noise_span_length": lambda: 2.0,
            "seed": lambda: 0,
            "epoch": lambda: 0,
            "step": lambda: 1,
            "batch_at": lambda: lambda n: self.batch(self.causal),
            "loss_fn": lambda: self.causal,
            "evaluate.loss_fn": lambda: None,
            "max_grad_norm": lambda: 1.0,
            "device": lambda: torch.device("cpu"),
            "text": lambda: "the number ___ comes",
            "train.text": lambda: self.packed,
            "texts": lambda: list(TEXTS),
            "Mixture.texts": lambda: [self.packed, self.packed],
            "Mixture.names": lambda: ["a", "b"],
            "Mixture.weights": lambda: [0.5, 0.5],
            "documents": lambda: list(TEXTS),
            "corrupt_span_batch.documents": lambda: None,
            "Stream.documents": lambda: self.streamed,
            "StreamShard.documents": lambda: self.streamed,
            "pack_shards.documents": lambda: self.streamed,
            "blanks": lambda: [2],
            "source": lambda: list(TEXTS),
            "load_tokenizer.source": lambda: self.tokenizer.backend,
            "prepare_stream.source": lambda: str(self.folder / "rows.jsonl"),
            "masked_costs.source": lambda: self.coin,
            "chain_costs.source": lambda: self.coin,
            "span_costs.source": lambda: self.coin,
            "entropy_floor.source": lambda: self.coin,
            "sources": lambda: [self.coin, self.coin],
            "MixtureSource.sources": lambda: (self.coin, self.coin),
            "chain_costs.tokens": lambda: torch.tensor([[0, 1, 1, 0]]),
            "prompts": lambda: [[5, 6], [7]],
            "answers": lambda: [[8], [9, 10]],
            "architecture": lambda: "decoder-only",
            "size": lambda: "tiny",
            "folder": lambda: self.folder / "made",
            "read_results.folder": lambda: self.folder,
            "path": lambda: self.folder / "picture.png",
            "read_checkpoint.path": lambda: training.latest_checkpoint(self.run).path,
            "read_metrics.path": lambda: self.run / "metrics.jsonl",
            "run": lambda: self.run,
            "save_checkpoint.run": lambda: self.folder / "saved",
            "train.run": lambda: None,
            "compare.run": lambda: None,
            "ids": lambda: [5, 6, 7],
            "decode.ids": lambda: [5, 6],
            "take.ids": lambda: [0, 1],
            "i": lambda: 0,
            "probe.ids": lambda: None,
            "probe_objective.ids": lambda: None,
            "objective": lambda: self.causal,
            "objectives": lambda: [self.causal],
            "tokenizer": lambda: self.tokenizer,
            "special": lambda: self.tokenizer.special,
            "corrupt_spans.special": lambda: self.special,
            "backend": lambda: self.tokenizer.backend,
            "config": lambda: self.config,
            "train.config": lambda: self.settings,
            "compare.config": lambda: self.settings,
            "fit.config": lambda: self.settings,
            "optimizer_of.config": lambda: self.settings,
            "model": lambda: self.model("decoder-only"),
            "complete_masked_text.model": lambda: self.model("encoder-only"),
            "fill_masked_text.model": lambda: self.model("encoder-only"),
            "fill_masks.model": lambda: self.model("encoder-only"),
            "sample_masked_text.model": lambda: self.model("encoder-only"),
            "pseudo_log_likelihood.model": lambda: self.model("encoder-only"),
            "fill_spans.model": lambda: self.model("encoder-decoder"),
            "fill_span_text.model": lambda: self.model("encoder-decoder"),
            "sample_span_text.model": lambda: self.model("encoder-decoder"),
            "infill_log_prob.model": lambda: self.model("encoder-decoder"),
            "model_call.inputs": lambda: self.batch(self.causal),
            "probe.inputs": lambda: {"input_ids": ids[:1].clone()},
            "blocks": lambda: self.blocks,
            "packed": lambda: self.packed,
            "shards": lambda: [self.packed],
            "corpus": lambda: self.corpus,
            "prepared": lambda: self.prepared,
            "collator": lambda: self.causal.collator(self.tokenizer.special),
            "corrupt": lambda: self.causal.corrupt,
            "batch": lambda: self.batch(self.causal),
            "batches": lambda: [self.batch(self.causal)],
            "micro_batches": lambda: [self.batch(self.causal)],
            "heldout_batches": lambda: [self.batch(self.causal)],
            "examples": lambda: data.Examples(ids, free, free, data.Noise.of(0, 0, [1, 2, 3]), self.special),
            "answer_leaks.examples": lambda: [[5, 6, 7, 8]],
            "corrupt.examples": lambda: data.Examples(ids, free, free, data.Noise.of(0, 0, [1, 2, 3]), self.special),
            "noise_object": lambda: data.Noise.of(0, 0, [1, 2, 3]),
            "keys_of_noise": lambda: np.arange(3, dtype=np.uint64),
            "Noise.keys": lambda: np.arange(3, dtype=np.uint64),
            "scheme": lambda: "exact-count",
            "scheme_mask.scheme": lambda: lambda tokens, maskable, generator: maskable,
            "check_mask_scheme.scheme": lambda: lambda tokens, maskable, generator: maskable,
            "scheme_keys.scheme": lambda: lambda tokens, maskable, generator, word_ids: maskable,
            "scheme_mask.maskable": lambda: free.clone(),
            "loss": lambda: self.causal(self.models["decoder-only"], self.batch(self.causal)),
            "parts": lambda: {"logits": self.right["part"]()},
            "Completion.parts": lambda: (("a", False), ("b", True)),
            "part": lambda: objectives.Part(torch.tensor(3.0), torch.tensor(2)),
            "target": lambda: objectives.Target(ids),
            "counts": lambda: [{"logits": torch.tensor(3)}],
            "scores": lambda: evaluation.Scores(torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool)),
            "leaks": lambda: evaluation.probe(self.models["decoder-only"], {"input_ids": ids[:1]}),
            "report": lambda: self.right["leaks"](),
            "batches_object": lambda: training.Batches(self.blocks, self.right["collator"](), 2),
            "completion": lambda: self.causal.complete(self.models["decoder-only"], self.tokenizer, "a"),
            "processes": training.Processes,
            "optimizer": lambda: training.optimizer_of(self.model("decoder-only"), self.settings),
            "plan.optimizer": lambda: "adamw",
            "state.optimizer": lambda: "adamw",
            "optimizer_flops.optimizer": lambda: "adamw",
            "loss_module": lambda: objectives.LossModule(self.causal, self.model("decoder-only")),
            "machine": planning.Machine,
            "row": lambda: self.row,
            "draw_attention.row": lambda: 0,
            "probe_objective.row": lambda: 0,
            "made": lambda: self.planned,
            "plans": lambda: [self.planned],
            "results": list,
            "axes": lambda: plt.figure().gca(),
            "cls": lambda: objectives.CausalLM,
            "parser": argparse.ArgumentParser,
            "findings": lambda: {"a": testing.Finding("passed", "all is well")},
            "name": lambda: "name",
            "workers": lambda: 0,
            "pack_shards.workers": lambda: 1,
            "passes": lambda: 1,
            "values": lambda: (0.1, 0.2, 0.3),
            "shares": lambda: None,
            "spans": lambda: None,
            "example": lambda: None,
            "state": dict,
            "cross_attention_mask.tokens": lambda: ids.clone(),
            "self_attention_mask.tokens": lambda: ids.clone(),
            "document_ids.tokens": lambda: ids.clone(),
            "corrupt_span_batch.tokens": lambda: ids.clone(),
            "corrupt_span_batch.mask": lambda: (ids % 3 == 0),
            "number": lambda: 0,
            "value": lambda: 0,
            "smallest.k": lambda: torch.tensor([[2], [1], [3]]),
            "continue_by_blocks.model": lambda: self.model("encoder-only"),
            "generators.stream": lambda: 3,
            "row": lambda: self.row,
            "Noise.row.row": lambda: 0,
            "exercises.count": lambda: 2,
            "pad_rows.rows": lambda: [[1, 2], [3]],
            "restore_spans.inputs": lambda: torch.tensor([5, 39, 6]),
            "restore_spans.targets": lambda: torch.tensor([39, 7, 8]),
            "split_spans.targets": lambda: torch.tensor([39, 7, 8]),
            "rolled_mask.mask": lambda: (ids % 3 == 0),
            "rolled_mask.maskable": lambda: free.clone(),
            "rolled_mask.noise": lambda: noise[:, :1].clone(),
            "solve_span_lengths.inputs": lambda: 64,
            "stack_batches.batches": lambda: [self.batch(self.causal)],
            "stack_batches.index": lambda: torch.tensor([1, 0]),
            "block_size": lambda: 4,
            "check_collator.rows": lambda: 64,
            "check_mask_scheme.count": lambda: 100,
            "check_mask_scheme.length": lambda: 8,
            "config_near.total": lambda: 1e8,
            "masked_costs.seen": lambda: torch.tensor([[0, 2, 1]]),
            "masked_costs.labels": lambda: torch.tensor([[-100, 1, -100]]),
            "masked_costs.channel": lambda: torch.eye(2, 3),
            "masked_costs.own_channel": lambda: torch.tensor([[0.0, 0.0, 1.0]] * 2),
            "script": lambda: "01_first.py",
            "role": lambda: "mask",
            "steps": lambda: 2,
            "extend.steps": lambda: 2,
            "progress": lambda: 0.5,
            "pack.progress": lambda: False,
            "train.progress": lambda: False,
            "prepare.progress": lambda: False,
            "compare.progress": lambda: False,
            "log_prob.text": lambda: torch.tensor([[0, 1, 1]]),
            "posterior.text": lambda: torch.tensor([[0, 1, 1]]),
            "random.symbols": lambda: 3,
            "random.entropy": lambda: 0.5,
            "sample.texts": lambda: 2,
            "sample.text": lambda: "the number",
            "strategy": lambda: "one device",
            "layout": lambda: self.planned.layout("one device"),
            "layout.micro_batch_size": lambda: 1,
            "memory.micro_batch_size": lambda: 1,
            "choose.noise": lambda: noise.clone(),
            "choose.maskable": lambda: free.clone(),
            "hidden": lambda: torch.randn(3, 8, 16),
            "decoder_input_ids": lambda: ids.clone(),
            "encoder_hidden_states": lambda: torch.randn(3, 8, 16),
            "attention_matrix.tokens": lambda: ids.clone(),
            "attention_matrix.encoder_tokens": lambda: ids.clone(),
            "of.example_ids": lambda: [1, 2, 3],
            "index_of_row": lambda: 0,
            "row.index": lambda: 0,
            "Loss.__getitem__.name": lambda: "logits",
            "__getitem__.name": lambda: "logits",
            "__getitem__.role": lambda: "mask",
            "over.counts": lambda: {"logits": torch.tensor(3)},
            "byte_counts": lambda: None,
            "bits_per_byte.byte_counts": lambda: torch.ones(1, 3),
            "__call__.examples": lambda: [{"input_ids": [5, 6, 7]}, {"input_ids": [8, 9]}],
            "block.input_ids": lambda: ids.clone(),
            "block.example_ids": lambda: [1, 2, 3],
            "block.tokens": lambda: ids.clone(),
            "skill": lambda: "copying",
            "words": lambda: ["the"],
            "prediction": lambda: objectives.Prediction(torch.zeros(3, 8, 40)),
            "rows_of_comparison": lambda: self.compared,
            **{f"{name}.rows": lambda: self.compared for name in ("draw_comparison", "print_comparison", "save_comparison")},
            "draw_loss.row": lambda: self.compared[0],
            "print_comparison.corpus": lambda: "a corpus",
        }
        return values

    def _hostile(self) -> list:
        """Values that hardly any parameter means; each call of one makes it anew."""
        numbers = [-1, 0, 1, 3, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 1.5, 1e-320, 1e308, -0.5]
        numbers += [math.nan, math.inf, -math.inf, True, None, np.int64(3), np.float32("nan"), 3 + 4j]
        texts = ["", "x", "\0", "\ud800", "a" * 3000, "nowhere/at/all", "/dev/null", b"x", "é\u202e"]
        makers = [
            *(lambda v=value: v for value in [*numbers, *texts]),
            *(list, dict, set, tuple, object, lambda: [1], lambda: [None], lambda: ["a"], lambda: {"a": 1}),
            *(lambda: iter([]), lambda: (n for n in range(3)), lambda: range(3), lambda: [[1], [2, 3]], lambda: [math.nan]),
            *(lambda: int, lambda: print, lambda: lambda *_, **__: None, lambda: Path("nowhere"), lambda: Path("/dev/null")),
            *(lambda: np.array([]), lambda: np.array([[1.5]]), lambda: np.array(["a"]), lambda: np.array([None])),
            *(lambda: torch.tensor(3), lambda: torch.tensor(math.nan), lambda: torch.zeros(0), lambda: torch.zeros(1, 8)),
            *(lambda: torch.zeros(0, 8, dtype=torch.long), lambda: torch.zeros(8, dtype=torch.bool), lambda: torch.ones(2, 2, 2)),
            *(lambda: torch.eye(8).to_sparse(), lambda: torch.zeros(3, 8, device="meta"), lambda: torch.zeros(3, 8) * 1j),
            *(lambda: torch.ones(3, 8, dtype=torch.long, device="meta"), lambda: torch.ones(3, 8, dtype=torch.uint8)),
            *(lambda: torch.ones(3, 8).long().to_sparse(), lambda: torch.ones(3, 8, dtype=torch.uint16)),
            *(torch.Generator, lambda: nn.Linear(2, 2), nn.Identity, lambda: torch.full((3, 8), 2**62)),
            *(lambda: self.tokenizer, lambda: self.special, lambda: self.packed, lambda: self.causal, lambda: self.config),
            *(lambda: self.batch(self.span), lambda: self.batch(self.masked), lambda: self.models["encoder-decoder"]),
        ]
        return makers


def spoiled(value, random):
    """A right value with something about it changed."""
    if isinstance(value, torch.Tensor):
        ways = [
            lambda t: t.float(),
            lambda t: t.long(),
            lambda t: t.bool(),
            lambda t: t[..., :0],
            lambda t: t[:0],
            lambda t: t[None],
            lambda t: t.flatten(),
            lambda t: t.flatten()[:1],
            lambda t: t.to("meta"),
            lambda t: t.to_sparse(),
            lambda t: torch.cat([t, t]) if t.dim() else t,
            lambda t: t.long() + 10**6,
            lambda t: -t.long(),
            lambda t: t.double() * math.nan,
            lambda t: t.half(),
            lambda t: t.to(torch.int8),
            lambda t: t.numpy(),
            lambda t: t.tolist(),
            lambda t: t.float().requires_grad_(),
            lambda t: t.to(torch.complex64),
        ]
    elif isinstance(value, bool):
        ways = [lambda v: int(v), lambda v: str(v), lambda v: None]
    elif isinstance(value, (int, float)):
        ways = [lambda v: -v, lambda v: v * 10**9, lambda v: float(v), lambda v: v + 0.5, lambda v: str(v)]
        ways += [lambda v: [v], lambda v: torch.tensor(v), lambda v: torch.tensor([v, v]), lambda v: np.float64(v)]
    elif isinstance(value, dict):
        ways = [lambda v: {}, lambda v: list(v), lambda v: {**v, "more": 1}, lambda v: {k: None for k in v}]
        ways += [lambda v: dict(list(v.items())[1:]), lambda v: {k: spoiled(x, random) for k, x in v.items()}]
    elif isinstance(value, (list, tuple)):
        ways = [lambda v: v[:0], lambda v: [*v, None], lambda v: [*v, *v], lambda v: iter(v), lambda v: [v]]
        ways += [lambda v: [*v, "x"], lambda v: [*v, -1], lambda v: np.array(v, dtype=object), lambda v: dict.fromkeys(range(len(v)))]
        ways += [lambda v: [spoiled(x, random) for x in v]]
    elif isinstance(value, str):
        ways = [lambda v: v.upper(), lambda v: f"{v}x", lambda v: v.encode(), lambda v: [v], lambda v: v * 200]
    else:
        ways = [lambda v: [v], lambda v: type(v), lambda v: (v, v), lambda v: str(v)]
    return random.choice(ways)(value)
