"""Office files with a password."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from office_files import docx, odf, write_zip

from visrag_integrations.errors import MissingExtraError, PasswordError
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


def test_open_document_says_that_it_is_encrypted(tmp_path: Path) -> None:
    manifest = '<m:manifest xmlns:m="m"><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>'
    with pytest.raises(PasswordError, match="Save it without one"):
        prepared(odf(tmp_path / "a.odt", "text", "", **{"META-INF/manifest.xml": manifest}), tmp_path)
    with pytest.raises(PasswordError, match="Save it without one"):
        prepared(write_zip(tmp_path / "b.ods", {"encrypted-package": "x"}), tmp_path)


def test_without_the_extra_the_pip_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msoffcrypto", None)
    with pytest.raises(MissingExtraError, match=r'pip install "visrag-integrations\[office\]"'):
        prepared(LOCKERS, tmp_path, "heron")


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
def test_with_its_password_its_cells_are_read() -> None:
    text = " ".join(page.text for page in PageReader(ocr="never", password="heron").read(LOCKERS))
    assert "North 7" in text
    assert "4418" in text
