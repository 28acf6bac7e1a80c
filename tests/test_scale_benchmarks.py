"""The benchmarks of many pages run, on few."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))


def _run(name: str, folder: Path, *more: str) -> str:
    command = [sys.executable, str(BENCHMARKS / name), "--quick", "--folder", str(folder), *more]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not list(folder.iterdir()), "what it made is removed"
    return ended.stdout


@pytest.mark.slow
def test_a_second_run_and_the_list_of_documents(tmp_path: Path) -> None:
    said = _run("store_rerun.py", tmp_path)
    assert "500 pages;" in said
    for case in ("run, prune", "run, prune 5 gone", "first document", "all documents"):
        assert re.search(rf"^ +{case} +ours +\d+ ms, processor +\d+ ms", said, re.MULTILINE), said


@pytest.mark.slow
def test_late_interaction_finds_what_it_should(tmp_path: Path) -> None:
    said = _run("store_multi_scale.py", tmp_path)
    found = re.search(r"recall@10 (\d\.\d+) against the exact search in float32, the asked page first (\d\.\d+)", said)
    assert found, said
    assert min(map(float, found.groups())) > 0.8


@pytest.mark.slow
def test_pages_that_are_copies_are_told_apart_by_what_is_their_own(tmp_path: Path) -> None:
    said = _run("store_multi_scale.py", tmp_path, "--alike", "100")
    found = re.search(r"recall@10 (\d\.\d+) against the exact search in float32, the asked page first (\d\.\d+)", said)
    assert "100 alike" in said
    assert found, said
    assert float(found[1]) > 0.3  # of a hundred copies, ten by chance would be 0.1


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--optimize",)], ids=["as filled", "with graphs"])
def test_single_vectors_are_found_again(tmp_path: Path, more: tuple[str, ...]) -> None:
    said = _run("store_scale.py", tmp_path, *more)
    assert said.count("recall@5 against the cosine of the originals, queries near a document: 1.000") == 1 + len(more)
    assert re.search(r"^600 pages, float32: \d+ pages/s, \d+\.\d\d ms of processor a page; ", said, re.MULTILINE), said
    for mode in ("dense", "lexical", "hybrid", "all numbers"):
        assert re.search(rf"^    {mode} +p50 +[\d.]+ ms, p95 +[\d.]+ ms, processor p50", said, re.MULTILINE), said


@pytest.mark.slow
def test_what_is_there_when_the_time_is_up_is_searched(tmp_path: Path) -> None:
    said = _run("store_scale.py", tmp_path, "--minutes", "0")
    assert "stopped at 512 of 600 pages: the time is up" in said
    assert "queries near a document: 1.000" in said


def test_adding_stops_when_somebody_asks_and_when_the_disk_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from room import Room
    from store_scale import Stopped

    room = Room(None, keep_free=5)
    free = {"now": 6e9}
    monkeypatch.setattr("room.shutil.disk_usage", lambda folder: SimpleNamespace(free=free["now"]))
    before = signal.getsignal(signal.SIGINT)
    with Stopped(minutes=1000, room=room) as stopped:
        assert stopped.reason() == ""
        free["now"] = 4e9
        assert stopped.reason() == "the disk has too little room"
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped.reason() == "it was stopped"
    assert signal.getsignal(signal.SIGINT) is before, "the searches end at once"


@pytest.mark.parametrize("script", ["store_scale.py", "store_rerun.py", "store_multi_scale.py"])
def test_a_disk_that_is_too_small_is_told_before_anything_is_written(script: str, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / script), "--pages", str(10**12), "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"{10**12} pages take up to [\d.]+ GB in {re.escape(str(tmp_path))}, where [\d.]+ GB are free and 5 GB are to "
        r"stay free\. Make room, or take another disk .* or fewer pages\.\n",
        ended.stderr,
    )
    assert not list(tmp_path.iterdir())


def test_all_of_them_are_refused_where_the_largest_has_too_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    import all as every

    monkeypatch.setattr("room.shutil.disk_usage", lambda folder: SimpleNamespace(free=17.9e9))
    monkeypatch.setattr(every, "run_all", lambda sections, quick: 0)
    monkeypatch.setattr(sys, "argv", ["all.py", "--scale"])
    with pytest.raises(
        SystemExit, match=r"^The benchmark 'store' and its files take up to 13\.0 GB .* 17\.9 GB are free"
    ):
        every.main()
    monkeypatch.setattr(sys, "argv", ["all.py", "--scale", "--only", "second run"])
    assert every.main() == 0, "that one takes less"
    monkeypatch.setattr("room.shutil.disk_usage", lambda folder: SimpleNamespace(free=18.1e9))
    monkeypatch.setattr(sys, "argv", ["all.py", "--scale"])
    assert every.main() == 0
