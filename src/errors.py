"""What clozelab says when its input is wrong."""


class InputError(ValueError):
    """Input that cannot be used: the message says what was expected, what came, and the likely cause.

    The command line prints the message as one line and exits with code 2; in Python it is a
    `ValueError` like any other.
    """
