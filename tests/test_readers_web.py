"""Web pages as pictures, drawn by the real Chromium: what is shown, what is read, and what is never reached."""

from __future__ import annotations

import io
import itertools
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from visrag_integrations import PageReader
from visrag_integrations.errors import DocumentError, DocumentTimeoutError
from visrag_integrations.readers import chromium, web_page
from visrag_integrations.readers.chromium import find_program
from visrag_integrations.readers.image_files import tall_tiles
from visrag_integrations.readers.pool import DocumentDone, DocumentFailed, PageRead, ReaderPool
from visrag_integrations.readers.tiles import tiles_of
from visrag_integrations.types import Page

needs_chromium = pytest.mark.skipif(
    find_program() is None and not os.environ.get("VISRAG_TEST_BROWSER"), reason="no Chromium is installed"
)
READER = PageReader(ocr="never")


def html(tmp_path: Path, body: str, head: str = "", name: str = "page.html") -> Path:
    path = tmp_path / name
    path.write_text(f"<!doctype html><html><head><meta charset=utf-8>{head}</head><body>{body}</body></html>", "utf-8")
    return path


def read(source: Path | str, reader: PageReader = READER) -> list[Page]:
    return list(reader.read(source))


def red_share(page: Page) -> float:
    with page.open_image() as picture:
        colours = picture.convert("RGB").getcolors(1 << 24) or []
    red = sum(count for count, (r, g, b) in colours if r > 200 and g < 60 and b < 60)
    return red / sum(count for count, _ in colours)


def red_png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (600, 600), "red").save(file, "PNG")
    return file.getvalue()


class Site(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.server.seen.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/moved":
            self.send_response(301)
            self.send_header("Location", "/folder/page")
            self.end_headers()
            return
        if self.path == "/drip.png":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                return
        kind, body = self.server.pages.get(self.path, ("", b""))  # type: ignore[attr-defined]
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        server.seen, server.pages = [], {}  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@needs_chromium
def test_words_boxes_and_lines_are_those_of_the_picture(tmp_path: Path) -> None:
    body = """<h1 style="position:absolute;left:640px;top:100px;margin:0">Ships of 2031</h1>
    <p style="position:absolute;left:0;top:905px;margin:0">Größe: 40&nbsp;m</p>
    <input value="Lübeck" style="position:absolute;top:1200px">"""
    (page,) = read(html(tmp_path, body, "<title>Harbour &amp; ships</title>"))
    assert page.text.splitlines()[0] == "Ships of 2031"
    assert "Größe: 40 m" in page.text.replace("\xa0", " ")
    assert "Lübeck" in page.text
    assert page.metadata["title"] == "Harbour & ships"
    box = next(word.box for word in page.words if word.text == "Ships")
    with page.open_image() as picture:
        left, top, right, bottom = (edge * size for edge, size in zip(box, (*picture.size, *picture.size), strict=True))
        assert left == pytest.approx(picture.width / 2, abs=3)
        inside = picture.convert("L").crop((int(left), int(top), int(right), int(bottom)))
        assert inside.getextrema()[0] < 60  # dark letters stand in the box
        above = picture.convert("L").crop((int(left), 0, int(right), max(1, int(top) - 4)))
        assert above.getextrema() == (255, 255)  # and nothing above it


@needs_chromium
def test_what_nobody_sees_is_not_read(tmp_path: Path) -> None:
    body = """<p>seen</p><p style="color:white">white</p><p style="display:none">none</p>
    <p style="visibility:hidden">hid</p>
    <div style="opacity:0"><p>opaque</p></div><p style="position:absolute;left:-5000px">outside</p>
    <p style="font-size:0">tiny</p><noscript>without scripts</noscript><template>template</template>
    <input type=hidden value=secret><input type=password value=letmein><script>document.write("scripted")</script>
    <div style="position:absolute;top:600px">covered</div>
    <div style="position:absolute;top:590px;left:0;width:400px;height:80px;background:blue"></div>"""
    (page,) = read(html(tmp_path, body))
    assert page.text.split() == ["seen", "without", "scripts"]


@needs_chromium
def test_a_long_page_is_cut_into_tiles_that_overlap(tmp_path: Path) -> None:
    lines = "".join(f"<div style='height:50px'>line{number}</div>" for number in range(200))
    pages = read(html(tmp_path, lines))
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert len({page.doc_id for page in pages}) == 1
    assert {page.metadata["total_pages"] for page in pages} == {len(pages)}
    words = [[word.text for word in page.words] for page in pages]
    assert list(dict.fromkeys(itertools.chain(*words))) == [f"line{number}" for number in range(200)]
    for before, after in itertools.pairwise(words):
        assert len(set(before) & set(after)) >= 2


@pytest.mark.slow
@needs_chromium
def test_a_page_that_goes_on_and_on_is_cut_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_page, "MAX_HEIGHT", 4000)
    with caplog.at_level(logging.WARNING):
        pages = read(html(tmp_path, "<div style='height:9000000px'>top</div>"))
    assert len(pages) == len(tiles_of(4000, web_page.TILE))
    assert "only the first 4000" in caplog.text
    assert pages[0].metadata["cut_after_pixels"] == 4000


