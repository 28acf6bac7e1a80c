"""`visrag delete`: documents out of an index."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import opening, options, output
from visrag_integrations.cli.documents import name_of
from visrag_integrations.cli.parser import did_you_mean
from visrag_integrations.errors import SettingError, printable

if TYPE_CHECKING:
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.types import StoredDocument

_MOST_NAMES = 20  # that are listed before asking: about a screen


def add_parser(subparsers: Any) -> None:
    """Add `visrag delete` and its options."""
    parser = subparsers.add_parser(
        "delete",
        help="remove documents from an index",
        epilog="The files themselves stay. A document that was indexed from several places goes as a whole.",
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="a document as `visrag list` shows it, its file name, its id, or a folder it was indexed from",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask where a folder names several documents")
    options.add_store_options(parser, preset=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag delete`."""
    with opening.open_store(arguments, must_exist=True) as store:
        chosen = _chosen(arguments.names, list(store.documents()))
        if len(chosen) > len(arguments.names) and not arguments.yes:
            _confirm(chosen)
        pages = _remove(store, chosen)
    if arguments.json:
        output.print_json({"deleted": [document.doc_id for document in chosen], "pages": pages})
    else:
        for document in chosen:
            print(f"removed {printable(name_of(document))}")
        print(f"{output.counted(pages, 'page')} of {output.counted(len(chosen), 'document')} removed.")
    return 0


def _chosen(names: Sequence[str], documents: Sequence[StoredDocument]) -> list[StoredDocument]:
    """The documents that are meant, each once.

    Raises:
        SettingError: A name fits nothing, or the file name of several. Nothing is removed then.
    """
    chosen: dict[str, StoredDocument] = {}
    for name in names:
        for document in _named(name, documents):
            chosen[document.doc_id] = document
    return list(chosen.values())


def _named(name: str, documents: Sequence[StoredDocument]) -> list[StoredDocument]:
    exact = [document for document in documents if name == document.doc_id or name in document.sources]
    if exact:
        return exact
    folder = name.rstrip("/\\")
    inside: list[StoredDocument] = []
    for document in documents:
        if any(_is_below(source, folder) for source in document.sources):
            inside.append(document)
    if inside:
        return inside
    alike = [document for document in documents if name in map(_file_name, document.sources)]
    if len(alike) > 1:
        found = ", ".join(printable(name_of(document)) for document in alike)
        raise SettingError(f"{name!r} is the file name of {len(alike)} documents: {found}. Give one of these names.")
    if alike:
        return alike
    known: dict[str, None] = {}  # file names first: they are what people type
    for document in documents:
        known.update(dict.fromkeys(map(_file_name, document.sources)))
    for document in documents:
        known.update(dict.fromkeys(document.sources))
    hint = did_you_mean(name, list(known))
    raise SettingError(
        f"No document {printable(name)!r} is in the index, and nothing was removed{hint or '.'} "
        "`visrag list` shows what there is."
    )


def _is_below(source: str, folder: str) -> bool:
    return bool(folder) and source.startswith((f"{folder}/", f"{folder}\\"))


def _file_name(source: str) -> str:
    if "://" in source:
        return source.rstrip("/").rsplit("/", 1)[-1]
    return PurePath(source).name


def _confirm(chosen: Sequence[StoredDocument]) -> None:
    """Ask whether all of them are meant.

    Raises:
        SettingError: They are not, or nobody is there who could say so.
    """
    names = [f"  {printable(name_of(document))}" for document in chosen[:_MOST_NAMES]]
    if len(chosen) > _MOST_NAMES:
        names.append(f"  and {len(chosen) - _MOST_NAMES} more")
    if not sys.stdin.isatty():
        raise SettingError(f"This would remove {len(chosen)} documents, and nothing was removed. Say --yes to do it.")
    print(f"This removes {len(chosen)} documents:", *names, sep="\n", file=sys.stderr)
    print("Remove them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SettingError("Nothing was removed.")


def _remove(store: QdrantPageStore, chosen: Sequence[StoredDocument]) -> int:
    removed = 0
    for document in chosen:
        removed += store.delete(doc_id=document.doc_id)
    return removed
