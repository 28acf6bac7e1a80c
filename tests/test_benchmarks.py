"""The benchmarks' common table, and whether the scripts that run all of them do so."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

import table  # noqa: E402
from sections import Report, Section, run_all  # noqa: E402

SLOW = table.Row("search", 3.0, "ms", 2.0)
BARE = table.Row("answers", 260.0, "/s")


@pytest.mark.parametrize(
    ("row", "aim", "expected"),
    [
        (SLOW, "ratio <= 1.5", True),
        (SLOW, "ratio <= 1.49", False),
        (SLOW, "ratio >= 1.5", True),
        (SLOW, "difference <= 0.9", False),
        (SLOW, "difference <= 1.0", True),
        (SLOW, "ours <= 3", True),
        (BARE, "ours >= 250", True),
        (BARE, "ours >= 261", False),
        (table.Row("wrong answers", 0), "ours <= 0", True),
    ],
)
def test_aims(row: table.Row, aim: str, expected: bool) -> None:
    assert table.met(row, aim) is expected


@pytest.mark.parametrize(
    ("row", "aim", "said"),
    [
        (BARE, "ratio <= 2", "answers has no raw path beside it"),
        (BARE, "difference <= 2", "answers has no raw path beside it"),
        (table.Row("x", 1.0, "", 0.0), "ratio <= 2", "x has no raw path"),
        (BARE, "fast", "'fast' is no aim"),
        (BARE, "ours < 2", "'ours < 2' is no aim"),
    ],
)
def test_aims_that_cannot_be_looked_at(row: table.Row, aim: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        table.met(row, aim)


def test_a_table_says_which_aims_are_met() -> None:
    rows = [SLOW, BARE, table.Row("cosine", 0.99994)]
    assert table.markdown(rows, {"search": "ratio <= 1.2", "answers": "ours >= 250"}).splitlines()[2:] == [
        "| search | 3 ms | 2 ms | 1.50 x | ratio <= 1.2 | NO |",
        "| answers | 260 /s |  |  | ours >= 250 | yes |",
        "| cosine | 0.9999 |  |  |  |  |",
    ]


def test_rows_go_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(table.ROWS, raising=False)
    table.keep("nobody asked", 1.0)
    monkeypatch.setenv(table.ROWS, str(tmp_path / "rows"))
    assert table.read(tmp_path / "rows") == []
    table.keep("search", 3.0, "ms", 2.0)
    table.keep("answers", 260.0, "/s")
    assert table.read(tmp_path / "rows") == [SLOW, BARE]


def test_what_one_benchmark_breaks_stays_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep = f"import sys, time; sys.path.append({str(BENCHMARKS)!r}); import table; table.keep(sys.argv[1], 1.5, 's')\n"
    scripts = {
        "works": keep,
        "fails": keep + "raise SystemExit('the card is gone')",
        "hangs": keep + "print('begun', flush=True); time.sleep(600)",
        "silent": "",
    }
    sections = []
    for name, code in scripts.items():
        (tmp_path / f"{name}.py").write_text(code)
        sections.append(Section(name, (str(tmp_path / f"{name}.py"), name), (), 60.0, aims={name: "ours <= 2"}))
    sections.append(Section("away", ("none.py",), (), 60.0, needs="json a_package_that_is_not_there"))
    limit = 20.0  # the hanging one takes all of it
    assert run_all(sections, quick=False, seconds=limit) == 1
    said = capsys.readouterr().out
    assert "- fails: **failed: the card is gone**" in said
    assert "- hangs: **not finished within 20 s; the last it said: begun**" in said
    assert "- silent: **it kept no figures**" in said
    assert "- away: not run, a_package_that_is_not_there is not installed here" in said
    for name in ("works", "fails", "hangs"):  # what was measured before it broke is not lost
        assert f"| {name} | 1.5000 s |  |  | ours <= 2 | yes |" in said


def test_a_report_is_whole_while_sections_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured is in the file before the section ends: each one looks into it, and ends only when it is."""
    out = tmp_path / "gpu.md"
    code = (
        f"import sys, time; from pathlib import Path; sys.path.append({str(BENCHMARKS)!r}); import table\n"
        f"out, wanted = Path({str(out)!r}), sys.argv[1]\n"
        "table.keep(wanted, 1.5, 's')\n"
        "while not (out.exists() and f'| {wanted} |' in out.read_text()): time.sleep(0.01)\n"
    )
    (tmp_path / "waits.py").write_text(code)
    sections = [Section(name, (str(tmp_path / "waits.py"), name), (), 60.0) for name in ("first", "second")]
    report = Report("### a card\n", out)
    assert run_all(sections, quick=False, report=report) == 0
    written = out.read_text()
    assert written.startswith("### a card\n\n- first: ")
    assert written.index("| first | 1.5000 s |") < written.index("| second | 1.5000 s |")
    said = capsys.readouterr().out
    assert said.index("| first | 1.5000 s |") < said.index("- first: ")  # as it comes
    assert said.count("| first |") == 1


