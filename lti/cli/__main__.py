"""`python -m lti.cli`."""

import sys

from lti.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
