"""One of two processes of `test_training_systems.py`."""

from __future__ import annotations

import sys

from test_training_systems import QUADS, SMALL, TRAIN, quads_set

from visrag_integrations.training import train_retriever

if __name__ == "__main__":
    train_retriever(sys.argv[1], TRAIN, sys.argv[2], evaluate=quads_set(QUADS[-10:], "held"), **SMALL)
