"""Models as the command line loads them: on which device, and never gigabytes for a processor without a word."""

from __future__ import annotations

import argparse
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

from visrag_integrations.cli import embedding_server, gpu_memory
from visrag_integrations.cli.model_names import checkpoint_of, computes_here, is_on_hub, is_url, without_system
from visrag_integrations.cli.model_sizes import (
    BYTES_EACH,
    billions_of,
    bytes_on_hub,
    in_words,
    is_cached,
    is_offline,
    known_bytes,
)
from visrag_integrations.cli.noting import note, somebody_is_there, yes_to
from visrag_integrations.cli.presets import device_of
from visrag_integrations.errors import SettingError, VisRAGError, printable
from visrag_integrations.interfaces.closing import close

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator, PageEmbedder
    from visrag_integrations.store.info import EmbedderInfo

# Billions of parameters from which nobody loads a model on a processor unasked. ColModernVBERT (0.25) and BGE-VL (0.43)
# are made for it; from ColPali and VisRAG-Ret (3) on, a page takes minutes and the download gigabytes.
LARGE = 1.5


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="where models run: cuda, cpu, ... (default: a GPU; without one, large models are refused or asked about)",
    )


def load_embedder(
    arguments: argparse.Namespace,
    name: str,
    info: EmbedderInfo | None = None,
    *,
    fills: bool = False,
    may_ask: bool = True,
) -> PageEmbedder:
    """The embedder, on the device or the server that was asked for; shared, as everything the command line loads.

    Args:
        arguments: With `device` and `embedder_url`.
        name: Of the embedder.
        info: What a collection that it filled remembers.
        fills: Whether pages are embedded: of two models, queries need the one and pages the other.
        may_ask: False where a server is running already: whoever looks at the terminal does not expect a question.

    Raises:
        SettingError: It is large, there is no GPU, and nobody said that the processor will do.
    """
    from visrag_integrations import embedders

    settings = embedding_server.server_settings(name, arguments, info)
    pages, queries = embedders.split_pair(name)
    needed = pages if fills or queries is None else queries
    ask_for_embedder(arguments, name, fills=fills, may_ask=may_ask)
    if not _is_elsewhere(arguments, needed, name):
        say_what_is_fetched(checkpoint_of(needed))
    device = device_of(arguments, name)
    if device is not None and not _is_elsewhere(arguments, pages, name) and computes_here(pages):
        settings["device"] = device
    if device is not None and queries is not None and computes_here(queries):
        settings["query_settings"] = {"device": device}
    return embedders.load_embedder(name, shared=True, **settings)


def ask_for_embedder(arguments: argparse.Namespace, name: str, *, fills: bool = False, may_ask: bool = True) -> None:
    """`ask_before_loading` of the half of an embedder that is needed, where it is loaded in this process.

    Raises:
        SettingError: As there.
    """
    from visrag_integrations import embedders

    pages, queries = embedders.split_pair(name)
    needed = pages if fills or queries is None else queries
    if not _is_elsewhere(arguments, needed, name):
        ask_before_loading(arguments, needed, may_ask=may_ask)


def _is_elsewhere(arguments: argparse.Namespace, needed: str, name: str) -> bool:
    """Whether a server has this half, or only a server or vLLM, which is not here, could have it."""
    from visrag_integrations.embedders import split_pair
    from visrag_integrations.embedders.served import SERVED

    if needed == split_pair(name)[0] and embedding_server.server_settings(name, arguments):
        return True
    return embedding_server.has_served(needed) or (needed in SERVED and find_spec("vllm") is None)


def load_generator(arguments: argparse.Namespace, name: str, *, beside: str = "", fills: bool = False) -> Generator:
    """The generator, on the device that was asked for; of a server, the model that `--model` names.

    Args:
        arguments: With `device`, `model` and `gpu_memory`.
        name: Of the generator.
        beside: The name of the embedder that is used in the same process; it may need room on the same GPU.
        fills: Whether that embeds pages too: of two models, both are then in memory.

    Raises:
        SettingError: It is large, there is no GPU, and nobody said that the processor will do.
    """
    from visrag_integrations import generation

    model = check_model(arguments, name)
    if is_url(name):
        gpu_memory.refuse_without_vllm(arguments, name)
        return _on_server(name, model)
    ask_before_loading(arguments, name)
    say_what_is_fetched(name)
    device = device_of(arguments, name)
    if not computes_here(name):
        gpu_memory.refuse_without_vllm(arguments, name)
        return generation.load_generator(name)
    if device is None or (device == "cuda" and find_spec("vllm") is not None):  # vLLM takes the GPU by itself
        shared_with = _on_gpu(arguments, beside, fills=fills)
        return generation.load_generator(name, **gpu_memory.vllm_settings(arguments, name, shared_with))
    gpu_memory.refuse_without_vllm(arguments, name)
    # vLLM as it is installed from PyPI runs on GPUs only, and on which of them is not said by a device's name.
    return generation.load_generator(name, engine="transformers", device=device)


def _on_gpu(arguments: argparse.Namespace, embedder: str, *, fills: bool) -> list[str]:
    """What searches in this process and runs on a GPU: of an embedder what is needed, and the reranker."""
    if not embedder:
        return []
    from visrag_integrations import embedders

    pages, queries = embedders.split_pair(embedder)
    needed = [queries or pages]
    if fills and queries is not None:
        needed = [pages, queries]
    found: list[str] = []
    if _may_be_gpu(device_of(arguments, embedder)):
        for half in needed:
            if computes_here(half) and not _is_elsewhere(arguments, half, embedder):
                found.append(without_system(half))
    reranker = getattr(arguments, "rerank", None)
    if reranker and not arguments.rerank_url and computes_here(reranker) and _may_be_gpu(arguments.device):
        found.append(reranker)
    return found