EVERYTHING = """\
<link rel=stylesheet href="{to}/a.css"><link rel=preconnect href="{to}">
<link rel=dns-prefetch href="{to}">
<link rel=prefetch href="{to}/b"><style>@import "{to}/c.css";
@font-face {{font-family:x;src:url({to}/f)}} p{{font-family:x}}
body{{background:url({to}/d.png)}}</style><p>text</p><img src="{to}/e.png"><img src="{file}">
<iframe src="{to}/f"></iframe>
<iframe src="{file}"></iframe><object data="{to}/g"></object><embed src="{file}">
<video src="{to}/h" autoplay></video>
<svg><image href="{to}/i.png"/><use href="{to}/j#x"/></svg><form action="{to}/k"><input></form>
<meta http-equiv=refresh content="0;url={to}/l"><base href="{to}/">
<script>
fetch("{to}/m"); new Image().src = "{to}/n"; new WebSocket("{socket}/o"); new EventSource("{to}/p");
navigator.sendBeacon("{to}/q"); window.open("{to}/r");
fetch("{file}").then(r => r.text()).then(t => document.body.append(t));
const c = new RTCPeerConnection({{iceServers: [{{urls: "stun:{udp}"}}]}}); c.createDataChannel("x");
c.createOffer().then(o => c.setLocalDescription(o)); setTimeout(() => location = "{to}/s", 10);
</script>"""


@needs_chromium
@pytest.mark.parametrize("scripts", [False, True])
def test_a_file_reaches_neither_network_nor_files(tmp_path: Path, site: ThreadingHTTPServer, scripts: bool) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(red_png())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_server(("127.0.0.1", 0)) as tcp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        tcp.setblocking(False)
        host, port = tcp.getsockname()
        body = EVERYTHING.format(
            to=site.url,  # type: ignore[attr-defined]
            file=secret.as_uri(),
            socket=f"ws://{host}:{port}",
            udp="{}:{}".format(*udp.getsockname()),
        )
        pages = read(html(tmp_path, body), PageReader(ocr="never", web_scripts=scripts))
        assert site.seen == []  # type: ignore[attr-defined]
        with pytest.raises(BlockingIOError):
            tcp.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)
    assert [word.text for page in pages for word in page.words] == ["text"]
    assert red_share(pages[0]) == 0


@needs_chromium
def test_a_url_is_given_what_its_own_host_sends(tmp_path: Path, site: ThreadingHTTPServer) -> None:
    other = socket.create_server(("127.0.0.1", 0))
    other.setblocking(False)
    site.pages |= {  # type: ignore[attr-defined]
        "/folder/page": (
            "text/html; charset=iso-8859-1",
            b"<link rel=stylesheet href=style.css><p>Gr\xf6\xdfe</p><img src=/red.png><img src=http://localhost:%d/x.png>"
            b"<iframe src=/frame></iframe><meta http-equiv=refresh content='0;url=/elsewhere'>"
            % other.getsockname()[1],
        ),
        "/folder/style.css": ("text/css", b"p{position:absolute;top:900px}"),
        "/red.png": ("image/png", red_png()),
        "/frame": ("text/html", b"<body style='background:red'>"),
        "/elsewhere": ("text/html", b"elsewhere"),
    }
    pages = read(f"{site.url}/moved")  # type: ignore[attr-defined]
    assert pages[0].source == f"{site.url}/moved"  # type: ignore[attr-defined]
    (word,) = pages[0].words
    assert word.text == "Größe"
    assert word.box[1] > 0.4  # where the style sheet puts it
    assert red_share(pages[0]) > 0.1
    seen = site.seen  # type: ignore[attr-defined]
    assert seen[:2] == ["/moved", "/folder/page"]
    assert "/elsewhere" not in seen
    assert seen.count("/folder/page") == 1  # what was fetched to be known is what is drawn
    with pytest.raises(BlockingIOError):
        other.accept()
    other.close()


