"""Models of a `World` of skills, which several lessons share: pretraining, fine-tuning, examination."""

from __future__ import annotations

import hashlib
import inspect
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..data.corpora.cache import written_whole
from ..generation import causal_pairs
from ..generation.texts import expect_model
from ..languages import World
from ..languages.skills import END, Exercise, Words
from ..models import DecoderOnly, eval_mode
from ..models.layers import Block
from ..objectives import CausalLM
from ..training import TrainConfig, fit
from ..training.muon import Muon

Ask = Callable[[Exercise], Words]
"""The words of a prompt."""

BROAD = ("arithmetic", "facts turned round")
NARROW = (*BROAD, "copying", "translation")
"""What the two worlds of lessons 08, 11 and 19 are without: the two skills that models of this size memorise, which
slow the others down, and in the narrow one two more."""
BASE_STEPS = 700
"""Steps of pretraining in lessons 08, 11 and 19."""


def statement(exercise: Exercise) -> Words:
    """As in prose: `</s> 3 + 4 =`."""
    return (END, *exercise.prompt)


def question(exercise: Exercise) -> Words:
    """A bare question: `</s> what is 3 + 4 ?`."""
    return (END, *exercise.question)


def interview(exercise: Exercise) -> Words:
    """As in an interview: `</s> ask what is 3 + 4 ? say`."""
    return (END, "ask", *exercise.question, "say")


def pretrain(world: World, steps: int, *, callback: Callable[[nn.Module, int], None] | None = None) -> nn.Module:
    """Train a causal model on the text of a world: two layers of width 64, 16 rows of 64 tokens a step, Muon, float32.

    The initial weights are drawn from the world's seed. `callback(model, step)` is called after each step, the first
    being 1.

    >>> import torch
    >>> from clozelab.course.worlds import pretrain
    >>> from clozelab.languages import World
    >>> model = pretrain(World(0), steps=1)
    >>> model(torch.tensor([[1, 2, 3]])).shape  # hidden states (B, T, D)
    torch.Size([1, 3, 64])
    """
    model = untrained(world)

    def batch(step: int) -> dict[str, Tensor]:
        text = world.block(step, 16, 64)
        return {"input_ids": text, "labels": text}

    after = None if callback is None else lambda step, _: callback(model, step)
    fit(CausalLM(), model, batch, TrainConfig(steps, precision="float32"), callback=after)
    return model


def untrained(world: World) -> nn.Module:
    """The model that `pretrain` begins with."""
    torch.manual_seed(world.seed)
    return CausalLM().build_model(world.special.vocab_size, "tiny", d_model=64, n_layers=2, n_heads=2)


class Bases:
    """Pretrained models that several lessons begin with: each is trained once, and kept in a folder.

    A file is named after the world, the steps, PyTorch's version and the source code that makes the model, so that a
    model of other settings is never taken for this one. With folder=None nothing is kept.

    >>> from clozelab.course.worlds import Bases
    >>> from clozelab.languages import World
    >>> bases = Bases(None)
    >>> model = bases(World(0), steps=1)
    >>> bases.seconds  # nothing was loaded
    0.0
    """

    def __init__(self, folder: str | Path | None = "runs/course/bases") -> None:
        self.folder = None if folder is None else Path(folder)
        self.seconds = 0.0
        """Processor time that the training of the loaded models took, which belongs to the time of a lesson."""

    def __call__(
        self, world: World, steps: int, *, callback: Callable[[nn.Module, int], None] | None = None
    ) -> nn.Module:
        """`pretrain(world, steps)`, or what an earlier call of it has kept; with a callback it is always trained."""
        if self.folder is None:
            return pretrain(world, steps, callback=callback)
        path = self.folder / f"{_digest(world, steps)}.safetensors"
        if path.exists() and callback is None:
            model = untrained(world)
            with safetensors.safe_open(path, "pt") as file:
                self.seconds += float(file.metadata()["seconds"])
                model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return model.train()
        begun = time.process_time()
        model = pretrain(world, steps, callback=callback)
        seconds = {"seconds": f"{time.process_time() - begun:.1f}"}
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(safetensors.torch.save(model.state_dict(), metadata=seconds))
        return model


def _digest(world: World, steps: int) -> str:
    """Of all that a pretrained model depends on."""
    files = [Path(inspect.getfile(one)) for one in (World, CausalLM, DecoderOnly, Block, TrainConfig, fit, Muon)]
    source = [*(path.read_text(encoding="utf-8") for path in files), *map(inspect.getsource, (pretrain, untrained))]
    settings = repr((world, steps, torch.__version__))
    return hashlib.sha256("".join([settings, *source]).encode()).hexdigest()[:16]


