"""`clozelab playground`: a page in the browser on which text, objective, options and tokens are changed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .parsing import Given, Parser
from .values import number

SUMMARY = "open a page on which text, objective and options can be changed"
EXAMPLE = "clozelab playground"


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    port = number(int, 1, 65_535, "a port from 1 to 65535")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets other machines connect")
    parser.add_argument("--port", type=port, help="port to listen on  (default: the first free one from 7860 on)")


def run(args: argparse.Namespace, given: Given) -> int:
    """Serve the page until Ctrl-C."""
    from ..errors import InputError
    from ..playground import launch

    try:
        launch(server_name=args.host, server_port=args.port)
    except OSError as error:
        raise InputError(f"nothing can listen on {args.host}: {error}") from error
    return 0
