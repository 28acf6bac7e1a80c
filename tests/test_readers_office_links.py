"""Documents reach nothing: neither a file of the disk nor a socket, whatever they link to, each wall by itself."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from office_files import BINARY, LINKED, LINKED_TABLES
from PIL import Image

from visrag_integrations.errors import DocumentError
from visrag_integrations.readers import PageReader, office_program, office_sandbox
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
        self.hidden = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/secret.png"

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._server.getsockname()
        return host, port

    def _serve(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            self.visits += 1
            if self.hidden:
                connection.close()
                continue
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

    @contextlib.contextmanager
    def hiding(self) -> Iterator[None]:
        """Nothing is there to be found, and what looks for it does not count."""
        aside = self.picture.with_name("aside.png")
        self.hidden = True
        self.picture.rename(aside)
        yield
        aside.rename(self.picture)
        self.opened()
        self.hidden, self.visits = False, 0

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
    monkeypatch.setattr(office_program, "wall", lambda program, folder: office_sandbox.Wall())


def no_cleaning(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(source: object, given: Path, *_: object, **_more: object) -> list[str]:
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
    name, draw = {**LINKED, **LINKED_TABLES}[kind]
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
@pytest.mark.parametrize("kind", [*LINKED, *LINKED_TABLES])
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


def binary(path: Path, ending: str) -> Path:
    """The file in an old format, written by LibreOffice; its links are in it."""
    profile = (path.parent / "profile").as_uri()
    command = ["soffice", f"-env:UserInstallation={profile}", "--headless", "--convert-to", ending[1:], "--outdir"]
    subprocess.run([*command, str(path.parent), str(path)], check=True, capture_output=True)
    data = path.with_suffix(ending).read_bytes()
    assert b"secret.png" in data or "secret.png".encode("utf-16-le") in data
    return path.with_suffix(ending)


# LibreOffice writes no link into an .xls of an .ods when the server does not answer, so that there is none to test.
OLD_LINKS = [
    (kind, links) for kind in BINARY for links in ("file", "http") if (kind, links) != ("xls of an ods", "http")
]


@pytest.mark.slow
@pytest.mark.parametrize("walls", ["all", "settings only"])
@pytest.mark.parametrize(("kind", "links"), OLD_LINKS)
def test_old_formats_reach_nothing(
    tmp_path: Path, outside: Outside, kind: str, links: str, walls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can clean them: the settings keep all out of the picture, and the wall what is not even to be opened."""
    name, draw, ending = BINARY[kind]
    link = {"file": outside.picture.as_uri(), "http": outside.url}[links]
    with outside.hiding():
        path = binary(draw(tmp_path / name, link), ending)
    if walls == "settings only":
        no_wall(monkeypatch)
    pages = list(PageReader(ocr="never").read(path))
    assert red_pixels(pages) == 0
    assert "before the link" in " ".join(" ".join(page.text for page in pages).split())
    assert outside.visits == 0
    if walls == "all":
        assert outside.opened() == []


def test_without_bubblewrap_the_network_is_gone_all_the_same(
    tmp_path: Path, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_bubblewrap(tmp_path / "bin", monkeypatch)
    found = office_sandbox.wall(shutil.which("soffice") or "", tmp_path)
    if not found.command:
        pytest.skip("this system lets nobody have a network of their own")
    assert found.missing == office_sandbox.NO_FILES_HIDDEN
    host, port = outside.address
    visit = f"import socket; socket.create_connection(({host!r}, {port}), 5)"
    done = subprocess.run([*found.command, sys.executable, "-c", visit], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "unreachable" in done.stderr
    assert outside.visits == 0
    subprocess.run([sys.executable, "-c", visit], check=True)  # without the wall it is there


@pytest.mark.slow
def test_without_bubblewrap_documents_are_read_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_bubblewrap(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(office_program, "_told", set())
    (tmp_path / "a.rtf").write_text(r"{\rtf1 first}")
    (tmp_path / "b.rtf").write_text(r"{\rtf1 second}")
    told = []
    for name in ("a.rtf", "b.rtf"):
        with PageReader(ocr="never").open(tmp_path / name) as document:
            assert document.page(1).text.strip() in {"first", "second"}
            told.append([text for text in document.warnings if "bubblewrap" in text])
    assert [len(texts) for texts in told] == [1, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="a program of shell")
def test_what_libreoffice_writes_while_it_is_tried_goes_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes folders in its home at once, and as root it could do so anywhere."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    program = tmp_path / "soffice"
    program.write_text(f'#!/bin/sh\nmkdir -p "$HOME/.config"\necho "$HOME" > {tmp_path}/home\necho LibreOffice\n')
    program.chmod(0o755)
    assert office_sandbox._starts((), str(program))
    home = Path((tmp_path / "home").read_text().strip())
    assert home.parent == tmp_path / "tmp"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_where_nothing_can_be_had_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_sandbox.shutil, "which", lambda name: None)
    assert office_sandbox.wall("/usr/bin/soffice", tmp_path) == office_sandbox.Wall(missing=office_sandbox.NO_WALL)


def hide_bubblewrap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH on which everything is but bubblewrap."""
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if program.name != "bwrap" and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    monkeypatch.setenv("PATH", str(folder))
