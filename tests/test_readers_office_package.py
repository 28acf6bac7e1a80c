# ruff: noqa: E501  XML in lines of its own length
"""What LibreOffice is given in place of a document: limits, names, links; nothing here starts LibreOffice."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from office_files import LINKED, docx, inline, odf, relations, web_page, write_zip, xlsx

from visrag_integrations.errors import DocumentError, DocumentLimitError
from visrag_integrations.readers import office_package, office_sandbox
from visrag_integrations.readers.office_html import clean_page
from visrag_integrations.readers.office_input import prepare
from visrag_integrations.readers.office_links import clean_xml
from visrag_integrations.readers.office_profile import write_profile
from visrag_integrations.readers.sources import identify

SECRET = "file:///srv/secret.png"


def prepared(path: Path) -> tuple[Path, list[str]]:
    given = path.parent / f"given{path.suffix}"
    return given, prepare(identify(path, max_bytes=1 << 30), given)


def everything_in(path: Path) -> bytes:
    """All bytes of a file, and of all that is packed in it."""
    data = path.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    with zipfile.ZipFile(path) as package:
        return b"\n".join(package.read(name) for name in package.namelist())


@pytest.mark.parametrize("kind", [kind for kind in LINKED if "rtf" not in kind])
def test_no_link_is_left(tmp_path: Path, kind: str) -> None:
    name, draw = LINKED[kind]
    given, said = prepared(draw(tmp_path / name, SECRET))
    assert b"secret.png" not in everything_in(given)
    assert b"before the link" in everything_in(given)
    if "web page" not in kind:
        assert said  # the user is told that something is missing


def test_ordinary_hyperlinks_stay(tmp_path: Path) -> None:
    body = '<w:p><w:hyperlink r:id="r1"><w:r><w:t>our site</w:t></w:r></w:hyperlink></w:p>'
    path = docx(tmp_path / "a.docx", body, (("r1", "hyperlink", "https://example.org/", True),))
    given, said = prepared(path)
    assert b'Target="https://example.org/"' in everything_in(given)
    assert said == []
    text = '<text:p>before <text:a xlink:href="https://example.org/" xlink:type="simple">our site</text:a></text:p>'
    given, said = prepared(odf(tmp_path / "a.odt", "text", text))
    assert b'xlink:href="https://example.org/"' in everything_in(given)
    assert said == []
    cells = '<row r="2"><c r="A2" t="str"><f>HYPERLINK("https://example.org/","our site")</f></c></row></sheetData>'
    given, said = prepared(xlsx(tmp_path / "a.xlsx", cells))
    assert b"https://example.org/" in everything_in(given)
    assert said == []


def test_what_is_inside_stays(tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n\x1a\n rest"
    rows = (("r1", "image", "media/a.png", False),)
    given, said = prepared(docx(tmp_path / "a.docx", inline('r:embed="r1"'), rows, **{"word/media/a.png": picture}))
    assert said == []
    with zipfile.ZipFile(given) as package:
        assert package.read("word/media/a.png") == picture
        assert b'Target="media/a.png"' in package.read("word/_rels/document.xml.rels")
    body = '<text:p>x<draw:image xlink:href="Pictures/a.png"/><draw:object xlink:href="./Object 1"/></text:p>'
    inner = {"Pictures/a.png": picture, "Object 1/content.xml": "<office:document-content xmlns:office='o'/>"}
    given, said = prepared(odf(tmp_path / "a.odt", "text", body, **inner))
    assert said == []
    assert b'"./Object 1"' in everything_in(given)
    assert zipfile.ZipFile(given).namelist()[0] == "mimetype"


def test_a_formula_from_outside_keeps_its_value(tmp_path: Path) -> None:
    cells = (
        '<row r="2"><c r="A2"><f t="shared" si="0" ref="A2:A3">[1]S!A1*2</f><v>14</v></c></row>'
        '<row r="3"><c r="A3"><f t="shared" si="0"/><v>16</v></c><c r="B3"><f>SUM(A2:A3)</f><v>30</v></c></row></sheetData>'
    )
    given, _ = prepared(xlsx(tmp_path / "a.xlsx", cells))
    sheet = zipfile.ZipFile(given).read("xl/worksheets/sheet1.xml").decode()
    assert "[1]S" not in sheet
    assert [f"<v>{value}</v>" in sheet for value in (14, 16, 30)] == [True, True, True]
    assert "<f>SUM(A2:A3)</f>" in sheet


def test_prefixes_entities_and_spaces_stay() -> None:
    given = (
        b'<?xml version="1.0"?><w:d xmlns:w="u" xmlns:mc="m" mc:Ignorable="w14" xmlns:w14="x"><w:t xml:space="preserve"> a '
        b'&amp; b&#233; </w:t><w14:t w14:v="&quot;1&quot;"/></w:d>'
    )
    made = io.BytesIO()
    assert clean_xml(io.BytesIO(given), made) == 0
    text = made.getvalue().decode()
    assert 'mc:Ignorable="w14"' in text
    assert '<w:t xml:space="preserve"> a &amp; bé </w:t>' in text
    assert "w14:v='\"1\"'" in text


@pytest.mark.parametrize(
    "name", ["../../evil.xml", "/etc/evil.xml", "a//evil.xml", "..\\evil.xml", "C:evil.xml", "./evil.xml"]
)
def test_hostile_names_go_no_further(tmp_path: Path, name: str) -> None:
    path = docx(tmp_path / "a.docx", "<w:p/>", **{name: "<evil/>"})
    given, said = prepared(path)
    assert b"evil" not in everything_in(given)
    assert "evil.xml" in said[0]


def test_an_entry_that_is_there_twice_is_there_once(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", "<w:p/>")
    with zipfile.ZipFile(path, "a") as package, pytest.warns(UserWarning, match="Duplicate"):
        package.writestr("word/document.xml", "<second/>")
    given, _ = prepared(path)
    assert zipfile.ZipFile(given).namelist().count("word/document.xml") == 1


def test_bombs_are_refused_by_what_they_declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_package, "_MAX_ENTRIES", 5)
    with pytest.raises(DocumentLimitError, match="7 parts"):
        prepared(docx(tmp_path / "b.docx", "", **{f"{n}.xml": "<a/>" for n in range(3)}))
    monkeypatch.undo()
    path = docx(tmp_path / "a.docx", "<w:p/>", **{f"{n}.bin": bytes(300 << 20) for n in range(4)})
    with pytest.raises(DocumentLimitError, match="unpacks to more than 1024 MiB"):
        prepared(path)
    assert path.stat().st_size < 2 << 20


@pytest.mark.slow
def test_bombs_are_refused_by_what_they_unpack_to(tmp_path: Path) -> None:
    """Eight packages in a package declare a few MiB each; a bomb in them is counted where it goes off."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("a.bin", bytes(200 << 20))
    embedded = {f"word/embeddings/{n}.xlsx": inner.getvalue() for n in range(8)}
    with pytest.raises(DocumentLimitError, match="unpacks to more than"):
        prepared(docx(tmp_path / "a.docx", "<w:p/>", **embedded))


