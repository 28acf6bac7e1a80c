"""`visrag info`: what an index holds, who filled it, and where it is."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.cli import opening, options, output
from visrag_integrations.errors import printable

if TYPE_CHECKING:
    from visrag_integrations.store import QdrantPageStore

_BLOCK = 512  # bytes, whatever the disk's own blocks are
_WIDTH = 12  # of the names before the values: the longest is "Collection"


def add_parser(subparsers: Any) -> None:
    """Add `visrag info` and its options."""
    parser = subparsers.add_parser("info", help="show what an index holds, and which model filled it")
    options.add_store_options(parser, preset=False)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """`visrag info`."""
    with opening.open_store(arguments, must_exist=True) as store:
        found = _described(arguments, store)
    if arguments.json:
        output.print_json(found)
    else:
        print("\n".join(_lines(found)))
    return 0


def _described(arguments: argparse.Namespace, store: QdrantPageStore) -> dict[str, Any]:
    from visrag_integrations.store.listing import collections_in

    described: dict[str, Any] = {
        "index": arguments.index,
        "collection": arguments.collection,
        "pages": store.count(),
        "documents": store.count_documents(),
        "embedders": [],
        "others": [name for name in collections_in(store.folder) if name != arguments.collection],
    }
    if store.folder is not None:
        described["bytes"] = size_of(store.folder)
    info = store.info
    if info is None:
        return described
    for embedder in info.embedders:
        kept = {"name": embedder.embedder, "kind": embedder.kind, "dimension": embedder.dimension}
        described["embedders"].append({**kept, "storage": embedder.storage, "quantization": embedder.quantization})
    described["created"] = info.created
    described["reader"] = dict(info.reader)
    described["complete"] = info.complete
    described["outdated"] = store.outdated
    return described


def size_of(folder: Path) -> int:
    """Bytes that the files in a folder take on the disk; those that go meanwhile do not count."""
    total = 0
    left = [folder]
    while left:
        try:
            # One look at a folder tells what each entry is: an index of a million pages has as many pictures.
            entries = list(os.scandir(left.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry.path))
                elif entry.is_file():
                    total += _on_disk(entry.stat())
            except OSError:
                continue
    return total


def _on_disk(found: os.stat_result) -> int:
    """Bytes that a file takes: the engine's logs are long files with nothing in most of them."""
    blocks: int | None = getattr(found, "st_blocks", None)  # Windows does not say
    if blocks is None:
        return found.st_size
    return blocks * _BLOCK


def _lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    place = printable(found["index"])
    if "bytes" in found:
        place += f" (a folder, {output.size(found['bytes'])} with all its collections)"
    rows = [("Index", place), ("Collection", f"{found['collection']}: {_counts(found)}")]
    for embedder in found["embedders"]:
        rows.append(("Embedder", _embedder_line(embedder)))
    if found.get("created"):
        rows.append(("Made", found["created"]))
    reader = found.get("reader") or {}
    if reader:
        rows.append(("Read with", f"{reader.get('backend', '?')}, OCR {reader.get('ocr', '?')}"))
    if found["others"]:
        rows.append(("Also here", ", ".join(found["others"]) + " (--collection NAME shows one)"))
    if found.get("complete") is False:
        rows.append(("Note", "an import into it has not finished; run it again"))
    if found.get("outdated"):
        rows.append(("Note", found["outdated"]))
    return [f"{name:<{_WIDTH}}{value}" for name, value in rows]


def _counts(found: dict[str, Any]) -> str:
    if not found["embedders"]:
        return "empty; visrag index PATH... fills it"
    return f"{output.counted(found['pages'], 'page')} of {output.counted(found['documents'], 'document')}"


def _embedder_line(embedder: dict[str, Any]) -> str:
    vectors = "one vector a page" if embedder["kind"] == "single" else "many vectors a page"
    return f"{embedder['name']} ({vectors}, {embedder['dimension']} numbers each, kept as {embedder['storage']})"
