"""Late-interaction models that only vLLM has: their names, and how each is asked, over HTTP or in this process.

Their checkpoints need code of their own, or a network that transformers does not have; vLLM has the networks itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit

from visrag_integrations.errors import SettingError, UnknownNameError
from visrag_integrations.fetching import http_address, without_credentials

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder


@dataclass(frozen=True)
class ServedModel:
    """One model, as vLLM 0.32 serves it.

    Attributes:
        architecture: vLLM's name of the network.
        page_text: Sent after a page's picture.
        dimension: Numbers of a vector, where vLLM's own tests say it; else the server is asked.
    """

    architecture: str
    # As vLLM's documentation asks all of this family; a query is sent as it is, without a chat template.
    page_text: str = "Describe the image."
    dimension: int | None = None


SERVED = {
    "TomoroAI/tomoro-colqwen3-embed-4b": ServedModel("ColQwen3", dimension=320),
    "TomoroAI/tomoro-colqwen3-embed-8b": ServedModel("ColQwen3"),
    "OpenSearch-AI/Ops-Colqwen3-4B": ServedModel("OpsColQwen3Model", dimension=2560),
    "OpenSearch-AI/Ops-Colqwen3-8B": ServedModel("OpsColQwen3Model"),
    "nvidia/nemotron-colembed-vl-4b-v2": ServedModel("Qwen3VLNemotronEmbedModel", dimension=2560),
    "nvidia/nemotron-colembed-vl-8b-v2": ServedModel("Qwen3VLNemotronEmbedModel"),
    "athrael-soju/colqwen3.5-4.5B": ServedModel("ColQwen3_5"),
    "athrael-soju/colqwen3.5-4.5B-v3": ServedModel("ColQwen3_5"),
    "vultr/VultronRetrieverPrime-Qwen3.5-8B": ServedModel("ColQwen3_5"),
}
"""Names on the hub; all of them give a vector a token."""
ARCHITECTURES = {row.architecture for row in SERVED.values()}
"""What `architectures` in a folder's config.json says, where vLLM alone has the network."""
URL_VARIABLE, KEY_VARIABLE = "VISRAG_EMBEDDER_URL", "VISRAG_EMBEDDER_API_KEY"
"""Variables with the server of these models, and its key, where nobody names them."""
# The parts of an address that a caller may have copied with it, and that are added again.
_PATHS = ("/v1/embeddings", "/embeddings", "/pooling", "/v1")


def load_served(name: str, url: str, settings: dict[str, Any]) -> PageEmbedder:
    """The model of that name behind the URL of a server.

    Args:
        name: As the server calls it. A name of `SERVED` needs no settings; another one `kind="multi"` where it gives a
            vector a token.
        url: Where the server is, with or without `/v1`.
        settings: Of `EndpointEmbedder`; they win over the table.

    Raises:
        SettingError: It is no address, or a setting is not allowed.
    """
    from visrag_integrations.embedders.endpoint import EndpointEmbedder

    chosen: dict[str, Any] = dict(settings)
    known = SERVED.get(name)
    if known is not None:
        defaults = {"kind": "multi", "page_text": known.page_text, "texts_as": "input", "dimension": known.dimension}
        chosen = {**defaults, **chosen}
    path = "pooling" if chosen.get("kind") == "multi" else "v1/embeddings"
    embedder: Any = EndpointEmbedder(name, **{"base_url": server_of(url), "path": path, **chosen})
    if known is None:
        embedder.name = f"endpoint:{name}"  # as a collection remembers it: the name alone may mean a checkpoint here
    loaded: PageEmbedder = embedder
    return loaded


def load_in_vllm(name: str, settings: dict[str, Any]) -> PageEmbedder:
    """The model of that name, or in that folder, in vLLM in this process.

    Raises:
        MissingExtraError: vLLM is not installed.
        CheckpointError: vLLM cannot load it.
    """
    from visrag_integrations.embedders.vllm import VLLMEmbedder

    chosen: dict[str, Any] = dict(settings)
    if name in SERVED:
        chosen = {"page_text": SERVED[name].page_text, **chosen}
    embedder: Any = VLLMEmbedder(name, **chosen)
    if name not in SERVED:
        embedder.name = f"vllm:{embedder.name}"
    loaded: PageEmbedder = embedder
    return loaded


def load_by_served_name(name: str, settings: dict[str, Any]) -> PageEmbedder:
    """A model of the table whose server nobody named: as the variable says, else in this process by vLLM.

    Raises:
        UnknownNameError: There is neither; the message says how the model is served.
    """
    url = os.environ.get(URL_VARIABLE)
    if url:
        return load_served(name, url, {"api_key": os.environ.get(KEY_VARIABLE), **settings})
    if find_spec("vllm") is not None:
        return load_in_vllm(name, settings)
    raise UnknownNameError(f"{name} is read by vLLM alone, which is not installed here. {how_to_serve(name)}")


def how_to_serve(name: str) -> str:
    """What to type."""
    return (
        f"Serve it, vllm serve {name} --runner pooling --max-model-len 4096, and give the server: "
        f'load_embedder("{name}", '
        'url="http://localhost:8000"), on the command line --embedder-url http://localhost:8000 (or the variable '
        'VISRAG_EMBEDDER_URL). Or install vLLM here: pip install "visrag-integrations[vllm]".'
    )


def server_of(url: str) -> str:
    """The address of a server, without the path of one of its interfaces.

    >>> server_of("http://localhost:8000/v1"), server_of("https://gateway/models/pooling/")
    ('http://localhost:8000', 'https://gateway/models')

    Raises:
        SettingError: It is no address.
    """
    parts = http_address(url)
    if parts is None:
        raise SettingError(f"url is {without_credentials(url)!r}; give an address such as http://localhost:8000.")
    path = parts.path.rstrip("/")
    for ending in _PATHS:
        if path.endswith(ending):
            path = path.removesuffix(ending)
            break
    return urlunsplit(parts._replace(path=path, query="", fragment=""))
