"""`python -m spliceio`, and the command of that name: `main` in `_cli` has all of it."""

from __future__ import annotations

import sys

from ._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