@pytest.mark.slow
@needs_chromium
def test_hosts_that_are_named_may_send_parts(site: ThreadingHTTPServer) -> None:
    port = site.server_port
    site.pages |= {  # type: ignore[attr-defined]
        "/page": ("text/html", f"<p>text</p><img src=http://localhost:{port}/red.png>".encode()),
        "/red.png": ("image/png", red_png()),
    }
    url = f"{site.url}/page"  # type: ignore[attr-defined]
    assert red_share(read(url)[0]) == 0
    assert red_share(read(url, PageReader(ocr="never", web_hosts=("localhost",)))[0]) > 0.1


@pytest.mark.slow
@needs_chromium
def test_scripts_run_only_when_asked(tmp_path: Path) -> None:
    path = html(tmp_path, "<p id=a>before</p><script>document.getElementById('a').textContent = 'after'</script>")
    assert read(path)[0].text == "before"
    assert read(path, PageReader(ocr="never", web_scripts=True))[0].text == "after"


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("script", ["for (;;) {}", "document.body.append('x'.repeat(1e6)); for (;;) {}"])
def test_a_page_that_never_ends_is_given_up(tmp_path: Path, script: str) -> None:
    with pytest.raises(DocumentTimeoutError, match="web_timeout"):
        read(html(tmp_path, f"<p>x</p><script>{script}</script>"), PageReader(web_scripts=True, web_timeout=3))


@pytest.mark.slow
@needs_chromium
def test_a_part_that_drips_is_left_out(site: ThreadingHTTPServer) -> None:
    site.pages["/page"] = ("text/html", b"<p>text</p><img src=/drip.png>")  # type: ignore[attr-defined]
    (page,) = read(f"{site.url}/page", PageReader(ocr="never", web_timeout=20))  # type: ignore[attr-defined]
    assert page.text == "text"


@pytest.mark.slow
@needs_chromium
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def note(*arguments: object, **settings: object) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **settings))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(chromium.subprocess, "Popen", note)
    read(html(tmp_path, "<p>text</p>"))
    with pytest.raises(DocumentTimeoutError):
        read(html(tmp_path, "<script>for(;;){}</script>"), PageReader(web_scripts=True, web_timeout=2))
    assert [process.poll() is not None for process in started] == [True, True]
    assert list(folder.iterdir()) == []
    shutil.rmtree(folder)


@needs_chromium
def test_reading_processes_draw_pages_too(tmp_path: Path, site: ThreadingHTTPServer) -> None:
    site.pages["/page?id=7"] = ("text/html", b"<p>from the web</p>")  # type: ignore[attr-defined]
    sources = [html(tmp_path, "<p>from a file</p>"), f"{site.url}/page?id=7"]  # type: ignore[attr-defined]
    with ReaderPool(READER, workers=1) as pool:
        events = list(pool.read_documents(sources))
    assert [event.page.text for event in events if isinstance(event, PageRead)] == ["from a file", "from the web"]
    assert sum(isinstance(event, DocumentDone) for event in events) == 2


def test_without_chromium_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "find_program", lambda: None)
    with pytest.raises(DocumentError, match="apt-get install chromium"):
        read(html(tmp_path, "<p>text</p>"))


def test_a_browser_that_cannot_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho 'No usable sandbox!' >&2\n")
    program.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(web_page, "find_program", lambda: str(program))
    with pytest.raises(DocumentError, match="cannot be drawn"):
        read(html(tmp_path, "<p>text</p>"))


@pytest.mark.parametrize(
    ("begins", "is_page"),
    [
        ("<!DOCTYPE html><p>x", True),
        ("\ufeff  <!-- a -->\n<HTML lang=en>", True),
        ('<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml">', True),
        ("<article>", False),
        ("An <html> tag in a text", False),
    ],
)
def test_pages_are_known_by_how_they_begin(begins: str, is_page: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "find_program", lambda: None)
    expected = "drawn by Chromium" if is_page else "This type of file cannot be read"
    with pytest.raises(DocumentError, match=expected):
        list(READER.read(begins.encode()))


def test_a_long_receipt_is_read_in_tiles(tmp_path: Path) -> None:
    receipt = Image.new("RGB", (800, 6000), "white")
    for number in range(6):
        ImageDraw.Draw(receipt).rectangle((0, 1000 * number, 800, 1000 * number + 20), fill=(0, 0, 40 * number + 1))
    receipt.save(tmp_path / "receipt.png")
    pages = read(tmp_path / "receipt.png")
    assert len(pages) == len(tall_tiles(800, 6000, READER.max_pixels)) > 4
    with pages[0].open_image() as first, pages[-1].open_image() as last:
        assert first.size[0] == last.size[0] == 800  # no pixel was lost
        assert first.getpixel((400, 10)) == (0, 0, 1)
    assert len(read(tmp_path / "receipt.png", PageReader(ocr="never", max_pixels=10_000_000))) == 1


