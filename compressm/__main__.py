"""`python -m compressm`: the command line."""

import sys

from compressm.cli import main

__all__: list[str] = []

sys.exit(main())
