"""Where tests have their folders, and that the name of a test does not reach what it starts."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from scripts_by_path import load_script

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def conftest() -> ModuleType:
    return load_script(ROOT / "conftest.py")


@pytest.fixture(scope="module")
def named_in_a_module_fixture() -> bool:
    return "PYTEST_CURRENT_TEST" in os.environ


@pytest.fixture
def named_in_a_fixture() -> bool:
    return "PYTEST_CURRENT_TEST" in os.environ


def test_the_environment_is_that_of_the_test_before(named_in_a_module_fixture: bool, named_in_a_fixture: bool) -> None:
    assert not named_in_a_module_fixture
    assert not named_in_a_fixture
    assert "PYTEST_CURRENT_TEST" not in os.environ


async def test_so_it_is_in_async_tests() -> None:
    assert "PYTEST_CURRENT_TEST" not in os.environ


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A file system of 100 GiB; tests change it."""
    found = SimpleNamespace(f_flag=0, f_bavail=100 << 18, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda place: found)
    return found


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says there how much memory is free")
def test_folders_are_in_memory_only_where_there_is_free_memory(
    conftest: ModuleType, memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conftest, "_ROOM", 1 << 20)
    assert conftest._has_room(tmp_path)
    monkeypatch.setattr(conftest, "_ROOM", 1 << 50)  # more than any machine has in memory
    assert not conftest._has_room(tmp_path)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says there how much memory is free")
def test_nor_where_the_place_is_small(conftest: ModuleType, memory: SimpleNamespace, tmp_path: Path) -> None:
    memory.f_bavail = 16384  # Docker's 64 MiB
    assert not conftest._has_room(tmp_path)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux says there how much memory is free")
def test_nor_where_programs_cannot_be_run(
    conftest: ModuleType, memory: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conftest, "_ROOM", 1 << 20)
    memory.f_flag = os.ST_NOEXEC
    assert not conftest._has_room(tmp_path)


def test_nor_where_there_is_no_such_place(conftest: ModuleType, tmp_path: Path) -> None:
    assert not conftest._has_room(tmp_path / "nowhere")
