"""What a model's name is: a server's address, a checkpoint of the hub or of this machine, or neither."""

from __future__ import annotations

from pathlib import Path

_STANDS_FOR = {"cpu-visual": "ModernVBERT/colmodernvbert-merged"}  # told without importing torch


def checkpoint_of(name: str) -> str:
    """The checkpoint that an embedder's name stands for; the name itself where it is one.

    >>> checkpoint_of("cpu-visual"), checkpoint_of("openbmb/VisRAG-Ret")
    ('ModernVBERT/colmodernvbert-merged', 'openbmb/VisRAG-Ret')
    """
    return _STANDS_FOR.get(name, name)


def computes_here(name: str) -> bool:
    """Whether it is a checkpoint, which runs on a device of this machine.

    >>> [computes_here(name) for name in ("ocr", "openbmb/VisRAG-Ret", "http://gpu:8000/v1", "endpoint:my/model")]
    [False, True, False, False]
    """
    if is_url(name):
        return False
    system, _, after = name.partition(":")
    if after and system == "endpoint":
        return False
    return Path(name).expanduser().is_dir() or "/" in name


def is_url(name: str) -> bool:
    """Whether it is the address of a server."""
    # Not `urlsplit`: of a mistyped address it raises, and whoever is given the address says what is wrong with it.
    return name.lower().startswith(("http://", "https://"))


def is_on_hub(name: str) -> bool:
    """Whether it would be fetched from the hub: no folder of this machine, no server, no name without weights."""
    if not computes_here(name):
        return False
    name = without_system(name)
    return not Path(name).expanduser().exists() and name.count("/") == 1 and not name.startswith((".", "~", "/"))


def without_system(name: str) -> str:
    """The name without the system that may stand before it."""
    from visrag_integrations.embedders import SYSTEMS

    system, _, after = name.partition(":")
    return after if system in SYSTEMS and after else name