def test_a_declared_size_that_lies_is_damage(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.docx", {"word/document.xml": "<a>" + " " * 5000 + "</a>"})
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # the size after unpacking, in the list at the end
    data[place : place + 4] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DocumentError, match="damaged"):
        prepared(path)


def test_packages_in_packages_are_cleaned(tmp_path: Path) -> None:
    inner = LINKED["xlsx picture"][1](tmp_path / "inner.xlsx", SECRET).read_bytes()
    given, said = prepared(docx(tmp_path / "a.docx", "<w:p/>", **{"word/embeddings/a.xlsx": inner}))
    with zipfile.ZipFile(given) as package, zipfile.ZipFile(io.BytesIO(package.read("word/embeddings/a.xlsx"))) as deep:
        assert all(b"secret" not in deep.read(name) for name in deep.namelist())
    assert "links to things outside" in said[0]


def test_billions_of_laughs(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY l0 "lol">{levels}]><d>&l11;</d>'
    given, said = prepared(docx(tmp_path / "a.docx", "<w:p/>", **{"word/bomb.xml": bomb}))
    assert "bomb.xml" in said[0]
    assert given.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.docx", b"{\\rtf1 hello}"),
        ("a.odt", b"plain text"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0 old"),
        ("a.pptx", b"MIME-Version: 1.0"),
    ],
)
def test_what_its_name_does_not_say_is_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match="whatever its name says"):
        prepared(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_web_page_keeps_its_text_and_tables(tmp_path: Path, encoding: str) -> None:
    path = web_page(tmp_path / "a.xls", SECRET)
    path.write_bytes(
        path.read_text().replace("before", "Größe <table><tr><td colspan=2>7</table> before").encode(encoding)
    )
    given, _ = prepared(path)
    text = given.read_text(encoding="utf-8")
    assert "secret" not in text
    assert 'Größe <table><tr><td colspan="2">7</table> before the link' in text


def test_a_web_page_that_starts_oddly(tmp_path: Path) -> None:
    for start in (
        "<!-- saved from somewhere -->\n",
        "<meta charset=utf-8>",
        "<IMG SRC='x'>",
        '<?xml version="1.0"?>\n<!DOCTYPE html>',
    ):
        (tmp_path / "a.doc").write_text(f"{start}<html><body>text<img src='{SECRET}'></body></html>")
        given, _ = prepared(tmp_path / "a.doc")
        assert b"secret" not in given.read_bytes(), start
        assert b"text" in given.read_bytes(), start


def test_scripts_and_styles_of_web_pages_go() -> None:
    page = clean_page(
        b"<head><style>a{}</style><body>One<script>two</script><p style='background:url(x)'>three<svg><image href=x></svg>"
    )
    assert page.partition(b"<body>")[2] == b"One<p>three</body></html>"


def test_the_environment_holds_no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-123")
    monkeypatch.setenv("QDRANT_API_KEY", "q-123")
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy")
    values = office_sandbox.environment(tmp_path)
    assert not [value for value in values.values() if "123" in value or "secret" in value]
    assert values["HOME"] == str(tmp_path) != os.environ["HOME"]


def test_the_profile_forbids_links_and_macros(tmp_path: Path) -> None:
    write_profile(tmp_path / "profile")
    text = (tmp_path / "profile" / "user" / "registrymodifications.xcu").read_text()
    for name, value in (
        ("BlockUntrustedRefererLinks", "true"),
        ("DisableMacrosExecution", "true"),
        ("MacroSecurityLevel", "3"),
    ):
        assert f'oor:name="{name}" oor:op="fuse"><value>{value}</value>' in text


def test_unowned_relations_lose_their_hyperlinks(tmp_path: Path) -> None:
    stray = relations(("r1", "hyperlink", SECRET, True))
    given, _ = prepared(docx(tmp_path / "a.docx", "<w:p/>", **{"word/_rels/nobody.xml.rels": stray}))
    assert b"secret" not in everything_in(given)
