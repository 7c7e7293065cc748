"""`python -m compressm`: the command line."""

import sys

from compressm.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
