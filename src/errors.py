"""What can go wrong, by name."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of an `OSError`: the disk has no space left, or this user may have no more of it."""


class InputError(ValueError):
    """Input that cannot be used: the message says what was expected, what came, and the likely cause.

    The command line prints the message as one line and exits with code 2; in Python it is a
    `ValueError` like any other.
    """


class ProcessLost(RuntimeError):
    """Another process of the same run has gone, so that this one cannot go on: the message says what to do.

    The command line prints the message as one line and exits with code 1.
    """


class NotFinite(ArithmeticError):
    """A loss, a gradient or a weight became infinite or NaN: the message names the step and the examples.

    The command line prints the message as one line and exits with code 1.
    """