def test_all_sections_together_end_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hangs.py").write_text("import time; time.sleep(600)")
    hangs = Section("hangs", (str(tmp_path / "hangs.py"),), (), 60.0)
    later = Section("later", (str(tmp_path / "hangs.py"),), (), 60.0)
    assert run_all([hangs, later], quick=False, total=12.0) == 1
    said = capsys.readouterr().out
    assert "- hangs: **not finished within 12 s; the last it said: nothing**" in said
    assert "- later: **not run, 12 s for all are over**" in said


def test_a_row_that_is_half_written_is_none_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows"
    monkeypatch.setenv(table.ROWS, str(rows))
    table.keep("search", 3.0, "ms", 2.0)
    whole = rows.read_text()
    for length in range(len(whole)):
        rows.write_text(whole[:length])
        assert table.read(rows) == []
    rows.write_text(whole)
    assert table.read(rows) == [SLOW]


def test_golden_numbers_that_are_off_are_found() -> None:
    pytest.importorskip("torch")
    import gpu_golden
    import numpy as np

    right = [np.array([[0.6, 0.8], [1.0, 0.0]])]
    for off, same, alike in ((0.0, True, True), (5e-5, True, True), (1e-3, False, True), (0.5, False, False)):
        checks = gpu_golden.Checks("cpu")
        checks.same("numbers", [right[0] + off], right)
        assert (not checks.failed) is same
        checks = gpu_golden.Checks("cpu")
        checks.alike("vectors", [right[0] + [0.0, off]], right)
        assert (not checks.failed) is alike
    for wrong in ([], [right[0][:1]], [right[0] * np.nan]):  # too few, another shape, no numbers
        checks = gpu_golden.Checks("cpu")
        checks.same("numbers", wrong, right)
        checks.alike("vectors", wrong, right)
        assert len(checks.failed) == 2


def test_what_is_no_number_on_either_side_passes_no_gpu_check() -> None:
    pytest.importorskip("torch")
    import gpu_golden
    import gpu_late
    import numpy as np

    right = np.array([[0.6, 0.8], [1.0, 0.0]])
    broken = right * [[1.0, 1.0], [np.nan, 1.0]]
    for found, expected in ((broken, right), (right, broken), (right, right + np.inf)):
        checks = gpu_golden.Checks("cpu")
        checks.same("numbers", [found], [expected])
        checks.alike("vectors", [right, found], [right, expected])
        assert len(checks.failed) == 2
        assert gpu_late.least_cosine([right, found], [right, expected]) < gpu_late.LEAST


def test_a_batch_of_no_numbers_is_not_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Vectors of a batch that was halved, of which one is NaN."""
    pytest.importorskip("torch")
    import gpu
    import numpy as np

    from visrag_integrations.embedders import minicpm_runner

    embed = minicpm_runner.Runner.embed

    def embed_all(self: Any, items: Any) -> Any:
        vectors = embed(self, items)
        if self.batch_size < len(items):
            vectors[1] = np.full_like(vectors[1], np.nan)
        return vectors

    monkeypatch.setattr(minicpm_runner.Runner, "embed", embed_all)
    assert gpu.halve("tiny") == 1
    assert "The vectors are others" in capsys.readouterr().out


def test_a_machine_without_nvidia_smi_has_an_unknown_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gpu

    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.driver() == "unknown"


@pytest.mark.slow
def test_a_weight_that_differs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that computes something else: the check must fail, and say which."""
    import gpu_golden

    from visrag_integrations.models import visrag_ret

    pool = visrag_ret.VisRAGRetModel.pool

    def without_the_mask(self: Any, hidden: Any, lengths: Any) -> Any:
        return pool(self, hidden, lengths.max().expand(len(lengths)))

    monkeypatch.setattr(visrag_ret.VisRAGRetModel, "pool", without_the_mask)
    checks = gpu_golden.Checks("cpu")
    gpu_golden.check_visrag_ret(checks)
    assert any(failed.startswith("VisRAG-Ret sdpa, queries, float32") for failed in checks.failed)
    assert not any("page by page" in failed for failed in checks.failed)  # nothing is padded there


