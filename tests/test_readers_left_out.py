"""Nothing is left out silently: files of other kinds, files inside of files, later pictures of an animation."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from fakes import PixelEmbedder
from PIL import Image

from visrag_integrations import QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.ingestion import index_documents
from visrag_integrations.readers import PageReader, attachments
from visrag_integrations.readers.finding import LeftOut, find_documents
from visrag_integrations.readers.pool import DocumentDone, PageRead, ReaderPool


def pdf(path: Path, text: str, **embedded: bytes) -> Path:
    with pymupdf.open() as document:
        document.new_page().insert_text((72, 72), text)
        for name, data in embedded.items():
            document.embfile_add(name, data, filename=name, ufilename=name)
        document.save(path)
    return path


def pdf_bytes(tmp_path: Path, text: str, **embedded: bytes) -> bytes:
    return pdf(tmp_path / "drawn.pdf", text, **embedded).read_bytes()


def test_files_of_other_kinds_are_named(tmp_path: Path) -> None:
    pdf(tmp_path / "a.pdf", "one")
    for name in ("b.dwg", "c.zip", "deep/d.mp4", "e"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in (".hidden.zip", "~$a.docx"):
        (tmp_path / name).write_bytes(b"x")
    found: list[LeftOut] = []
    assert [Path(path).name for path in find_documents(tmp_path, found.append)] == ["a.pdf"]
    assert sorted(Path(item.source).name for item in found) == ["b.dwg", "c.zip", "d.mp4", "e"]


def test_the_report_names_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    pdf(folder / "a.pdf", "one")
    for name in ("b.dwg", "c.dwg", "d.zip"):
        (folder / name).write_bytes(b"x")
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(folder, store=store, embedder=PixelEmbedder(), reader=PageReader(ocr="never"))
    assert [Path(name).name for name in report.left_out] == ["b.dwg", "c.dwg", "d.zip"]
    assert [Path(name).name for name in report.as_dict()["left_out"]] == ["b.dwg", "c.dwg", "d.zip"]
    from visrag_integrations.cli.output import warning_lines

    (line,) = warning_lines(report)
    assert line.startswith("left out: 3 files of kinds that are not read (2 .dwg, 1 .zip): ")
    assert "c.dwg" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_folders_that_cannot_be_looked_into_are_reported(tmp_path: Path) -> None:
    pdf(tmp_path / "a.pdf", "one")
    (tmp_path / "closed").mkdir(mode=0)
    found: list[LeftOut] = []
    list(find_documents(tmp_path, found.append))
    assert [(Path(item.source).name, item.unreadable) for item in found] == [("closed", "Permission denied")]


def test_folders_that_fail_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pdf(tmp_path / "a.pdf", "one")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with QdrantPageStore(tmp_path / "closed-index") as store:
        report = index_documents(tmp_path, store=store, embedder=PixelEmbedder(), reader=PageReader(ocr="never"))
    assert any("cannot be looked into: Permission denied" in failure.error for failure in report.failed)


def test_embedded_files_are_documents_of_their_own(tmp_path: Path) -> None:
    inner = pdf_bytes(tmp_path, "inner text")
    outer = pdf(tmp_path / "outer.pdf", "outer text", **{"inner.pdf": inner, "data.dwg": b"x", "../../b.txt": b"note"})
    pages = list(PageReader(ocr="never").read(outer))
    assert [Path(page.source).relative_to(tmp_path).as_posix() for page in pages] == [
        "outer.pdf",
        "outer.pdf/inner.pdf",
        "outer.pdf/b.txt",
    ]
    assert [page.text.strip() for page in pages] == ["outer text", "inner text", "note"]
    with PageReader(ocr="never").open(outer) as document:
        assert [text for text in document.warnings if "data.dwg" in text]


def test_only_one_level_deep(tmp_path: Path) -> None:
    deepest = pdf_bytes(tmp_path, "deepest")
    middle = pdf_bytes(tmp_path, "middle", **{"deepest.pdf": deepest})
    outer = pdf(tmp_path / "outer.pdf", "outer", **{"middle.pdf": middle})
    events = list(ReaderPool(PageReader(ocr="never"), 1).read_documents(outer))
    assert [event.page.text.strip() for event in events if isinstance(event, PageRead)] == ["middle", "outer"]
    said = [w for event in events if isinstance(event, DocumentDone) for w in event.warnings]
    assert [(Path(warning.source).name, "deepest.pdf" in warning.text) for warning in said] == [("middle.pdf", True)]


def test_embedded_files_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachments, "MAX_FILES", 2)
    monkeypatch.setattr(attachments, "MAX_BYTES", 100)
    outer = pdf(tmp_path / "o.pdf", "o", **{"a.txt": b"small", "b.txt": b"x" * 101, "c.txt": b"c"})
    with PageReader(ocr="never").open(outer) as document:
        assert [Path(source.name).name for source in document.embedded] == ["a.txt"]
        assert ["beyond the limit" in text or "more than 2 files" in text for text in document.warnings] == [True, True]


def test_embedded_files_go_with_the_outer_one(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    pdf(folder / "other.pdf", "other")
    outer = pdf(folder / "outer.pdf", "outer", **{"inner.pdf": pdf_bytes(tmp_path, "inner")})
    settings = {"embedder": PixelEmbedder(), "reader": PageReader(ocr="never"), "workers": 1, "prune": True}
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(folder, store=store, **settings)
        assert (report.documents, report.pages, report.failed) == (3, 3, ())
        again = index_documents(folder, store=store, **settings)
        assert (again.removed, store.count()) == (0, 3)  # the outer file was not opened again
        outer.unlink()
        gone = index_documents(folder, store=store, **settings)
        assert (gone.removed, store.count()) == (2, 1)


def test_an_inner_file_that_left_its_outer_one_goes(tmp_path: Path) -> None:
    outer = pdf(tmp_path / "outer.pdf", "outer", **{"inner.pdf": pdf_bytes(tmp_path, "inner")})
    settings = {"embedder": PixelEmbedder(), "reader": PageReader(ocr="never"), "workers": 1}
    with QdrantPageStore(tmp_path / "index") as store:
        index_documents(outer, store=store, **settings)
        pdf(outer, "outer, new")
        index_documents(outer, store=store, **settings)
        assert [Path(document.sources[0]).name for document in store.documents()] == ["outer.pdf"]


def xfa_form(path: Path, dynamic: bool) -> Path:
    """A form as Adobe's designer makes it; a dynamic one has a page that asks to be patient, and no fields."""
    with pymupdf.open() as document:
        page = document.new_page()
        parts = ""
        for name in ("template", "datasets"):
            place = document.get_new_xref()
            document.update_object(place, "<<>>")
            document.update_stream(place, f"<{name}><hull>KX-4471</hull></{name}>".encode())
            parts += f"({name}) {place} 0 R "
        catalog = document.pdf_catalog()
        if dynamic:
            page.insert_text((50, 100), "Please wait...")
            document.xref_set_key(catalog, "AcroForm", f"<</Fields [] /XFA [{parts}]>>")
            document.xref_set_key(catalog, "NeedsRendering", "true")
        else:
            page.insert_text((50, 100), "Hull number:")
            field = pymupdf.Widget()
            field.field_type, field.field_name = pymupdf.PDF_WIDGET_TYPE_TEXT, "hull"
            field.field_value, field.rect = "KX-4471", pymupdf.Rect(150, 85, 300, 105)
            page.add_widget(field)
            document.xref_set_key(catalog, "AcroForm/XFA", f"[{parts}]")
        document.save(path)
    return path


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_forms_that_only_adobe_draws_are_named(tmp_path: Path, backend: Any) -> None:
    dynamic = xfa_form(tmp_path / "dynamic.pdf", dynamic=True)
    static = xfa_form(tmp_path / "static.pdf", dynamic=False)
    pdf(tmp_path / "plain.pdf", "no form")
    reader = PageReader(backend=backend, ocr="never")
    with QdrantPageStore(tmp_path / "index") as store:
        files = [dynamic, static, tmp_path / "plain.pdf"]
        report = index_documents(files, store=store, embedder=PixelEmbedder(), reader=reader, workers=1)
    said = {Path(warning.source).name: warning.text for warning in report.warnings}
    assert sorted(said) == ["dynamic.pdf", "static.pdf"]
    assert "only Adobe's own reader draws" in said["dynamic.pdf"]
    assert "Print it to a PDF" in said["dynamic.pdf"]
    assert "AcroForm" in said["static.pdf"]
    (page,) = reader.read(static)
    assert page.text == "Hull number: KX-4471"  # what its fields show is read


