"""A run in a process of its own, for `test_training_retriever.py`: to be killed, or with little room on the disk."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from test_training_retriever import QUADS, SMALL, quads_set

from visrag_integrations.training import retriever, train_retriever
from visrag_integrations.training.runs import RunFolder

torch.set_num_threads(1)


def main(how: str, base: str, output: str) -> None:
    if how == "kill-in-second-save":
        finish = RunFolder.finish_checkpoint

        def killed(self: Any, step: int, notes: Any) -> None:
            if step == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            finish(self, step, notes)

        RunFolder.finish_checkpoint = killed  # type: ignore[method-assign]
    elif how == "small-disk":  # a file may not grow beyond two megabytes, the weights have three
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, resource.RLIM_INFINITY))
    print("ready", flush=True)
    assert retriever.__name__
    held = quads_set(QUADS[-20:], "held")
    train_retriever(base, quads_set(QUADS[:64], "train"), Path(output), evaluate=held, **SMALL)


if __name__ == "__main__":
    main(*sys.argv[1:4])
