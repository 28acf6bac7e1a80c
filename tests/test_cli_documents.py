"""`visrag info`, `list` and `delete`: what an index holds, and how it goes out again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawing import draw_pdf
from sparse_copies import copy_index

from visrag_integrations import QdrantPageStore
from visrag_integrations.cli import info, main


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three documents in two folders; two files share a name."""
    folder = tmp_path_factory.mktemp("filled")
    for name, pages in {
        "old/report.pdf": ["The harbour holds forty boats.", "Anchors weigh two hundred pounds."],
        "new/report.pdf": ["The harbour holds fifty boats."],
        "new/bröd [1].pdf": ["Bake the loaf for fifty minutes."],
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        draw_pdf(folder / name, pages)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["index", "old", "new", "--preset", "cpu", "-q"]) == 0
    return folder


@pytest.fixture
def filled(filled_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy_index(filled_once, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def listed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    _, out, _ = visrag(capsys, "list", "--json")
    return [document["sources"][0] for document in json.loads(out)["documents"]]


def test_info_says_what_is_there(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "info")
    assert (code, err) == (0, "")
    assert "pages: 4 pages of 3 documents" in out
    assert "ocr (many vectors a page, 256 numbers each" in out
    code, out, _ = visrag(capsys, "info", "--json")
    told = json.loads(out)
    assert (told["pages"], told["documents"], told["others"], told["complete"]) == (4, 3, [], True)
    assert [embedder["name"] for embedder in told["embedders"]] == ["ocr"]
    assert told["bytes"] > 0


def test_holes_in_files_are_no_bytes(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        file.truncate(1 << 30)
    if not hasattr(file_stat := (tmp_path / "log").stat(), "st_blocks") or file_stat.st_blocks:
        pytest.skip("this disk keeps no holes")
    assert info.size_of(tmp_path) == 0


def test_files_in_folders_count_and_what_links_to_folders_does_not(tmp_path: Path) -> None:
    block = 4096
    for place in ("a", "index/b", "index/deep/er/c"):
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * block)
    one = info.size_of(tmp_path / "index" / "deep")
    assert one >= block
    assert info.size_of(tmp_path / "index") == 2 * one
    try:
        (tmp_path / "index" / "link").symlink_to(tmp_path / "a")
        (tmp_path / "index" / "around").symlink_to(tmp_path)
        (tmp_path / "index" / "nowhere").symlink_to(tmp_path / "gone")
    except OSError:
        pytest.skip("this user may make no links")
    assert info.size_of(tmp_path / "index") == 3 * one
    assert info.size_of(tmp_path / "never made") == 0


def test_info_of_an_empty_collection_names_the_others(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "info", "--collection", "other")
    assert code == 0
    assert "other: empty; visrag index PATH... fills it" in out
    assert "pages (--collection NAME shows one)" in out


def test_list_shows_documents_and_filters_them(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "list")
    assert code == 0
    assert out.splitlines() == [
        "new/bröd [1].pdf  (1 page)",
        "new/report.pdf  (1 page)",
        "old/report.pdf  (2 pages)",
    ]
    code, out, _ = visrag(capsys, "list", "--filter", "source=old/report.pdf")
    assert out.splitlines() == ["old/report.pdf  (2 pages)"]
    code, out, _ = visrag(capsys, "list", "--filter", "sorce=x")
    assert code == 0
    assert "There is no document here" in out
    assert "sorce" in out


def test_a_part_of_a_document_says_of_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_pdf(tmp_path / "long.pdf", ["One.", "Two.", "Three."])
    assert main(["index", "long.pdf", "--max-pages", "1", "--preset", "cpu", "-q"]) == 0
    _, out, _ = visrag(capsys, "list")
    assert out.strip() == "long.pdf  (1 of its 3 pages)"


def test_delete_by_path_by_file_name_and_by_id(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "delete", "old/report.pdf")
    assert code == 0
    assert out.splitlines() == ["removed old/report.pdf", "2 pages of 1 document removed."]
    assert visrag(capsys, "delete", "bröd [1].pdf")[0] == 0
    with QdrantPageStore(".visrag") as store:
        (left,) = store.documents()
        assert left.sources == ("new/report.pdf",)
        assert not list(store.scroll({"source": "old/report.pdf"}))
    code, out, _ = visrag(capsys, "delete", left.doc_id, "--json")
    assert json.loads(out) == {"deleted": [left.doc_id], "pages": 1}
    assert (filled / "old/report.pdf").exists()  # the files stay
    assert "no document" in visrag(capsys, "list")[1]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["report.pdf"], "file name of 2 documents: new/report.pdf, old/report.pdf"),
        (["old/reprot.pdf"], "Did you mean 'old/report.pdf'?"),
        (["new/report.pdf", "nothing.doc"], "nothing was removed"),
        (["new"], "This would remove 2 documents"),
        (["new/"], "Say --yes"),
        (["/"], "nothing was removed"),
        (["\x1b[2J"], "\\x1b[2J"),
    ],
)
def test_what_is_not_clear_removes_nothing(
    filled: Path, capsys: pytest.CaptureFixture[str], names: list[str], said: str
) -> None:
    code, out, err = visrag(capsys, "delete", *names)
    assert (code, out) == (2, "")
    assert said in err
    assert len(listed(capsys)) == 3


def test_a_folder_goes_with_all_of_its_documents(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = visrag(capsys, "delete", "new/", "--yes")
    assert code == 0
    assert "2 pages of 2 documents removed." in out
    assert listed(capsys) == ["old/report.pdf"]


class Terminal:
    """Somebody at a keyboard."""

    def __init__(self, typed: str) -> None:
        self.typed = typed

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.typed


@pytest.mark.parametrize(("typed", "left"), [("y\n", 1), ("n\n", 3), ("\n", 3), ("", 3)])
def test_a_folder_is_asked_about(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, left: int
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    code, _, err = visrag(capsys, "delete", "new")
    assert "This removes 2 documents:\n  new/bröd [1].pdf\n  new/report.pdf\n" in err
    assert code == (0 if left == 1 else 2)
    assert len(listed(capsys)) == left


def test_commands_on_an_index_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["info"], ["list"], ["delete", "a.pdf"]):
        code, out, err = visrag(capsys, *command)
        assert (code, out) == (2, "")
        assert "There is no index at '.visrag'. Make one first: visrag index PATH..." in err
    assert not (tmp_path / ".visrag").exists()