def test_a_figure_that_an_aim_waits_for_must_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = f"import sys; sys.path.append({str(BENCHMARKS)!r}); import table; table.keep('other', 1)"
    (tmp_path / "renamed.py").write_text(code)
    section = Section("renamed", (str(tmp_path / "renamed.py"),), (), 60.0, aims={"search": "ours <= 2"})
    assert run_all([section], quick=False) == 1
    assert "- renamed: **no figures of search**" in capsys.readouterr().out


def test_all_limits_together_keep_the_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    import all as every
    import gpu

    assert sum(section.seconds for section in every.BENCH) < 600
    for installed in (None, "vllm"):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=installed: found)
        assert sum(section.seconds for section in gpu.sections_of(None)) < 480


def printed(*command: str) -> str:
    ran = subprocess.run(
        [sys.executable, str(BENCHMARKS / command[0]), *command[1:]], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("which", [[], ["--scale"]], ids=["bench", "bench-scale"])
def test_all_benchmarks_run_and_give_one_table(which: list[str]) -> None:
    import all as every

    said = printed("all.py", "--quick", *which)
    assert "**" not in said
    for section in every.SCALE if which else every.BENCH:
        assert f"- {section.name}: " in said
        for name, aim in section.aims.items():
            assert re.search(rf"^\| {re.escape(name)} \| .* \| {re.escape(aim)} \| (yes|NO) \|$", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_are_measured_on_the_tests_own_server() -> None:
    said = printed("workers.py", "--quick")
    for count in (1, 2):
        found = re.search(rf"^{count} workers: (\d+) answers/s, .*, (\d+) wrong; ", said, re.MULTILINE)
        assert found is not None, said
        assert int(found[1]) > 0
        assert found[2] == "0"


@pytest.mark.slow
def test_a_command_that_fails_is_not_timed(tmp_path: Path) -> None:
    import cold_start

    with pytest.raises(SystemExit, match=r"visrag search torque --index \.visrag ended with 2: .*no index"):
        cold_start.visrag(tmp_path, "search", "torque", "--index", ".visrag")


def test_commands_are_timed_as_a_user_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import cold_start

    monkeypatch.setenv("VISRAG_INDEX", "http://elsewhere:6333")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = cold_start.environment()
    assert found["HF_HUB_OFFLINE"] == "1"
    assert "VISRAG_INDEX" not in found
    assert "PYTHONDONTWRITEBYTECODE" not in found


@pytest.mark.slow
def test_rendering_runs_too() -> None:
    """Not listed in `all.py`."""
    said = printed("rendering.py", str(BENCHMARKS.parent / "samples"), "--pages", "1", "--rounds", "1")
    assert re.search(r"^PageReader, JPEG +[0-9.]+ pages/s", said, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gpu_script_runs_without_one_and_says_so() -> None:
    said = printed("gpu.py", "--quick") + printed("gpu.py", "--quick", "--only", "reader-3b")
    assert "**" not in said
    assert "torch" in said
    names = [
        "golden: VisRAG-Ret, float32",
        "golden: VisRAG-Ret, bfloat16",
        "VisRAG-Ret: pages",
        "tiny Qwen2.5-VL, transformers: ask_many",
        "training: GradCache, checkpointing, pages",
        "ColQwen2 (Qwen2-VL-2B size): pages",
        "ColModernVBERT: queries",
        "halving: least cosine",
    ]
    if importlib.util.find_spec("trl") is not None:
        names += ["training, tiny reader, RS-GRPO: a step", "training, tiny agent, rl: a step"]
    if importlib.util.find_spec("sentence_transformers") is not None:
        names += ["text reranker (XLM-R large size): pairs", "page reranker (Qwen3-VL-2B size): pairs"]
    for name in names:
        assert f"| {name}" in said
    assert "| golden: comparisons that are beyond their limits | 0 |" in said
    cosine = re.search(r"\| halving: least cosine to usual batches \| ([0-9.]+) ", said)
    assert cosine is not None
    assert float(cosine[1]) > 0.999
