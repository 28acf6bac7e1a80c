"""What a store says of a server: addresses, refusals in words, versions, time and trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from visrag_integrations import QdrantPageStore
from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError

# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost:6333", "http://localhost:6333"),
        ("127.0.0.1:6333", "http://127.0.0.1:6333"),
        ("qdrant:6333", "http://qdrant:6333"),
        ("[::1]:6333", "http://[::1]:6333"),
        ("vectors.example.org:443/qdrant", "http://vectors.example.org:443/qdrant"),
        ("my_qdrant-1:6333/", "http://my_qdrant-1:6333/"),
        ("//qdrant:6333", "http://qdrant:6333"),
        (" qdrant:6333", "http://qdrant:6333"),
        ("one:6333,two:6333", "http://one:6333"),
        ("localhost", "http://localhost"),
        ("10.0.0.5", "http://10.0.0.5"),
        ("abc-1.eu-central-1-0.aws.cloud.qdrant.io", "https://abc-1.eu-central-1-0.aws.cloud.qdrant.io"),
        ("abc-1.aws.cloud.qdrant.io:6333", "https://abc-1.aws.cloud.qdrant.io:6333"),
        ("http:/qdrant:6333", "http://qdrant:6333"),
        ("https:qdrant:6333", "https://qdrant:6333"),
    ],
)
def test_an_address_without_its_scheme_is_no_folder(
    address: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError) as caught:
        QdrantPageStore(address)
    assert f'"{url}" for a server' in str(caught.value)
    assert '"./' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_password_of_an_address_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="http://qdrant:6333") as caught:
        QdrantPageStore("ada:secret@qdrant:6333")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["plain", "./localhost:6333", "a/qdrant:6333", "v1.2", "notes:draft", "qdrant.index"])
def test_folders_stay_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(name) as store:
        assert store.folder == Path(name)


def test_a_folder_that_is_there_or_a_path_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with QdrantPageStore(Path("qdrant:6333")) as store:
        assert store.folder == Path("qdrant:6333")
    Path("qdrant:6333").mkdir(exist_ok=True)
    with QdrantPageStore("qdrant:6333") as store:
        assert store.folder == Path("qdrant:6333")


@pytest.mark.parametrize("command", [["index", "x.pdf"], ["search", "violin"]])
def test_the_command_line_refuses_it_too(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.4")
    assert main([*command, "--index", "localhost:6333"]) != 0
    assert '"http://localhost:6333" for a server' in capsys.readouterr().err
    assert not (tmp_path / "localhost:6333").exists()