@pytest.mark.parametrize(("height", "tile"), [(1, 1000), (1000, 1000), (1151, 1000), (99_999, 1810), (12_345, 7)])
def test_tiles_cover_everything_and_overlap(height: int, tile: int) -> None:
    found = tiles_of(height, tile)
    assert found[0][0] == 0
    assert found[-1][1] == height
    for (_, bottom), (top, _) in itertools.pairwise(found):
        assert bottom >= top


@needs_chromium
def test_what_was_not_fetched_is_told(tmp_path: Path, site: ThreadingHTTPServer) -> None:
    port = site.server_port
    site.pages["/page"] = (  # type: ignore[attr-defined]
        "text/html",
        f"<p>text</p><img src=http://cdn.invalid/a.png><link rel=stylesheet href=http://localhost:{port}/b.css>"
        f"<img src=/missing.png>".encode(),
    )
    with READER.open(f"{site.url}/page") as document:  # type: ignore[attr-defined]
        refused, failed = document.warnings
    assert refused.startswith("2 pictures, style sheets, fonts or frames of other hosts were not fetched")
    assert all(text in refused for text in ("cdn.invalid", "localhost", "--web-host"))
    assert failed.startswith("1 pictures")


@needs_chromium
def test_an_html_file_says_that_its_pictures_are_not_shown(tmp_path: Path) -> None:
    with READER.open(html(tmp_path, "<p>text</p><img src=a.png><img src=http://host.invalid/b.png>")) as document:
        (said,) = document.warnings
    assert said.startswith("2 pictures")
    assert "nothing but itself" in said


@needs_chromium
def test_a_page_made_by_scripts_says_how_to_run_them(tmp_path: Path) -> None:
    path = html(tmp_path, "<div id=app></div><script>document.body.append('made')</script>")
    with READER.open(path) as document:
        assert "--web-scripts" in document.warnings[0]
    with PageReader(ocr="never", web_scripts=True).open(path) as document:
        assert (document.warnings, document.page(1).text) == ((), "made")


@needs_chromium
def test_letters_without_a_font_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuneiform = "\U00012000\U00012001"
    if not web_page.fonts.undrawable(cuneiform):
        pytest.skip("this machine has a font for cuneiform")
    (page,) = read(html(tmp_path, f"<p>seen {cuneiform}</p>"))
    assert page.text == "seen"
    (said,) = page.metadata["warnings"]
    assert said.startswith("2 characters are not drawn")
    assert "Cuneiform" in said


@needs_chromium
def test_limits_that_were_reached_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_page, "MAX_HEIGHT", 4000)
    with READER.open(html(tmp_path, "<div style='height:900000px;width:9000px'>top</div>")) as document:
        tall, wide = document.warnings
    assert "first 4000 of 900" in tall
    assert "first 2560 of 9" in wide


@pytest.mark.slow
@needs_chromium
def test_a_page_that_is_still_loading_is_told(site: ThreadingHTTPServer) -> None:
    site.pages["/page"] = ("text/html", b"<p>text</p><img src=/drip.png>")  # type: ignore[attr-defined]
    with PageReader(ocr="never", web_timeout=20).open(f"{site.url}/page") as document:  # type: ignore[attr-defined]
        assert any("did not come in time" in text or "still loading" in text for text in document.warnings)


@pytest.mark.parametrize("on", ["reader", "pool"])
def test_a_server_that_never_stops_sending(site: ThreadingHTTPServer, on: str) -> None:
    reader = PageReader(ocr="never", fetch_timeout=1)
    url = f"{site.url}/drip.png"  # type: ignore[attr-defined]
    if on == "reader":
        with pytest.raises(DocumentTimeoutError, match="fetch_timeout"):
            read(url, reader)
        return
    (failed,) = ReaderPool(reader, workers=1).read_documents([url])
    assert isinstance(failed, DocumentFailed)
    assert "fetch_timeout" in failed.failure.error


@pytest.mark.slow
@needs_chromium
def test_a_page_of_very_many_elements_is_read_as_far_as_it_is_drawn(tmp_path: Path) -> None:
    path = html(tmp_path, "\n".join(f"<p>w{number}</p>" for number in range(100_000)))
    with READER.open(path) as document:
        assert "first 200000 of" in document.warnings[0]
        assert document.page(1).text.split()[:2] == ["w0", "w1"]
