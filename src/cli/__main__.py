"""`python -m clozelab.cli`, as torchrun calls it."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
