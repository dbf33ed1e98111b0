"""What test_devices.py runs in a process of its own: every objective, and commands, on a fake accelerator.

python tests/on_a_fake_accelerator.py FOLDER objectives|commands
"""

import json
import sys
import traceback
from pathlib import Path

import torch

torch.set_num_threads(1)
sys.path.insert(0, str(Path(__file__).parent))
import fake_accelerator  # noqa: E402

kept = fake_accelerator.install()

from clozelab.cli import main  # noqa: E402
from clozelab.data import SpecialIds  # noqa: E402
from clozelab.device import find_device  # noqa: E402
from clozelab.evaluation import evaluate  # noqa: E402
from clozelab.objectives import OBJECTIVES  # noqa: E402
from clozelab.training import TrainConfig, optimizer_of, seeded_model, train_step  # noqa: E402
from clozelab.training.parallel import wrap  # noqa: E402
from clozelab.training.processes import SINGLE  # noqa: E402
from clozelab.training.seeding import seeded_rng  # noqa: E402

SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2, "dropout": 0.1}


def losses(name, device, optimizer):
    """The loss of a step, and of an evaluation after it."""
    options = {"permute_sentences": False} if name == "bart" else {}  # SpecialIds alone know no ends of sentences
    objective = OBJECTIVES[name](**options)
    roles = {role: 3 + n for n, role in enumerate(role for role in objective.roles if role != "mask")}
    special = SpecialIds(200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1), roles=roles)
    source = objective.source_length(24)
    text = torch.randint(20, 99, (2, source), generator=torch.Generator().manual_seed(0))
    batch = objective.collator(special).block(text, range(2))
    model = seeded_model(objective, special.vocab_size, "tiny", 0, **SHAPE).to(device).train()
    made = optimizer_of(model, TrainConfig(optimizer=optimizer))
    with seeded_rng(0, 0, device):
        result = train_step(wrap(objective, model, SINGLE), [batch], made, max_grad_norm=1.0, device=device)
    return float(result.loss.mean), evaluate(objective, model, [batch]).nats


def refusals():
    """What the fake accelerator says to numbers that it has not, and to those of the processor."""
    here, said = torch.ones(2, 2, device=find_device()), []
    for wrong in (here.double, lambda: torch.view_as_complex(here), lambda: here + torch.ones(2, 2)):
        try:
            said.append(f"it took {wrong()}")
        except (TypeError, RuntimeError) as error:
            said.append(str(error))
    return said


def objectives():
    """{name: losses on the processor, and on the accelerator or the error}."""
    found = {"refusals": refusals()}
    for number, name in enumerate(OBJECTIVES):
        optimizer = ("adamw", "muon")[number % 2]
        try:
            there = losses(name, find_device(), optimizer)
        except Exception as error:  # whatever it is, the test shows it
            where = traceback.extract_tb(error.__traceback__)[-8:]
            there = f"{type(error).__name__}: {error} {[f'{Path(one.filename).name}:{one.lineno}' for one in where]}"
        found[name] = losses(name, torch.device("cpu"), optimizer), there
    return found


def commands(folder):
    """{words: exit code} of commands on the accelerator, and of a run that changes between it and the processor."""
    corpus = folder / "corpus.txt"
    corpus.write_text("\n\n".join(f"{n} The cat sat on the mat, and the dog sat on the cat." for n in range(60)))
    small = ("--corpus", str(corpus), "--vocab-size", "400", "--sentinels", "10", "--length", "32", "--batch-size", "4")
    causal, masked = str(folder / "causal"), str(folder / "masked")
    lines = [
        ("train", "--objective", "causal", *small, "--steps", "2", "--checkpoint-every", "1", "--run", causal),
        ("train", "--run", causal, "--extend", "1", "--device", "cpu"),
        ("train", "--run", causal, "--extend", "1"),
        ("train", "--objective", "masked", *small, "--steps", "1", "--run", masked),
        ("generate", causal, "The cat", "--tokens", "3", "--top-p", "0.9"),
        ("fill", masked, "The ___ sat"),
        ("compare", *small, "--objectives", "causal", "span", "--tokens", "400", "--out", str(folder / "compare")),
        ("floors", "--objectives", "masked", "--steps", "1", "--out", str(folder / "floors")),
        ("train", *small, "--device", "cuda", "--run", str(folder / "none")),
    ]
    return [(line[0], main([*line])) for line in lines]


if __name__ == "__main__":
    where = Path(sys.argv[1])
    result = objectives() if sys.argv[2] == "objectives" else commands(where)
    (where / "result.json").write_text(json.dumps(result))
