"""Office files with a password."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from office_files import docx, odf, write_zip

from visrag_integrations.errors import DocumentError, MissingExtraError, PasswordError
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.office_input import prepare
from visrag_integrations.readers.sources import identify

LOCKERS = Path(__file__).parent / "data" / "cases" / "encrypted-office" / "lockers.xlsx"
msoffcrypto = pytest.importorskip("msoffcrypto")


def prepared(path: Path, folder: Path, password: str | None = None) -> list[str]:
    return prepare(identify(path, max_bytes=1 << 30), folder / f"given{path.suffix}", password)


def encrypted(path: Path, password: str) -> Path:
    from msoffcrypto.format.ooxml import OOXMLFile

    with path.open("rb") as plain, path.with_name(f"locked-{path.name}").open("wb") as locked:
        OOXMLFile(plain).encrypt(password, locked)
    return path.with_name(f"locked-{path.name}")


@pytest.mark.parametrize(("password", "reason"), [(None, "Give its password"), ("", "Give its"), ("stork", "is wrong")])
def test_without_its_password(tmp_path: Path, password: str | None, reason: str) -> None:
    with pytest.raises(PasswordError, match=reason):
        prepared(LOCKERS, tmp_path, password)
    assert list(tmp_path.iterdir()) == []


def test_what_is_inside_is_cleaned_too(tmp_path: Path) -> None:
    # The package that encrypts loses what is shorter than a sector of its container.
    rows = (("r1", "image", "file:///a.png", True),)
    locked = encrypted(docx(tmp_path / "a.docx", "<w:p/>", rows, **{"word/noise.bin": os.urandom(9000)}), "heron")
    assert "links to things outside" in prepared(locked, tmp_path, "heron")[0]
    with pytest.raises(PasswordError, match="is wrong"):
        prepared(locked, tmp_path, "Heron")


OPEN_DOCUMENTS = ["harbour.odt", "harbour-openoffice.odt", "lockers.ods", "lockers.odp"]
"""Written by LibreOffice with AES, and the second as OpenOffice did, with Blowfish; the password is heron."""


@pytest.mark.parametrize("name", OPEN_DOCUMENTS)
@pytest.mark.parametrize(("password", "reason"), [(None, "Give its password"), ("", "Give its"), ("stork", "is wrong")])
def test_open_documents_without_their_password(tmp_path: Path, name: str, password: str | None, reason: str) -> None:
    with pytest.raises(PasswordError, match=reason):
        prepared(LOCKERS.parent / name, tmp_path, password)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OPEN_DOCUMENTS)
def test_open_documents_with_their_password(tmp_path: Path, name: str) -> None:
    assert prepared(LOCKERS.parent / name, tmp_path, "heron") == []
    with zipfile.ZipFile(tmp_path / f"given{Path(name).suffix}") as package:
        assert b"4418" in package.read("content.xml")
        assert b"encryption" not in package.read("META-INF/manifest.xml")
        assert package.namelist()[0] == "mimetype"


def test_the_encryption_of_newer_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(PasswordError, match="Save it without a password"):
        prepared(write_zip(tmp_path / "b.ods", {"encrypted-package": "x"}), tmp_path, "heron")


ENCRYPTED = (
    '<m:manifest xmlns:m="m"><m:file-entry m:full-path="content.xml"><m:encryption-data m:checksum="AAAA" '
    'm:checksum-type="SHA1/1K"><m:algorithm m:algorithm-name="{cipher}" '
    'm:initialisation-vector="AAAAAAAAAAAAAAAAAAAAAA=="/>'
    '<m:key-derivation m:iteration-count="{rounds}" m:salt="AAAA"/></m:encryption-data></m:file-entry></m:manifest>'
)


@pytest.mark.parametrize(
    ("cipher", "rounds", "reason"),
    [
        ("aes256-cbc", 10**9, "1000000000 rounds"),
        ("aes256-cbc", 0, "0 rounds"),
        ("ROT13", 10, "ROT13"),
        ("aes", "x", "damaged"),
    ],
)
def test_hostile_encryption_ends_in_a_named_error(tmp_path: Path, cipher: str, rounds: object, reason: str) -> None:
    manifest = ENCRYPTED.format(cipher=cipher, rounds=rounds)
    path = odf(tmp_path / "a.odt", "text", "", **{"META-INF/manifest.xml": manifest})
    with pytest.raises(DocumentError, match=reason):
        prepared(path, tmp_path, "heron")
    assert [item.name for item in tmp_path.iterdir()] == ["a.odt"]


def test_without_the_extra_the_pip_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msoffcrypto", None)
    with pytest.raises(MissingExtraError, match=r'pip install "visrag-integrations\[office\]"'):
        prepared(LOCKERS, tmp_path, "heron")


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
def test_with_its_password_its_cells_are_read() -> None:
    text = " ".join(page.text for page in PageReader(ocr="never", password="heron").read(LOCKERS))
    assert "North 7" in text
    assert "4418" in text
