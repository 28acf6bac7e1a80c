"""`python -m visrag_integrations.cli` is the `visrag` command."""

import sys

from visrag_integrations.cli import main

sys.exit(main())