@pytest.mark.parametrize("backend", ["pymupdf", "pdfium"])
def test_a_form_whose_xfa_is_one_stream(tmp_path: Path, backend: Any) -> None:
    with pymupdf.open() as document:
        document.new_page().insert_text((50, 100), "Please wait...")
        place = document.get_new_xref()
        document.update_object(place, "<<>>")
        document.update_stream(place, b"<xdp/>")
        document.xref_set_key(document.pdf_catalog(), "AcroForm", f"<</Fields [] /XFA {place} 0 R>>")
        document.save(tmp_path / "stream.pdf")
    with PageReader(backend=backend, ocr="never").open(tmp_path / "stream.pdf") as opened:
        assert ["only Adobe's own reader draws" in warning for warning in opened.warnings] == [True]


def test_only_the_first_picture_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), (n * 40, 0, 0)) for n in range(3)]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with PageReader(ocr="never").open(tmp_path / name) as document:
            assert document.total_pages == 1
            assert document.warnings == ("is an animation of 3 pictures; only the first is read.",)


@pytest.mark.parametrize("suffix", ["jp2", "j2k", "avif", "heic"])
def test_newer_kinds_of_pictures(tmp_path: Path, suffix: str) -> None:
    if suffix == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    if f".{suffix}" not in Image.registered_extensions():
        pytest.skip(f"this Pillow writes no .{suffix}")
    Image.new("RGB", (64, 32), (0, 0, 255)).save(tmp_path / f"p.{suffix}")
    (page,) = PageReader(ocr="never").read(tmp_path / f"p.{suffix}")
    image = page.open_image().convert("RGB")
    assert image.size == (64, 32)
    assert image.getpixel((5, 5)) == pytest.approx((0, 0, 255), abs=6)


