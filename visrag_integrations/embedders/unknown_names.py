"""What is said of a name that no embedder here has: the nearest ones, and whether a server runs it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from visrag_integrations.errors import UnknownNameError
from visrag_integrations.known_models import MODELS, find_model, nearest_names


def unknown_embedder(name: str, names: Sequence[str]) -> UnknownNameError:
    """The error for a name that is none of these and no folder.

    Args:
        name: As it was given.
        names: Those that `load_embedder` takes.
    """
    known = find_model(name, MODELS)
    if known is not None and known.role == "embedder" and known.name not in names:
        served = [way for way in known.ways if way.name == "vLLM"]
        if served:
            note = f" ({known.note})" if known.note else ""
            serve, load = served[0].code.splitlines()
            return UnknownNameError(
                f"{known.name!r} is not loaded in this process{note}. It is embedded through vLLM: {serve} on the GPU "
                f"machine, then {load}"
            )
    if os.path.isabs(name):
        return UnknownNameError(
            f"There is no embedder {name!r}: no such folder is here. If the checkpoint lies elsewhere now, name that "
            "folder (--embedder on the command line); an index knows it by its fingerprint."
        )
    near = nearest_names(name, names)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if name.startswith("sentence-transformers/"):  # an organisation of the hub, whose models are of that library
        hint = f" Did you mean 'sentence-transformers:{name}', or --text-model {name} beside --embedder ocr?"
    return UnknownNameError(
        f"There is no embedder {name!r}, and no folder of that name.{hint} There are: {', '.join(names)}. Name one of "
        'them or a checkpoint folder; for another hub name say its system, for example system="visrag-ret".'
    )
