"""Values for the fuzz test that hardly any parameter means, and right ones that were spoiled."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn


def hostile_values(pool) -> list:
    """Values that hardly any parameter means; each call of one makes it anew."""
    numbers = [-1, 0, 1, 3, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 1.5, 1e-320, 1e308, -0.5]
    numbers += [math.nan, math.inf, -math.inf, True, None, np.int64(3), np.float32("nan"), 3 + 4j]
    texts = ["", "x", "\0", "\ud800", "a" * 300, "nowhere/at/all", "/dev/null", b"x", "é\u202e"]
    makers = [
        *(lambda v=value: v for value in [*numbers, *texts]),
        *(list, dict, set, tuple, object, lambda: [1], lambda: [None], lambda: ["a"], lambda: {"a": 1}),
        *(
            lambda: iter([]),
            lambda: (n for n in range(3)),
            lambda: range(3),
            lambda: [[1], [2, 3]],
            lambda: [math.nan],
        ),
        *(
            lambda: int,
            lambda: print,
            lambda: lambda *_, **__: None,
            lambda: Path("nowhere"),
            lambda: Path("/dev/null"),
        ),
        *(lambda: np.array([]), lambda: np.array([[1.5]]), lambda: np.array(["a"]), lambda: np.array([None])),
        *(
            lambda: torch.tensor(3),
            lambda: torch.tensor(math.nan),
            lambda: torch.zeros(0),
            lambda: torch.zeros(1, 8),
        ),
        *(
            lambda: torch.zeros(0, 8, dtype=torch.long),
            lambda: torch.zeros(8, dtype=torch.bool),
            lambda: torch.ones(2, 2, 2),
        ),
        *(
            lambda: torch.eye(8).to_sparse(),
            lambda: torch.zeros(3, 8, device="meta"),
            lambda: torch.zeros(3, 8) * 1j,
        ),
        *(lambda: torch.ones(3, 8, dtype=torch.long, device="meta"), lambda: torch.ones(3, 8, dtype=torch.uint8)),
        *(lambda: torch.ones(3, 8).long().to_sparse(), lambda: torch.ones(3, 8, dtype=torch.uint16)),
        *(torch.Generator, lambda: torch.full((3, 8), 2**62)),
        *(
            lambda: pool.tokenizer,
            lambda: pool.special,
            lambda: pool.packed,
            lambda: pool.settings,
            lambda: pool.config,
        ),
        *(lambda: pool.batch(pool.span), lambda: pool.batch(pool.masked), lambda: pool.models["encoder-decoder"]),
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
        ways = [lambda v: {}, lambda v: list(v), lambda v: {**v, "more": 1}, lambda v: dict.fromkeys(v)]
        ways += [lambda v: dict(list(v.items())[1:]), lambda v: {k: spoiled(x, random) for k, x in v.items()}]
    elif isinstance(value, (list, tuple)):
        ways = [lambda v: v[:0], lambda v: [*v, None], lambda v: [*v, *v], lambda v: iter(v), lambda v: [v]]
        ways += [
            lambda v: [*v, "x"],
            lambda v: [*v, -1],
            lambda v: np.array(v, dtype=object),
            lambda v: dict.fromkeys(range(len(v))),
        ]
        ways += [lambda v: [spoiled(x, random) for x in v]]
    elif isinstance(value, nn.Module) and list(value.parameters()):
        ways = [
            lambda v: nn.Linear(2, 2),
            lambda v: nn.Identity(),
            lambda v: v.to("meta"),
            lambda v: type(v),
            lambda v: [v],
        ]
    elif isinstance(value, str):
        ways = [lambda v: v.upper(), lambda v: f"{v}x", lambda v: v.encode(), lambda v: [v], lambda v: v * 200]
    else:
        ways = [lambda v: [v], lambda v: type(v), lambda v: (v, v), lambda v: str(v)]
    return random.choice(ways)(value)
