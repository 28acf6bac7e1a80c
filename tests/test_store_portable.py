"""A whole index as one file: there and back between engines, and files that are not to be trusted."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qdrant_client import QdrantClient

from visrag_integrations.errors import StoreError, StoreFormatError, VisRAGError
from visrag_integrations.images import encode
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page, Word


@dataclass
class Filler:
    kind: str = "single"
    name: str = "filler"
    dimension: int = 8
    fingerprint: str = "abc"


def pages() -> list[Page]:
    word = Word("Page", (0.1, 0.1, 0.2, 0.2))
    made = [
        Page("d", n, text=f"Page word{n}", source="a/b.pdf", metadata={"year": 2000 + n}, words=(word,), tenant="t")
        for n in range(1, 131)
    ]
    picture = Image.new("RGB", (9, 9), "green")
    return [*made, Page("e", 1, picture=picture), Page("e", 2, picture=encode(picture, "PNG")), Page("e", 3)]


def vectors(kind: str) -> list[Any]:
    rng = np.random.default_rng(2)
    if kind == "single":
        return [*rng.standard_normal((132, 8)), np.zeros(0)]
    return [rng.standard_normal((n % 3, 8)) for n in range(133)]


def fill(location: Any, kind: str, **settings: Any) -> QdrantPageStore:
    store = QdrantPageStore(location, **settings)
    store.prepare(Filler(kind), reader={"backend": "pymupdf"})
    store.add_pages(pages(), vectors(kind))
    store.add_source("d", "copy.pdf")
    return store


@pytest.mark.parametrize(("first", "second"), [("edge", "memory"), ("memory", "edge")])
@pytest.mark.parametrize("kind", ["single", "multi"])
def test_there_and_back(first: str, second: str, kind: str, tmp_path: Path) -> None:
    def where(name: str) -> Any:
        return ":memory:" if name == "memory" else tmp_path / "index"

    file = tmp_path / "index.zip"
    with fill(where(first), kind, picture_format="PNG") as one:
        assert one.export(file) == 133
        with QdrantPageStore.import_from(file, where(second), "other") as two:
            assert two.info == one.info
            ids = [page.id for page in pages()]
            assert two.get_pages(ids) == one.get_pages(ids)
            assert list(two.documents()) == list(one.documents())
            here, there = one.get_embeddings(ids), two.get_embeddings(ids)
            assert here.keys() == there.keys()
            assert all(np.allclose(here[id_], there[id_], atol=1e-6) for id_ in here)
            assert two.get_pages([Page("e", 1).id])[0].open_image().getpixel((0, 0)) == (0, 128, 0)
            for mode in ("dense", "lexical", "hybrid"):
                asked = {"text": "word7", "mode": mode, "top_k": 3, "filter": {"source": "copy.pdf"}}
                query = np.ones((1, 8) if kind == "multi" else 8)
                assert [h.page.id for h in one.search(query, **asked)] == [
                    h.page.id for h in two.search(query, **asked)
                ]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    with fill(":memory:", "single") as store:
        store.export(tmp_path / "index.zip")
    return tmp_path / "index.zip"


def changed(file: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive written anew with other entries."""
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return file


