"""Pages by the path of their picture: UltraRAG hands only paths from server to server, and a page is more than that.

DIR/found/
  2f6b...c1.json      what is known of the page whose picture has this path: text, words, source, number
  9d04...7a.jpg       a picture that is no file of its own: kept on a Qdrant server, say
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from visrag_integrations import images, ocr
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.evaluation.corpus import with_text
from visrag_integrations.evaluation.tables import picture_inside
from visrag_integrations.files import write_whole
from visrag_integrations.store.payload import pack_words, unpack_words
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

Needs = Literal["picture", "text", "words"]
"""What is to be known of a page beside its picture."""


class FoundPages:
    """What the retriever found, for the servers that get the paths.

    Args:
        folder: `found` in the folder that `visrag ultrarag init` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def show(self, page: Page, corpus: Path | None) -> str:
        """The absolute path of the page's picture; from now on `page_at` knows the page.

        Args:
            page: As the store holds it.
            corpus: The folder of the corpus that was indexed; None where pages came in another way.

        Raises:
            PictureError: The page has no picture any more.
        """
        path = self._picture_file(page, corpus)
        self._remember(path, page)
        return str(path)

    def page_at(self, path: str, needs: Needs = "picture") -> Page:
        """The page whose picture has this path; a picture that nobody found here is a page of its own.

        Args:
            path: As `show` gave it, the path of any picture, or a picture as a data URL.
            needs: "text" and "words" (with their boxes) are read by OCR where they are not known.

        Raises:
            PictureError: There is no such picture, or it cannot be opened.
        """
        page = self._known(path)
        page.open_image().close()  # now, so that the error names the path and nothing is asked of a model before
        if needs == "text":
            return with_text(page)
        if needs == "words" and not page.words:
            with page.open_image() as image:
                return replace(page, words=ocr.read_words(image))
        return page

    def _picture_file(self, page: Page, corpus: Path | None) -> Path:
        """Where the picture is as a file: in the corpus, in the index, or written for this."""
        named = page.metadata.get("image_path")
        if corpus is not None and isinstance(named, str):
            file = picture_inside(corpus, named, f"page {page.number} of {page.source or page.doc_id}")
            if file.is_file():
                return file.absolute()
        if page.picture is None:
            raise PictureError(
                f"The picture of page {page.number} of {page.source or page.doc_id!r} is gone: {named or 'no path'} is "
                "not there, and the index keeps none. Put it back, or index the corpus again (corpus_index.yaml)."
            )
        if isinstance(page.picture, Path) and page.picture.is_file():
            return page.picture.absolute()
        file = self.folder / f"{page.id}.jpg"
        self._write(file, images.encode(page.picture, "JPEG"))
        return file

    def _remember(self, path: Path, page: Page) -> None:
        known = {
            "path": str(path),
            "changed": _change_of(path),
            "doc_id": page.doc_id,
            "number": page.number,
            "text": page.text,
            "source": page.source,
            "metadata": dict(page.metadata),
            "words": pack_words(page.words),
        }
        record = self._record_of(str(path))
        data = json.dumps(known, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
        if not record.is_file() or record.read_bytes() != data:
            self._write(record, data)

    def _known(self, path: str) -> Page:
        if path.startswith("data:"):
            return Page.from_image(images.urls.decode_data_url(path), doc_id="picture")
        if "://" in path:
            raise PictureError(f"{path[:80]!r}: pictures from the net are not fetched. Give the path of a file.")
        file = Path(path)
        if not path or not file.is_file():
            raise PictureError(f"There is no picture {path!r}.")
        plain = Page.from_image(file.absolute(), doc_id=str(file), source=str(file))
        try:
            known = json.loads(self._record_of(str(file.absolute())).read_bytes())
        except FileNotFoundError:
            return plain
        except (OSError, ValueError):
            logger.warning("what is known of %s cannot be read; it is taken as a picture without text", path)
            return plain
        if known.get("changed") != _change_of(file):
            logger.warning("%s was changed since it was found; it is taken as a picture without text", path)
            return plain
        return _page_of(known, file.absolute())

    def _record_of(self, path: str) -> Path:
        name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        return self.folder / f"{name}.json"

    def _write(self, file: Path, data: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not durable: what a power cut takes is written again by the next search.
            write_whole(file, data, durable=False)
        except OSError as err:
            raise SettingError(
                f"{file} cannot be written: {err.strerror or err}. It is where found pages are kept."
            ) from err


def _change_of(path: Path) -> list[int]:
    """What changes with the file: its size and the time it was written."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _page_of(known: dict[str, Any], picture: Path) -> Page:
    return Page(
        known["doc_id"],
        known["number"],
        known["text"],
        source=known["source"],
        metadata=known["metadata"],
        words=unpack_words(known["words"]),
        picture=picture,
    )