def finetune(
    base: nn.Module,
    world: World,
    exercises: Sequence[Exercise],
    config: TrainConfig,
    *,
    rows: int = 16,
    ask: Ask = question,
    say: str = "{}",
    callback: Callable[[nn.Module, int], None] | None = None,
) -> nn.Module:
    """A copy of a model, taught `rows` of these exercises a step, with answer and end of text in the loss.

    `ask` makes the prompt and `say` the answer, "{}" being its words. See `gentle` and `thorough` for `config`.
    """
    model, generator = deepcopy(base), torch.Generator().manual_seed(world.seed)
    prompts = [world.ids(ask(exercise)) for exercise in exercises]
    answers = [world.ids(_said(exercise.answer, say)) for exercise in exercises]

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(prompts), (rows,), generator=generator).tolist()
        return causal_pairs([prompts[k] for k in chosen], [answers[k] for k in chosen], world.special)

    after = None if callback is None else lambda step, _: callback(model, step)
    fit(CausalLM(), model, batch, config, callback=after)
    return model


def gentle(steps: int, learning_rate: float = 1e-3) -> TrainConfig:
    """Fine-tuning that changes little: AdamW, its learning rate level after a few steps."""
    return TrainConfig(
        steps,
        optimizer="adamw",
        learning_rate=learning_rate,
        weight_decay=0.0,
        precision="float32",
        warmup=min(1.0, 4 / steps),
        decay=0.0,
    )


def thorough(steps: int) -> TrainConfig:
    """Fine-tuning that learns as much as it can: Muon, its learning rate level until half of the steps are done.

    After 200 steps of 32 rows a model that had never met a translation had 99% of the words right, where AdamW at 1e-3
    had 78% after 500 steps of 16 rows (one seed).
    """
    return TrainConfig(
        steps, learning_rate=0.01, weight_decay=0.0, precision="float32", warmup=min(1.0, 4 / steps), decay=0.5
    )


def words_right(
    model: nn.Module, world: World, exercises: Sequence[Exercise], ask: Ask, *, say: str = "{}", ended: bool = False
) -> list[list[bool]]:
    """For each word of each answer: whether the model finds a right one the most probable, after right words.

    Where all of an answer's are, greedy decoding generates this answer: one pass through the model tells what decoding
    word by word would. With `ended` the end of text behind the answer counts as a word of it.

    >>> from clozelab.course.worlds import pretrain, statement, words_right
    >>> from clozelab.languages import World
    >>> world = World(0)
    >>> words_right(pretrain(world, steps=1), world, world.exercises("arithmetic", 2), statement)
    [[False], [False]]
    """
    prompts = [world.ids(ask(exercise)) for exercise in exercises]
    answers = [world.ids(_said(exercise.answer, say)) for exercise in exercises]
    batch, decoder = causal_pairs(prompts, answers, world.special), expect_model(model, DecoderOnly)
    with eval_mode(decoder):
        logits = decoder.unembed(decoder(batch["input_ids"], attention_mask=batch["attention_mask"]))
    logits[..., world.special.pad] = -torch.inf
    likeliest = logits.argmax(-1).tolist()
    marks = []
    for exercise, prompt, answer, row in zip(exercises, prompts, answers, likeliest):
        right = [world.ids(_said(one, say)) for one in exercise.answers]
        said = row[len(prompt) - 1 : len(prompt) + len(answer) - 1]
        marks.append([any(one[:k] == answer[:k] and one[k] == said[k] for one in right) for k in range(len(answer))])
        marks[-1] += [row[len(prompt) + len(answer) - 1] == world.special.eos] * ended
    return marks


def share_of_words(model: nn.Module, world: World, exercises: Sequence[Exercise], ask: Ask) -> float:
    """Share of the answers' words that are right, so that a half-learned skill shows. See `words_right`."""
    return fmean(word for row in words_right(model, world, exercises, ask) for word in row)


def share_right(
    model: nn.Module, world: World, exercises: Sequence[Exercise], ask: Ask, *, say: str = "{}", ended: bool = False
) -> float:
    """Share of the exercises to which greedy decoding gives a right answer, the whole of it. See `words_right`."""
    return fmean(all(row) for row in words_right(model, world, exercises, ask, say=say, ended=ended))


def _said(answer: Words, say: str) -> list[str]:
    return say.format(" ".join(answer)).split()
