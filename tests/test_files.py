"""Files that are whole or not there, and temporary folders that outlive nobody for long."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from visrag_integrations.files import ScratchFolder, whole_file, write_whole

needs_posix = pytest.mark.skipif(os.name == "nt", reason="permissions, pipes and locks of POSIX")


# --- whole files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_written_and_nothing_is_left_beside_it(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "report.html"
    write_whole(path, b"one", durable=durable)
    write_whole(path, b"two", durable=durable)
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")

    def write_half() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(b"half of the n")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["report.html"]


@needs_posix
def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from visrag_integrations.files import whole_file\n"
        "with whole_file(sys.argv[1]) as unfinished:\n"
        "    unfinished.write_bytes(b'half of a very long text'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "report.html"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == [".report.html.unfinished", "report.html"]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["report.html"]


@needs_posix
def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path: Path) -> None:
    path, other = tmp_path / "private", tmp_path / "new"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    other.write_bytes(b"")
    usual = stat.S_IMODE(other.stat().st_mode)
    other.unlink()
    write_whole(other, b"new")
    assert stat.S_IMODE(other.stat().st_mode) == usual


@needs_posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_must_not_be_written_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


@needs_posix
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@needs_posix
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    heard: list[bytes] = []
    listener = threading.Thread(target=lambda: heard.append(path.read_bytes()))
    listener.start()
    write_whole(path, b"through")
    listener.join()
    assert heard == [b"through"]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 120 + ".html")
    write_whole(path, b"text")
    assert path.read_bytes() == b"text"
    assert os.listdir(tmp_path) == [path.name]


@needs_posix
def test_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    texts = [bytes([65 + number]) * 200_000 for number in range(8)]

    def write(text: bytes) -> None:
        for _ in range(5):
            write_whole(path, text, durable=False)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            assert path.read_bytes() in texts
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert os.listdir(tmp_path) == ["shared"]


# --- scratch folders ------------------------------------------------------------------------------------------------

HOLDER = (
    "import sys; from visrag_integrations.files import ScratchFolder\n"
    "held = ScratchFolder('test'); (held.path / 'sub').mkdir(); (held.path / 'sub' / 'a').write_bytes(b'x' * 1000)\n"
    "print(held.path, flush=True); sys.stdin.read()"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def hold() -> tuple[subprocess.Popen[str], Path]:
    """Another process that has a scratch folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], *, kill: bool) -> None:
    if kill:
        process.kill()
    process.communicate()


def test_a_scratch_folder_goes_when_it_is_closed(temporary: Path) -> None:
    with ScratchFolder("test") as folder:
        assert folder.parent == temporary
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"x")
    assert list(temporary.iterdir()) == []


def test_a_scratch_folder_that_nobody_closes_goes_too(temporary: Path) -> None:
    folder = ScratchFolder("test")
    (folder.path / "a").write_bytes(b"x")
    del folder
    assert list(temporary.iterdir()) == []


@needs_posix
def test_what_a_killed_process_left_goes_with_the_next_folder(temporary: Path) -> None:
    process, left = hold()
    end(process, kill=True)
    assert (left / "sub" / "a").exists()
    with ScratchFolder("other") as folder:
        assert list(temporary.iterdir()) == [folder]
    assert list(temporary.iterdir()) == []


@needs_posix
def test_a_folder_of_a_living_process_stays(temporary: Path) -> None:
    process, held = hold()
    try:
        with ScratchFolder("other"):
            assert (held / "sub" / "a").exists()
    finally:
        end(process, kill=False)
    assert list(temporary.iterdir()) == []


@needs_posix
def test_other_peoples_files_stay(temporary: Path) -> None:
    """Names like ours that nobody of ours made: a user's folder, a file, a link, a lock that leads elsewhere."""
    (temporary / "visrag-my-index").mkdir()
    (temporary / "visrag-my-index" / "page").write_bytes(b"x")
    (temporary / "visrag-notes.txt").write_bytes(b"x")
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".visrag-owner").write_bytes(b"")
    (elsewhere / "kept").write_bytes(b"x")
    (temporary / "visrag-link").symlink_to(elsewhere)
    (temporary / "visrag-trap").mkdir()
    (temporary / "visrag-trap" / ".visrag-owner").symlink_to(elsewhere / "kept")
    before = sorted(str(path) for path in temporary.rglob("*"))
    with ScratchFolder("other"):
        pass
    assert sorted(str(path) for path in temporary.rglob("*")) == before


@needs_posix
def test_many_killed_at_once_and_many_that_clean_up(temporary: Path) -> None:
    held = [hold() for _ in range(3)]
    for process, _ in held[:2]:
        end(process, kill=True)
    problems: list[BaseException] = []

    def make() -> None:
        try:
            for _ in range(20):
                with ScratchFolder("many") as folder:
                    (folder / "mine").write_bytes(b"x")
                    assert (folder / "mine").exists()
        except BaseException as err:  # noqa: BLE001  shown below
            problems.append(err)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list(temporary.iterdir()) == [held[2][1]]
    end(held[2][0], kill=False)
    assert list(temporary.iterdir()) == []
