"""`clozelab plan`: what a run needs, on paper."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..errors import InputError
from . import parsing
from .parsing import Given, Parser, first_of_each_architecture
from .values import AMOUNT, COUNT, PROBABILITY, SIZE, amount, number, objective_name, whole

SUMMARY = "compute what a run needs: operations, memory, network, time, and which strategy fits"
EXAMPLE = "clozelab plan --params 7B --tokens 1T --objective causal --devices 8 --network 450e9"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parsing.add_objective(parser, words, default=None, about="one objective, with each strategy")
    parser.add_argument(
        "--objectives",
        nargs="+",
        type=objective_name,
        metavar="NAME",
        help="or several objectives, side by side  (default: the first of each architecture)",
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--params",
        type=number(amount, 1, 1e15, "a number of parameters from 1 to 1e15, as 7e9 or 7B"),
        default=7e9,
        help="number of parameters; a plausible shape of about this size is chosen",
    )
    sizes.add_argument("--size", choices=("tiny", "small", "base"), help="or a named shape")
    parser.add_argument("--vocab-size", type=COUNT, default=32_768, help="size of the vocabulary")
    tokens = number(amount, 1, 1e18, "a number of tokens from 1 to 1e18, as 1e12 or 1T")
    parser.add_argument("--tokens", type=tokens, default=1e12, help="tokens of text that the run sees")
    parser.add_argument(
        "--batch-tokens", type=tokens, default=2**22, help="tokens of text per step, on all devices together"
    )
    parser.add_argument("--length", type=SIZE, default=2048, help="input tokens of a row")
    parser.add_argument(
        "--optimizer", choices=("adamw", "muon"), default="adamw", help="adamw for all weights, or muon as in train"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="bfloat16", help="precision of matrix products"
    )
    parser.add_argument(
        "--recompute", action="store_true", help="blocks keep only their inputs, and recompute the rest"
    )
    parser.add_argument(
        "--async-checkpoints", action="store_true", help="write checkpoints from copies, during training"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/scaling.md")
    machine = parser.add_argument_group("machine", "The defaults are an H100's data sheet, rounded, and 400 Gbit/s.")
    machine.add_argument(
        "--devices",
        type=number(whole, 1, 10**6, "a whole number from 1 to 10^6"),
        default=1,
        help="number of devices, all of one kind",
    )
    machine.add_argument("--kind", choices=("cuda", "cpu"), default="cuda", help="kind of device")
    machine.add_argument("--device-flops", type=AMOUNT, default=1e15, help="peak operations per second of a device")
    machine.add_argument("--device-memory", type=AMOUNT, default=80e9, help="bytes of a device")
    machine.add_argument("--network", type=AMOUNT, default=50e9, help="bytes per second that a device sends")
    machine.add_argument("--utilisation", type=PROBABILITY, default=0.4, help="share of --device-flops that is reached")
    machine.add_argument(
        "--delivered", type=AMOUNT, help="tokens per second that one core makes into batches  (default: as measured)"
    )


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the table and what it cannot say."""
    from ..display import plan_notes, plan_table
    from ..models import model_config
    from ..planning import Machine, config_near, plan

    if args.objective is not None and args.objectives is not None:
        raise InputError(
            "--objective and --objectives: give one of them, either one objective with each strategy or several"
        )
    machine = Machine(
        devices=args.devices,
        flops=args.device_flops,
        memory=args.device_memory,
        network=args.network,
        utilisation=args.utilisation,
        kind=args.kind,
    )
    plans = []
    for name in [args.objective] if args.objective is not None else args.objectives or first_of_each_architecture():
        objective = parsing.objective_of(name, args)
        if args.size is None:
            config = config_near(args.params, objective, args.vocab_size)
        else:
            config = model_config(objective.architecture, args.size, args.vocab_size)
        plans.append(
            plan(
                objective,
                config,
                tokens=args.tokens,
                length=args.length,
                batch_tokens=args.batch_tokens,
                machine=machine,
                precision=args.precision,
                optimizer=args.optimizer,
                delivered=args.delivered,
                recompute=args.recompute,
                async_checkpoints=args.async_checkpoints,
            )
        )
    print(plan_table(plans, markdown=args.markdown))
    for note in [note for made in plans for note in plan_notes(made)]:
        print(f"\n{note}" if args.markdown else note)
    return 0
