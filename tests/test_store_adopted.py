"""Collections that others filled, read in place: their payloads, vector names and ids, and their pictures."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from qdrant_client import QdrantClient, models

from visrag_integrations import Page, PageRetriever, QdrantPageStore
from visrag_integrations.errors import PictureError, SettingError, StoreError, StoreMismatchError
from visrag_integrations.store.adopted import AdoptedPictures

DIM = 8
UUIDS = [str(uuid.UUID(int=(7 << 100) + n)) for n in range(5)]


class Axes:
    """Page n lies on axis n; a question names its axis."""

    name, dimension = "axes", DIM

    def __init__(self, kind: Any = "single") -> None:
        self.kind = kind

    def embed_pages(self, pages: Any) -> list[Any]:
        return [self.axis(page.number) for page in pages]

    def embed_queries(self, queries: Any) -> list[Any]:
        return [self.axis(int(query)) for query in queries]

    def axis(self, place: int) -> Any:
        vector = np.eye(DIM, dtype=np.float32)[place % DIM]
        return vector if self.kind == "single" else np.tile(vector, (3, 1))


def png(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    opened = QdrantClient(":memory:")
    yield opened
    opened.close()


def fill(
    client: QdrantClient, payloads: list[dict[str, Any]], name: str = "", kind: str = "single", **how: Any
) -> None:
    """A collection as others make it; point n lies on axis n + 1."""
    ids = how.pop("ids", UUIDS)
    params = models.VectorParams(size=DIM, distance=how.pop("distance", models.Distance.COSINE))
    if kind == "multi":
        params.multivector_config = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    client.create_collection("theirs", vectors_config={name: params} if name else params)
    points = []
    for place, payload in enumerate(payloads):
        vector = (Axes(kind).axis(place + 1) * how.get("length", 1.0)).tolist()
        points.append(models.PointStruct(id=ids[place], vector={name: vector} if name else vector, payload=payload))
    client.upsert("theirs", points)


def of_langchain(n: int, **metadata: Any) -> dict[str, Any]:
    return {
        "page_content": f"text {n}",
        "metadata": {"source": f"/srv/d{n % 2}.pdf", "page": n, "org": "x", **metadata},
    }


def test_langchain_qdrant_is_read_in_place(client: QdrantClient) -> None:
    fill(client, [of_langchain(n) for n in range(4)])
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    hit = PageRetriever(Axes(), store).retrieve("3", top_k=1)[0]
    assert (hit.page.number, hit.page.source, hit.page.text, hit.page.id) == (3, "/srv/d0.pdf", "text 2", UUIDS[2])
    assert hit.page.metadata == {"source": "/srv/d0.pdf", "page": 2, "org": "x"}
    assert round(hit.score, 4) == 1.0
    assert store.get_pages([UUIDS[1]])[0].text == "text 1"
    assert store.score(Axes().axis(2), [UUIDS[1]]) == {UUIDS[1]: 1.0}
    assert np.allclose(store.get_embeddings([UUIDS[1]])[UUIDS[1]], Axes().axis(2))
    assert [d.pages for d in store.documents()] == [2, 2]
    assert store.contents() == []


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"number": 3}, {2}),
        ({"number": {"gte": 2, "lt": 4}}, {1, 2}),
        ({"number": {"ne": 1}}, {1, 2, 3}),
        ({"source": "/srv/d1.pdf"}, {1, 3}),
        ({"doc_id": "/srv/d1.pdf"}, {1, 3}),
        ({"$metadata": {"page": 3}}, {3}),
        ({"year": 2002}, {2}),
        ({"tenant": "t1"}, {1}),
        ({"a.b": 3}, {3}),
        ({"$ids": [UUIDS[0]]}, {0}),
        ({"$not": {"$or": [{"number": 1}, {"$ids": [UUIDS[1]]}]}}, {2, 3}),
        ({"missing": {"exists": False}}, {0, 1, 2, 3}),
        ({"missing": 1}, set()),
    ],
)
def test_filters_ask_their_payload(client: QdrantClient, filter: Any, expected: set[int]) -> None:
    fill(client, [of_langchain(n, year=2000.0 + n, tenant=f"t{n}", a={"b": n}) for n in range(4)])
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    assert {int(page.text[-1]) for page in store.scroll(filter)} == expected
    assert store.count(filter) == len(expected)
    assert len(store.search(Axes().axis(1), top_k=9, filter=filter)) == len(expected)


def test_llamaindex_is_read_in_place(client: QdrantClient) -> None:
    payloads = []
    for n in range(3):
        node = json.dumps({"id_": UUIDS[n], "text": f"text {n}", "class_name": "TextNode"})
        ids = {"doc_id": "D", "document_id": "D", "ref_doc_id": "D"}
        payloads.append({"_node_content": node, "_node_type": "TextNode", "page_label": str(n + 1), "org": "y", **ids})
    fill(client, payloads, "text-dense")
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    hit = store.search(Axes().axis(2), top_k=1)[0]
    assert (hit.page.doc_id, hit.page.number, hit.page.text) == ("D", 2, "text 1")
    assert hit.page.metadata == {"page_label": "2", "org": "y"}
    assert [page.number for page in store.scroll({"number": 3, "org": "y"})] == [3]


@pytest.mark.parametrize("first", [0, 1])
def test_tutorials_with_numbers_as_ids_and_many_vectors(client: QdrantClient, first: int) -> None:
    payloads = [{"source": "a.pdf", "page": n + first} for n in range(3)]
    fill(client, payloads, "colpali", "multi", ids=[10, 11, 12])
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes("multi"))
    found = store.search(Axes("multi").axis(2), top_k=1)[0]
    assert (found.page.number, found.score, found.score_type) == (2, 3.0, "maxsim")
    assert [page.number for page in store.get_pages([found.page.id])] == [2]
    assert store.score(Axes("multi").axis(2), [found.page.id]) == {found.page.id: 3.0}
    assert store.get_embeddings([found.page.id])[found.page.id].shape == (3, DIM)
    assert [page.number for page in store.scroll({"number": [1, 3]})] == [1, 3]
    assert store.count({"$ids": [found.page.id]}) == 1
    assert len(PageRetriever(Axes("multi"), store).more_like(found.page.id, top_k=5)) == 2


def test_a_mapping_of_ones_own(client: QdrantClient) -> None:
    fill(client, [{"meta": {"file": "a.pdf", "no": 4, "k": 1}, "ocr": "words"}], "v")
    mapping = {"metadata": "meta", "text": "ocr", "source": "meta.file", "page": "meta.no", "doc_id": "", "picture": ""}
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes(), mapping=mapping)
    (page,) = store.scroll({"k": 1})
    assert (page.source, page.number, page.text, page.metadata) == (
        "a.pdf",
        4,
        "words",
        {"file": "a.pdf", "no": 4, "k": 1},
    )
    with pytest.raises(SettingError, match=r"'pgae'; allowed: .*page"):
        QdrantPageStore.adopt(client, "theirs", embedder=Axes(), mapping={"pgae": "x"})
    with pytest.raises(SettingError, match="allowed: langchain, llamaindex, flat"):
        QdrantPageStore.adopt(client, "theirs", embedder=Axes(), mapping="chroma")


def test_an_embedder_that_does_not_fit_is_refused(client: QdrantClient) -> None:
    fill(client, [of_langchain(0)])
    with pytest.raises(StoreMismatchError, match=r"multi-vectors of 8 .* the collection has '': single, 8"):
        QdrantPageStore.adopt(client, "theirs", embedder=Axes("multi"))
    larger = Axes()
    larger.dimension = 9
    with pytest.raises(StoreMismatchError, match="of 9 dimensions"):
        QdrantPageStore.adopt(client, "theirs", embedder=larger)
    with pytest.raises(StoreError, match="no such collection"):
        QdrantPageStore.adopt(client, "other", embedder=Axes())
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    other = Axes()
    other.name = "another"
    with pytest.raises(StoreMismatchError, match="another"):
        PageRetriever(other, store).retrieve("1")


@pytest.mark.parametrize(("distance", "length", "fits"), [("EUCLID", 1, False), ("DOT", 1, True), ("DOT", 3, False)])
def test_scores_must_be_cosines(client: QdrantClient, distance: str, length: float, fits: bool) -> None:
    fill(client, [of_langchain(0)], distance=models.Distance[distance], length=length)
    if fits:
        store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
        assert store.search(Axes().axis(1))[0].score == 1.0
    else:
        with pytest.raises(StoreMismatchError, match="cosine"):
            QdrantPageStore.adopt(client, "theirs", embedder=Axes())


def test_one_of_several_vectors_is_chosen_by_name(client: QdrantClient) -> None:
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    client.create_collection("theirs", vectors_config={"a": params, "b": params})
    with pytest.raises(StoreMismatchError, match=r"several fit.*vector_name="):
        QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    with pytest.raises(StoreMismatchError, match="vector_name='c'"):
        QdrantPageStore.adopt(client, "theirs", embedder=Axes(), vector_name="c")
    assert QdrantPageStore.adopt(client, "theirs", embedder=Axes(), vector_name="b").count() == 0


def test_it_is_not_changed_unless_allowed(client: QdrantClient) -> None:
    fill(client, [of_langchain(n) for n in range(3)])
    before = client.scroll("theirs", with_vectors=True)[0]
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    page = Page("new", 5, text="new")
    for change in (
        lambda: store.add_pages([page], [Axes().axis(5)]),
        lambda: store.delete(filter={"number": 1}),
        lambda: store.prepare(Axes(), recreate=True),
        lambda: store.prepare(Axes(), {"dpi": 100}),
        lambda: store.add_source("/srv/d0.pdf", "elsewhere.pdf"),
        store.forget,
    ):
        with pytest.raises(StoreError, match="writable=True"):
            change()
    with pytest.raises(SettingError, match="mode='dense'"):
        store.search(None, text="text", mode="lexical")
    store.prepare(Axes())
    assert client.scroll("theirs", with_vectors=True)[0] == before


def test_it_is_changed_in_its_own_layout_where_allowed(client: QdrantClient) -> None:
    fill(client, [of_langchain(n) for n in range(3)])
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes(), writable=True)
    page = Page("new.pdf", 5, text="new", source="new.pdf", metadata={"org": "z"})
    store.add_pages([page], [Axes().axis(5)])
    assert store.delete(filter={"number": 1}) == 1
    written = client.retrieve("theirs", [page.id])[0].payload
    assert written == {
        "page_content": "new",
        "metadata": {"org": "z", "source": "new.pdf", "page": 4, "doc_id": "new.pdf"},
    }
    assert sorted(found.text for found in store.scroll()) == ["new", "text 1", "text 2"]
    assert store.search(Axes().axis(5), top_k=1)[0].page.number == 5


def test_pictures_come_from_the_payload_or_the_folder(client: QdrantClient, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "my page.png").write_bytes(png("blue"))
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    encoded = base64.b64encode(png("lime")).decode()
    pictures = [encoded, f"data:image/png;base64,{encoded}", "my page.png", str(folder / "my page.png")]
    refused = [
        "../secret.png",
        str(tmp_path / "secret.png"),
        "link.png",
        "gone.png",
        "a\0b",
        "http://h/x.png",
        "data:,%",
    ]
    payloads = [{"source": "a.pdf", "page": 1 + n, "image": image} for n, image in enumerate([*pictures, *refused])]
    fill(client, payloads, ids=list(range(len(payloads))))
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes(), pictures=folder)
    pages = sorted(store.scroll(), key=lambda page: page.number)
    colours = [page.open_image().convert("RGB").getpixel((0, 0)) for page in pages[:4]]
    assert colours == [(0, 255, 0), (0, 255, 0), (0, 0, 255), (0, 0, 255)]
    for page in pages[4:]:
        with pytest.raises(PictureError):
            page.open_image()
    assert all("image" not in page.metadata for page in pages)
    without = QdrantPageStore.adopt(client, "theirs", embedder=Axes())
    named = next(without.scroll({"number": 3}))
    with pytest.raises(PictureError, match="pictures="):
        named.open_image()


def test_picture_names_are_made_of_the_metadata(client: QdrantClient, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").mkdir()
    (tmp_path / "a.pdf" / "2.png").write_bytes(png())
    fill(client, [{"source": "a.pdf", "page": 2}, {"source": "../..", "page": 2}])
    mapping = {"picture": "{source}/{page}.png", "first_page": 1}
    store = QdrantPageStore.adopt(client, "theirs", embedder=Axes(), mapping=mapping, pictures=tmp_path)
    good, bad = sorted(store.scroll(), key=lambda page: page.source, reverse=True)
    assert good.open_image().size == (6, 4)
    with pytest.raises(PictureError, match="outside"):
        bad.open_image()


def test_small_names_are_no_base64() -> None:
    with pytest.raises(PictureError, match="pictures="):
        AdoptedPictures(None).read("page-1")
