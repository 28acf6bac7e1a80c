"""Page pictures as files of this machine, for clients that open them by path, as the published VRAG client does."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mimetypes
import os
import threading
from pathlib import Path

from visrag_integrations.errors import PictureError
from visrag_integrations.files import ScratchFolder, write_whole
from visrag_integrations.images.urls import encoded
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)

# Files that were written for pictures that are none. A run of the client shows some ten; a page image has some 300 kB.
_MOST_WRITTEN = 2000


class PicturePaths:
    """Gives each page's picture a path: its own where it is a file, else one in a folder that goes when this closes."""

    def __init__(self) -> None:
        self._folder: ScratchFolder | None = None
        self._written: dict[Path, None] = {}  # those used last come last
        self._lock = threading.Lock()

    def path(self, page: Page) -> str | None:
        """An absolute path; None where the page has no picture, or its picture cannot be read."""
        picture = page.picture
        if picture is None:
            return None
        if isinstance(picture, (str, Path)) and os.path.isfile(picture):
            return os.path.abspath(picture)
        try:
            data, mime = encoded(picture)
        except PictureError as err:
            logger.warning("the picture of %s, page %d cannot be given as a file: %s", page.source, page.number, err)
            return None
        return str(self._kept(data, mimetypes.guess_extension(mime) or ""))

    def _kept(self, data: bytes, suffix: str) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = ScratchFolder("pictures")
            file = self._folder.path / (hashlib.sha256(data).hexdigest()[:32] + suffix)
            self._written.pop(file, None)
            self._written[file] = None
            if not file.exists():
                write_whole(file, data, durable=False)
            while len(self._written) > _MOST_WRITTEN:
                oldest = next(iter(self._written))
                del self._written[oldest]
                oldest.unlink(missing_ok=True)
        return file

    def close(self) -> None:
        """Delete what was written."""
        with self._lock, contextlib.suppress(OSError):
            if self._folder is not None:
                self._folder.close()
            self._folder, self._written = None, {}
