"""Options that several commands take, and what they turn into: the store, the embedder, the models of a preset."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from visrag_integrations.cli import embedding_server, gpu_memory, loading
from visrag_integrations.cli.asked import add_embedder_options as add_embedder_options
from visrag_integrations.cli.noting import note as note
from visrag_integrations.cli.presets import add_preset_option
from visrag_integrations.cli.presets import preset_models as preset_models
from visrag_integrations.errors import SettingError, printable
from visrag_integrations.types import Mode

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter


def add_store_options(parser: argparse.ArgumentParser, *, json: bool = True, preset: bool = True) -> None:
    """Where the pages are; `--json` for commands that print results and end, `--preset` for those that use models."""
    parser.set_defaults(takes_surroundings=True)
    parser.add_argument(
        "--index",
        metavar="DIR|URL",
        help="the index: a folder, or a Qdrant server (default: $VISRAG_INDEX, else [tool.visrag] of pyproject.toml, "
        "else .visrag)",
    )
    parser.add_argument("--collection", metavar="NAME", help="the collection in it (default: pages)")
    parser.add_argument(
        "--pictures",
        metavar="DIR|URL|server|none",
        help="where page pictures are (default: in the index; on a server, a collection beside the pages')",
    )
    parser.add_argument(
        "--timeout", type=positive, metavar="SECONDS", help="of a server's answer (default: $VISRAG_TIMEOUT, else 60)"
    )
    if preset:
        add_model_options(parser)
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_talk_options(parser: argparse.ArgumentParser) -> None:
    """How much is said beside the results; every command has it."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar, and not which models were taken")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="say what is done; -vv: every step")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which models, and where they run."""
    add_preset_option(parser)
    loading.add_device_option(parser)
    embedding_server.add_server_option(parser)


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """How documents are read and embedded."""
    add_embedder_options(parser)
    parser.add_argument(
        "--text-model",
        metavar="NAME|FOLDER",
        help="a text model of sentence-transformers that the embedder 'ocr' takes in place of its word vectors",
    )
    parser.add_argument(
        "--pooling",
        choices=["auto", "rows", "hierarchical", "none"],
        default="auto",
        help="of late interaction, in a new index or a new version of one: how a page's vectors become a few for the "
        "first pass (default: as the embedder says, and rows where a server forbids exact searches)",
    )
    reading = parser.add_argument_group("reading documents")
    reading.add_argument("--backend", choices=["pymupdf", "pdfium"], default="pymupdf", help="PDF engine to try first")
    reading.add_argument("--ocr", choices=["auto", "always", "never"], default="auto", help="read text from pixels")
    reading.add_argument("--password", help="of encrypted documents")
    reading.add_argument("--max-pages", type=positive, metavar="N", help="at most the first N pages of a document")
    reading.add_argument("--page-timeout", type=float, default=60.0, metavar="SECONDS", help="time limit per page")
    reading.add_argument(
        "--web-host",
        action="append",
        default=[],
        type=host_name,
        metavar="HOST",
        help="a host, beside a web page's own, whose pictures and style sheets are fetched; may be given several times",
    )
    reading.add_argument("--web-scripts", action="store_true", help="run the scripts of web pages")
    reading.add_argument("--workers", type=positive, metavar="N", help="reading processes (default: one per core)")


def host_name(text: str) -> str:
    """The name of a host, as an argparse type; of a URL, its host.

    >>> host_name("cdn.example.org"), host_name("https://CDN.example.org/pictures/")
    ('cdn.example.org', 'cdn.example.org')
    """
    url = text if "://" in text else f"//{text}"
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if not host or any(sign in host for sign in "*? "):
        raise argparse.ArgumentTypeError(f"{text!r} is no host, for example cdn.example.org; there are no patterns")
    return host


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Many machines: a Ray cluster that reads and embeds, a Qdrant server of several nodes."""
    cluster = parser.add_argument_group("on a cluster")
    cluster.add_argument("--ray", metavar="ADDRESS|local", help="read and embed on a Ray cluster, or on a local one")
    cluster.add_argument("--embedders", type=positive, metavar="N", help="embedding workers (default: one per GPU)")
    cluster.add_argument("--shards", type=positive, metavar="N", help="of a new collection on a server")
    cluster.add_argument("--replicas", type=positive, metavar="N", help="copies of every shard of a new collection")


def add_generator_options(parser: argparse.ArgumentParser) -> None:
    """What answers, and how."""
    parser.set_defaults(takes_surroundings=True)
    parser.add_argument(
        "--generator",
        metavar="NAME|FOLDER|URL",
        help="what answers (default: $VISRAG_GENERATOR, else [tool.visrag] of pyproject.toml, else the preset's)",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="of the models at --generator URL (default: $VISRAG_MODEL, else [tool.visrag], else the only one it has)",
    )
    parser.add_argument(
        "--strategy",
        default="multi_image",
        metavar="NAME",
        help="how the pages are shown to it: multi_image, image_and_text, page_concatenation, weighted_selection, text",
    )
    parser.add_argument(
        "--text-budget",
        type=positive,
        metavar="N",
        help="of --strategy image_and_text: characters of the pages' texts together (default: 12000)",
    )
    parser.add_argument(
        "--prompt",
        choices=["evisrag", "plain"],
        help="plain: for general models (default: evisrag; of --preset cpu-visual, plain)",
    )
    parser.add_argument("--guided", action="store_true", help="hold the model to EVisRAG's form (vLLM)")
    gpu_memory.add_option(parser)
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="at most so many tokens of answer")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """How pages are searched, and which ones."""
    parser.add_argument("--mode", choices=get_args(Mode), help="how to search (default: the embedder's own way)")
    add_filter_option(parser)


def add_filter_option(parser: argparse.ArgumentParser) -> None:
    """Which pages."""
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        type=condition,
        metavar="KEY=VALUE",
        help="only pages with this metadata, for example source=report.pdf; may be given several times",
    )


def condition(text: str) -> tuple[str, Any]:
    """A metadata key and its value, as an argparse type; the value is JSON where it can be, else text.

    >>> condition("source=a.pdf"), condition("number=[1, 2]"), condition('page_label="4"')
    (('source', 'a.pdf'), ('number', [1, 2]), ('page_label', '4'))
    """
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, for example source=report.pdf")
    try:
        return key.strip(), json.loads(value)
    except ValueError:  # report.pdf is no JSON; nobody should have to write "report.pdf" in quotes that the shell takes
        return key.strip(), value


def filter_of(arguments: argparse.Namespace) -> Filter | None:
    """The conditions of `--filter`; the last one of a key holds."""
    return dict(arguments.filter) or None


def positive(text: str) -> int:
    """A whole number from 1, as an argparse type."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def check_output(option: str, path: str | None) -> None:
    """Before any work whose result would have nowhere to go.

    Raises:
        SettingError: It cannot be a file.
    """
    if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        parent = Path(path).absolute().parent
        if Path(path).is_dir():
            raise SettingError(f"{option} {path!r} is a folder. Give the name of a file.")
        raise SettingError(f"{option} {path!r}: the folder {printable(str(parent))!r} does not exist.")


def port(text: str) -> int:
    """A port, as an argparse type; 0 takes any that is free."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number up to 65535")
    return int(text)


def text_or_stdin(text: str, example: str) -> str:
    """The text, or standard input where it is "-"."""
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise SettingError(f"The question is empty. Type one, for example: {example}")
    return text.strip()