def test_the_second_of_two_equal_files_is_tried(tmp_path: Path) -> None:
    """Bytes that are no JPEG file are a good text."""
    for name in ("a.odt", "b.txt"):
        (tmp_path / name).write_bytes(b"plain words")
    with QdrantPageStore(tmp_path / "index") as store:
        report = index_documents(
            [tmp_path / "a.odt", tmp_path / "b.txt"], store=store, embedder=PixelEmbedder(), workers=1
        )
        assert [Path(failure.source).name for failure in report.failed] == ["a.odt"]
        assert [Path(document.sources[0]).name for document in store.documents()] == ["b.txt"]


def test_json_holds_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    frames = [Image.new("RGB", (20, 20), (n * 40, 0, 0)) for n in range(3)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    (folder / "b.dwg").write_bytes(b"x")
    main(["index", str(folder), "--index", str(tmp_path / "index"), "--json", "--embedder", "ocr"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [Path(name).name for name in report["left_out"]] == ["b.dwg"]
    assert "animation of 3 pictures" in report["warnings"][0]["warning"]
    assert "left out: 1 file of kinds that are not read (1 .dwg)" in err


def test_options_for_web_pages_reach_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import visrag_integrations.ingestion as ingestion

    readers: list[PageReader] = []

    def note(paths: object, **settings: object) -> object:
        readers.append(settings["reader"])  # type: ignore[arg-type]
        raise SystemExit(0)

    monkeypatch.setattr(ingestion, "index_documents", note)
    hosts = ["--web-host", "cdn.example.org", "--web-host", "https://IMG.example.org/a/", "--web-scripts"]
    for more, expected in (([], ((), False)), (hosts, (("cdn.example.org", "img.example.org"), True))):
        with pytest.raises(SystemExit):
            main(["index", "a.pdf", "--index", str(tmp_path / "index"), "--embedder", "ocr", *more])
        assert (readers[-1].web_hosts, readers[-1].web_scripts) == expected


@pytest.mark.parametrize("host", ["", "*", "*.example.org", "http://", "two words"])
def test_what_is_no_host_is_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["index", "a.pdf", "--web-host", host])
    assert "is no host" in capsys.readouterr().err