def edit_first_point(edit: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        lines = entries["points/000000.jsonl"].decode().split("\n")
        point = json.loads(lines[0])
        edit(point)
        entries["points/000000.jsonl"] = "\n".join([json.dumps(point), *lines[1:]]).encode()

    return change


def swap_picture(entries: dict[str, bytes]) -> None:
    name = next(name for name in entries if name.startswith("pictures/"))
    entries[name] = encode(Image.new("RGB", (9, 9), "red"))


def wrong_array(entries: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    entries["vectors/000000.npy"] = buffer.getvalue()


def newer(entries: dict[str, bytes]) -> None:
    entries["index.json"] = json.dumps({**json.loads(entries["index.json"]), "format_version": 99}).encode()


def other_info(**fields: Any) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        start = json.loads(entries["index.json"])
        entries["index.json"] = json.dumps({**start, "info": {**start["info"], **fields}}).encode()

    return change


CHANGES: dict[str, Callable[[dict[str, bytes]], Any]] = {
    "no end": lambda entries: entries.pop("end.json"),
    "no start": lambda entries: entries.pop("index.json"),
    "lost vectors": lambda entries: entries.pop("vectors/000000.npy"),
    "lost points": lambda entries: entries.update({"end.json": b'{"pages": 140}'}),
    "pickled array": wrong_array,
    "not JSON": lambda entries: entries.update({"points/000000.jsonl": b"{"}),
    "no object": lambda entries: entries.update({"index.json": b"[]"}),
    "newer": newer,
    "unknown kind": other_info(kind="triple"),
    "unknown storage": other_info(storage="1bit"),
    "second embedder without vectors": other_info(also=[{"embedder": "x", "kind": "multi", "dimension": 4}]),
    "second embedder that is none": other_info(also=[7]),
    "another picture": swap_picture,
    "another id": edit_first_point(lambda point: point.update(id="00000000-0000-0000-0000-000000000001")),
    "too many vectors": edit_first_point(lambda point: point.update(vectors=10_000)),
    "picture elsewhere": edit_first_point(lambda point: point.update(picture="../../etc/passwd")),
    "text that is none": edit_first_point(lambda point: point["payload"].update(page_content=["x"])),
    "no page": edit_first_point(lambda point: point.update(payload={})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changed_files_are_refused_and_leave_nothing(change: Any, exported: Path) -> None:
    client = QdrantClient(":memory:")
    with pytest.raises(VisRAGError):
        QdrantPageStore.import_from(changed(exported, change), client)
    assert not client.collection_exists("pages")
    client.close()


def test_files_that_are_no_index(tmp_path: Path, exported: Path) -> None:
    for data in (b"", b"PK\3\4", b"%PDF-1.7", exported.read_bytes()[:-500]):
        (tmp_path / "x.zip").write_bytes(data)
        with pytest.raises(StoreFormatError, match=r"Export it again"):
            QdrantPageStore.import_from(tmp_path / "x.zip", ":memory:")
    with pytest.raises(StoreFormatError, match="no file"):
        QdrantPageStore.import_from(tmp_path / "none.zip", ":memory:")


def test_a_collection_with_pages_is_not_overwritten(exported: Path, tmp_path: Path) -> None:
    with QdrantPageStore.import_from(exported, tmp_path / "index") as store:
        assert store.count() == 133
    with pytest.raises(StoreError, match="holds pages already"):
        QdrantPageStore.import_from(exported, tmp_path / "index")
    with QdrantPageStore(tmp_path / "index") as store:
        assert store.count() == 133


def test_export_writes_whole_or_not_at_all(exported: Path, tmp_path: Path) -> None:
    with fill(":memory:", "single") as store, pytest.raises(StoreError, match="cannot be written"):
        store.export(tmp_path / "no" / "such" / "folder.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["index.zip"]


# --- files and markers that lie -------------------------------------------------------------------------------------

DEEP = "[" * 200_000


def good_entries(folder: Path) -> dict[str, bytes]:
    """The entries of a good export of one page."""
    with QdrantPageStore(":memory:") as store:
        store.prepare(Filler())
        store.add_pages([Page("a", 1, text="alpha")], [np.ones(8, np.float32)])
        store.export(folder / "good.zip")
    with zipfile.ZipFile(folder / "good.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_info(entries: dict[str, bytes], **changed: Any) -> bytes:
    index = json.loads(entries["index.json"])
    return json.dumps({**index, "info": {**index["info"], **changed}}).encode()


def refused(entries: dict[str, Any], folder: Path, compression: int = zipfile.ZIP_STORED) -> None:
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(StoreFormatError, match=r"bad\.zip"):
        QdrantPageStore.import_from(path, ":memory:")


@pytest.mark.parametrize(
    "changed",
    [
        {"pooling": "x"},
        {"pooling": "rows"},
        {"embedder": 5},
        {"dimension": "8"},
        {"dimension": True},
        {"dimension": 10**9},
        {"also": 5},
        {"also": [5]},
        {"also": [{"embedder": "b", "kind": "single", "dimension": 8}]},
        {"kind": "x"},
        {"kind": ["single"]},
        {"storage": "compact"},
        {"storage": []},
        {"quantization": "one"},
        {"pooled": -1},
        {"pooled": None},
        {"fingerprint": 7},
        {"reader": 7},
        {"indexed": ["org"]},
        {"indexed": {"org": "text"}},
    ],
)
def test_a_description_with_wrong_fields_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    entries = good_entries(tmp_path)
    refused({**entries, "index.json": with_info(entries, **changed)}, tmp_path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("index.json", DEEP),
        ("index.json", '{"format_version": 1, "info": ' + '{"a":' * 150 + "1" + "}" * 150 + "}"),
        ("index.json", '{"format_version": 1, "info": 7}'),
        ("index.json", "{" + " " * (1 << 21) + "}"),
        ("end.json", '{"pages": 1e400}'),
        ("end.json", '{"pages": "1"}'),
        ("end.json", '{"pages": true}'),
        ("end.json", '{"pages": -1}'),
        ("end.json", "NaN"),
        ("points/000000.jsonl", DEEP),
        ("points/000000.jsonl", '{"id": "x", "vectors": 1, "payload": 7}'),
        ("points/000000.jsonl", '{"id": "x", "vectors": 1e400, "payload": {}}'),
        ("points/000000.jsonl", b"\xff\xfe"),
        ("vectors/000000.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O8'"),
        ("vectors/000000.npy", b""),
    ],
)
def test_an_entry_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str, data: Any) -> None:
    refused({**good_entries(tmp_path), name: data}, tmp_path)


def test_an_encrypted_export_is_refused(tmp_path: Path) -> None:
    good_entries(tmp_path)
    data = bytearray((tmp_path / "good.zip").read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 4)
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(StoreFormatError, match=r"bad\.zip"):
        QdrantPageStore.import_from(tmp_path / "bad.zip", ":memory:")


@pytest.mark.parametrize("declared", [None, 100])
def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_is(tmp_path: Path, declared: int | None) -> None:
    """64 MB of zeros in 64 kB; in the second file the headers say that it is 100 bytes."""
    entries = {**good_entries(tmp_path), "points/000000.jsonl": b"0" * (1 << 26)}
    if declared is None:
        refused(entries, tmp_path, zipfile.ZIP_DEFLATED)
        return
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    lying = path.read_bytes().replace((1 << 26).to_bytes(4, "little"), declared.to_bytes(4, "little"))
    assert lying != path.read_bytes()
    path.write_bytes(lying)
    with pytest.raises(StoreFormatError, match=r"bad\.zip"):
        QdrantPageStore.import_from(path, ":memory:")


DAMAGED = [DEEP, "7", "{", "[" * 50, " " * (1 << 21), b"\xff\xfe"]


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        *(("visrag.json", text) for text in DAMAGED),
        *(("pages/visrag.json", text) for text in [*DAMAGED, '{"format_version": 1, "kind": "x"}']),
    ],
    ids=range(13),
)
def test_a_damaged_marker_is_refused(tmp_path: Path, marker: str, text: Any) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "pages").mkdir()
    (folder / "visrag.json").write_text('{"format_version": 1}')
    (folder / marker).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(VisRAGError):
        QdrantPageStore(folder).search(np.ones(8, np.float32))
