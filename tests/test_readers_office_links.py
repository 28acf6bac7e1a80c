"""Documents reach nothing: neither a file of the disk nor a socket, whatever they link to, each wall by itself."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from office_files import LINKED
from PIL import Image

from visrag_integrations.errors import DocumentError
from visrag_integrations.readers import PageReader, office_program
from visrag_integrations.types import Page

pytestmark = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
IN_ACCESS, IN_OPEN = 0x1, 0x20


class Outside:
    """A marked picture on the disk and a server beside it, which remember who came."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.picture = folder / "secret.png"
        Image.new("RGB", (300, 300), "red").save(self.picture)
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        self._libc.inotify_add_watch(self._watch, os.fsencode(folder), IN_ACCESS | IN_OPEN)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.visits = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/secret.png"

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.visits += 1
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + self.picture.read_bytes())
            connection.close()

    def opened(self) -> list[str]:
        """Names of the files in the folder that were opened or read."""
        names: list[str] = []
        try:
            data = os.read(self._watch, 1 << 16)
        except BlockingIOError:
            return names
        while data:
            length = struct.unpack_from("iIII", data)[3]
            names.append(data[16 : 16 + length].rstrip(b"\x00").decode())
            data = data[16 + length :]
        return [name for name in names if name]

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self._server.close()
        os.close(self._watch)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    found = Outside(tmp_path / "outside")
    yield found
    found.close()


def no_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_program, "wall", lambda program, folder: None)


def no_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(source: object, given: Path, password: str | None = None) -> list[str]:
        shutil.copyfile(source.path, given)  # type: ignore[attr-defined]
        return []

    monkeypatch.setattr("visrag_integrations.readers.office.prepare", copied)


def red_pixels(pages: list[Page]) -> int:
    found = 0
    for page in pages:
        data = page.open_image().convert("RGB").resize((100, 140)).tobytes()
        for red, green, blue in zip(data[::3], data[1::3], data[2::3], strict=True):
            found += red > 180 and green < 80 and blue < 80
    return found


def check_reaches_nothing(tmp_path: Path, outside: Outside, kind: str, links: str) -> None:
    name, draw = LINKED[kind]
    path = draw(tmp_path / name, {"file": outside.picture.as_uri(), "http": outside.url}[links])
    pages = list(PageReader(ocr="never").read(path))
    assert red_pixels(pages) == 0
    assert "before the link" in " ".join(" ".join(page.text for page in pages).split())
    assert outside.opened() == []
    assert outside.visits == 0


def test_the_watch_sees_what_is_touched(outside: Outside) -> None:
    """Without this the tests below could pass because nobody looks."""
    outside.picture.read_bytes()
    assert "secret.png" in outside.opened()
    with socket.create_connection(("127.0.0.1", int(outside.url.split(":")[2].split("/")[0]))) as visitor:
        assert visitor.recv(100).startswith(b"HTTP/1.0 200")
    assert outside.visits == 1


@pytest.mark.slow
@pytest.mark.parametrize("links", ["file", "http"])
@pytest.mark.parametrize("kind", LINKED)
def test_documents_reach_nothing(tmp_path: Path, outside: Outside, kind: str, links: str) -> None:
    check_reaches_nothing(tmp_path, outside, kind, links)


@pytest.mark.slow
@pytest.mark.parametrize("links", ["file", "http"])
@pytest.mark.parametrize("kind", LINKED)
def test_nor_without_the_wall(
    tmp_path: Path, outside: Outside, kind: str, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_wall(monkeypatch)
    check_reaches_nothing(tmp_path, outside, kind, links)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap is not installed")
@pytest.mark.parametrize("links", ["file", "http"])
@pytest.mark.parametrize("kind", LINKED)
def test_nor_when_nothing_was_cut_out(
    tmp_path: Path, outside: Outside, kind: str, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall alone holds; whether such a document can be printed at all is another matter."""
    no_cleaning(monkeypatch)
    name, draw = LINKED[kind]
    path = draw(tmp_path / name, {"file": outside.picture.as_uri(), "http": outside.url}[links])
    outside.opened()  # what copied it may not count
    with contextlib.suppress(DocumentError):
        assert red_pixels(list(PageReader(ocr="never").read(path))) == 0
    assert (outside.opened(), outside.visits) == ([], 0)
