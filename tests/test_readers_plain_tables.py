"""Tables and texts in plain files: any usual separator and encoding, any size, and no cell is changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from visrag_integrations.errors import DocumentError, UnsupportedDocumentError
from visrag_integrations.readers import PageReader, plain_tables, plain_text
from visrag_integrations.readers.plain_tables import write_workbook
from visrag_integrations.readers.plain_text import copy_as_utf8
from visrag_integrations.readers.sources import identify

needs_office = pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")


def cells(path: Path, data: bytes) -> tuple[list[list[str]], list[str]]:
    """The cells of the workbook that is made of a table, and what is said about it."""
    path.write_bytes(data)
    said = write_workbook(identify(path, max_bytes=1 << 30), path.with_name("made.xlsx"))
    with zipfile.ZipFile(path.with_name("made.xlsx")) as made:
        root = ElementTree.fromstring(made.read("xl/worksheets/sheet1.xml"))
    rows = [row for row in root.iter() if row.tag.endswith("}row")]
    return [[t.text or "" for t in row.iter() if t.tag.endswith("}t")] for row in rows], said


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        ("a.csv", b'Teil;Preis\r\n0815;"1,50"\r\n007;"2;5"\r\n', [["Teil", "Preis"], ["0815", "1,50"], ["007", "2;5"]]),
        ("a.csv", b"price;tax\n1,5;2,5\n1,75;2,25\n", [["price", "tax"], ["1,5", "2,5"], ["1,75", "2,25"]]),
        ("a.csv", b"sep=;\r\na;b\r\n1,5;2\r\n", [["a", "b"], ["1,5", "2"]]),
        ("a.csv", b"a\tb\n1,5\t2,5\n", [["a", "b"], ["1,5", "2,5"]]),
        ("a.csv", b"a|b\n1|2\n", [["a", "b"], ["1", "2"]]),
        ("a.tsv", b"a\tb, c\n1\t2\n", [["a", "b, c"], ["1", "2"]]),
        ("a.csv", b'a,b\n"line 1\nline 2","say ""yes"""\n', [["a", "b"], ["line 1\nline 2", 'say "yes"']]),
        ("a.csv", b"only one\nvalue\n", [["only one"], ["value"]]),
        ("a.csv", b'a,b\n"=WEBSERVICE(""http://x/"")",1-2\n', [["a", "b"], ['=WEBSERVICE("http://x/")', "1-2"]]),
        ("a.csv", b"a,b\x01\n<c>,&d\n", [["a", "b"], ["<c>", "&d"]]),
    ],
)
def test_cells_as_they_stand(tmp_path: Path, name: str, data: bytes, expected: list[list[str]]) -> None:
    assert cells(tmp_path / name, data) == (expected, [])


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    text = "Ort;Straße\nZürich;Großer Weg 5\n"
    (rows, said) = cells(tmp_path / "a.csv", text.encode(encoding))
    assert rows == [["Ort", "Straße"], ["Zürich", "Großer Weg 5"]]
    assert said == []
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert copy_as_utf8(identify(tmp_path / "a.txt", max_bytes=1 << 20), tmp_path / "b.txt") == []
    assert (tmp_path / "b.txt").read_text("utf-8") == text


def test_a_letter_across_two_blocks_is_no_reason_for_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 4095 + "é" + "x" * ((1 << 20) - 2) + "é€", "utf-8")
    copy_as_utf8(identify(tmp_path / "a.txt", max_bytes=1 << 22), tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()


def test_a_quotation_mark_that_is_never_closed_loses_no_row(tmp_path: Path) -> None:
    lines = "".join(f"n{n},{'“' if n else chr(34)}text {n}\n" for n in range(2000))
    rows, said = cells(tmp_path / "a.csv", f"name,note\n{lines}".encode())
    assert len(rows) == 2001
    assert rows[1] == ["n0", '"text 0']
    assert "quotation mark" in said[0]


def test_rows_and_cells_beyond_the_limits_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_tables, "MAX_ROWS", 3)
    monkeypatch.setattr(plain_tables, "_MOST_IN_CELL", 5)
    monkeypatch.setattr(plain_tables, "_MOST_COLUMNS", 2)
    rows, said = cells(tmp_path / "a.csv", b"a,b\n123456789,2\n1,2,3\n4,5\n6,7\n")
    assert rows == [["a", "b"], ["12345", "2"], ["1", "2"]]
    assert ["2 rows were left out" in said[0], "1 cells are longer" in said[1], "beyond column" in said[2]] == [
        True
    ] * 3


@pytest.mark.parametrize("data", [b"\n\n", b",,\n", b" ; \n"])
def test_a_table_of_nothing(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DocumentError, match="no cell"):
        cells(tmp_path / "a.csv", data)


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
@pytest.mark.parametrize("data", [b"\x00\x01\x02" * 50, b"text " * 2000 + b"\x00"])
def test_what_is_no_text(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnsupportedDocumentError, match="zero bytes"):
        list(PageReader(ocr="never").read(tmp_path / name))


PEAK = """
import sys, tempfile, pathlib
from visrag_integrations.readers import plain_tables, plain_text
from visrag_integrations.readers.sources import identify
source = identify(sys.argv[1], max_bytes=2 << 30)
make = plain_tables.write_workbook if source.suffix == ".csv" else plain_text.copy_as_utf8
with tempfile.TemporaryDirectory() as folder:
    print(make(source, pathlib.Path(folder, "a")))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measured as on Linux")
@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_large_files_take_little_memory(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        for start in range(0, 1_000_000, 1000):
            file.write(
                b"".join(
                    b"%07d,name,%d,some text that is in each of its rows\n" % (n, n) for n in range(start, start + 1000)
                )
            )
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    said, peak = done.stdout.splitlines()
    assert {"a.csv": "980000 rows were left out", "a.txt": "first 50000 lines are read"}[name] in said
    assert int(peak) >> 10 < 150


def test_a_long_text_is_cut_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "MAX_BYTES", 1 << 20)
    (tmp_path / "a.md").write_text(("line " * 100 + "\n") * 4200)
    (said,) = copy_as_utf8(identify(tmp_path / "a.md", max_bytes=1 << 30), tmp_path / "b.txt")
    assert "only its first 1 MiB are read, of 2 MiB" in said
    assert (tmp_path / "b.txt").stat().st_size == 1 << 20


def test_a_text_of_many_lines_is_cut_after_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "MAX_LINES", 3)
    for text, said in (("1\n2\n3\n", False), ("1\n2\n3\n4\n", True)):
        (tmp_path / "a.txt").write_text(text)
        found = copy_as_utf8(identify(tmp_path / "a.txt", max_bytes=1 << 30), tmp_path / "b.txt")
        assert bool(found) == said
        assert (tmp_path / "b.txt").read_text() == "1\n2\n3\n"


@needs_office
def test_a_table_is_read_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("Teil;Preis\n0815;1,50\n1-2;3E5\n".encode("utf-16"))
    (page,) = PageReader(ocr="never").read(tmp_path / "a.csv")
    assert {"Teil", "Preis", "0815", "1,50", "1-2", "3E5"} <= set(page.text.split())


def test_text_without_libreoffice_is_cut_and_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "MAX_BYTES", 1 << 10)
    monkeypatch.setattr("visrag_integrations.readers.office.shutil.which", lambda _: None)
    (tmp_path / "a.txt").write_text("line\n" * 1000)
    with PageReader(ocr="never").open(tmp_path / "a.txt") as document:
        assert "were left out" in document.warnings[0] or "was left out" in document.warnings[0]
        assert "line" in document.page(1).text
