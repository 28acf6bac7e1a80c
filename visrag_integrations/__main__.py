"""`python -m visrag_integrations`: the `visrag` command, where its script is not on the path."""

from __future__ import annotations

import sys

from visrag_integrations.cli import main

if __name__ == "__main__":
    sys.exit(main())