def _may_be_gpu(device: str | None) -> bool:
    return device is None or device.startswith("cuda")


def refuse_several(arguments: argparse.Namespace, *names: str) -> None:
    """Nothing, unless vLLM would run more than one of these generators, and they have no room beside each other.

    Raises:
        SettingError: It would.
    """
    here = [name for name in names if name and _is_run_by_vllm(arguments, name)]
    if len(here) > 1:
        gpu_memory.refuse_without_room(arguments, here)


def load_another(arguments: argparse.Namespace, name: str, *, beside: str = "", fills: bool = False) -> Generator:
    """A generator beside the one that `--generator` and `--model` name; after `refuse_several`."""
    own = argparse.Namespace(**{**vars(arguments), "model": None})
    if not _is_run_by_vllm(arguments, name):
        own.gpu_memory = None  # said of another
    return load_generator(own, name, beside=beside, fills=fills)


def _is_run_by_vllm(arguments: argparse.Namespace, name: str) -> bool:
    """Whether vLLM runs it on a GPU in this process; on a processor several have room."""
    if not computes_here(name) or device_of(arguments, name) not in (None, "cuda"):
        return False
    return find_spec("vllm") is not None and not _why_no_gpu()


def check_server(arguments: argparse.Namespace, name: str) -> None:
    """Nothing, unless it is a server of several models and none was named; called before documents are indexed.

    Raises:
        SettingError: It is.
    """
    if is_url(name):
        close(_on_server(name, check_model(arguments, name)))


def _on_server(url: str, model: str | None) -> Generator:
    """A model of a server: the one that was named, also as `URL#NAME`, or its only one.

    Raises:
        SettingError: It has several, and none was named.
        GenerationError: It is no such server.
    """
    from visrag_integrations import generation
    from visrag_integrations.generation.openai import OpenAIGenerator

    address, _, after = url.partition("#")
    generator = generation.load_generator(address, model=model or after or None)
    if isinstance(generator, OpenAIGenerator):
        try:
            generator.check_model()
        except VisRAGError:
            generator.close()
            raise
    return generator


def check_model(arguments: argparse.Namespace, name: str) -> str | None:
    """The model that `--model` names; None where it names none.

    Raises:
        SettingError: It does, and what answers is no server.
    """
    model: str | None = getattr(arguments, "model", None)
    if model is not None and not is_url(name):
        raise SettingError(
            f"--model {printable(model)} is one of the models of a server: give --generator URL with it. A model of "
            f"the hub, or a folder, is named by --generator itself; here it is {printable(name)}."
        )
    return model


def ask_before_loading(arguments: argparse.Namespace, *names: str, may_ask: bool = True) -> None:
    """Nothing, unless one of these is a large model of the hub and there is no GPU: then a yes is needed.

    Called first, before anything is read or fetched. After a yes, `--device` is cpu.

    Raises:
        SettingError: There is nobody to ask, or the answer is no.
    """
    for name in names:
        if device_of(arguments, name) is not None or not _may_be_large(name):
            continue
        missing = _why_no_gpu()
        if not missing:
            return
        size = bytes_on_hub(without_system(name)) or known_bytes(without_system(name)) or 0
        if size < LARGE * BYTES_EACH * 1e9:
            continue
        said = f"no GPU was found{missing}; {printable(name)} needs about {in_words(size)} of download and of memory"
        ways = f"Without a GPU, {_other_ways(name)}; --device cpu runs it on the processor all the same, very slowly."
        if not may_ask or not somebody_is_there():
            raise SettingError(f"{said[:1].upper()}{said[1:]}. {ways}")
        note(f"{said}. {ways}")
        if not yes_to("Fetch it, and run it on the processor?"):
            raise SettingError(f"{printable(name)} was not loaded, and nothing was fetched.")
        arguments.device = "cpu"


def say_what_is_fetched(name: str) -> None:
    """Say what a checkpoint of the hub takes before it is fetched; nothing where it is here already."""
    if not is_on_hub(name) or is_offline() or is_cached(without_system(name)):
        return
    size = bytes_on_hub(without_system(name)) or known_bytes(without_system(name))
    takes = f", about {in_words(size)}" if size is not None else ""
    note(f"fetching {printable(without_system(name))} from the hub{takes}; it is kept for the next time.")


def _may_be_large(name: str) -> bool:
    """Whether it would be fetched from the hub, and is not known to be small."""
    if not is_on_hub(name):
        return False
    billions = billions_of(without_system(name))
    return billions is None or billions >= LARGE


def _why_no_gpu() -> str:
    """In brackets, why a model would run on the processor; "" where there is a GPU."""
    if find_spec("torch") is not None:
        from visrag_integrations.embedders.devices import why_no_gpu

        why = why_no_gpu()
        return f" ({why})" if why else ""
    if shutil.which("nvidia-smi") is None:
        return " (no NVIDIA driver is here)"
    return ""


def _other_ways(name: str) -> str:
    """What to type instead: for what embeds pages and for what answers."""
    from visrag_integrations.embedders import CHECKPOINTS, SYSTEMS

    if name in CHECKPOINTS or name.partition(":")[0] in SYSTEMS:
        return "take --preset cpu, or --embedder with a smaller model"
    return "give --generator URL of a server that has one, or take --preset cpu"
