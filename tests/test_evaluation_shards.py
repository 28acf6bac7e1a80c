"""A run in several processes: every number of the merged records is that of one, and nothing is merged wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_qdrant import serving
from fakes import ScriptedGenerator

from visrag_integrations.cli import main
from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import (
    EvaluationSet,
    Question,
    evaluate_answers,
    evaluate_retrieval,
    merge_records,
)
from visrag_integrations.rag import VisRAG
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page, ScoredPage

COUNT = 23
PAGES = tuple(Page(f"p{n}", 1, f"page {n}", metadata={"corpus_id": f"p{n}"}) for n in range(COUNT))
QUESTIONS = tuple(
    Question(f"q{n}", f"question {n}", answers=(f"answer {n % 3}",), group="odd" if n % 2 else "even")
    for n in range(COUNT)
)
SET = EvaluationSet("drawn", QUESTIONS, {f"q{n}": {f"p{n * n % COUNT}": 1} for n in range(COUNT)}, PAGES)
METRICS = ["mrr@10", "recall@3", "ndcg@10"]


class Ranked:
    """Finds pages in an order that the question's number decides; may fail on one."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail

    def retrieve(self, query: str, top_k: int = 5) -> Sequence[ScoredPage]:
        if query == self.fail:
            raise RuntimeError("out of luck")
        number = int(query.split()[1])
        return [ScoredPage(PAGES[(number * 7 + place) % COUNT], 1 / (place + 1)) for place in range(top_k)]


def run_shards(folder: Path, count: int, retriever: Any = None) -> list[Path]:
    records = []
    for number in range(1, count + 1):
        records.append(folder / f"{number}.jsonl")
        evaluate_retrieval(SET.shard(number, count), retriever or Ranked(), METRICS, record=records[-1], progress=False)
    return records


@pytest.mark.parametrize("count", [1, 2, 3, 23])
def test_every_number_of_retrieval_is_that_of_one_process(count: int, tmp_path: Path) -> None:
    whole = evaluate_retrieval(SET, Ranked(), METRICS, record=tmp_path / "whole.jsonl", progress=False)
    records = run_shards(tmp_path, count)
    merged = merge_records(SET, reversed(records), METRICS, record=tmp_path / "merged.jsonl")
    assert merged.per_query == whole.per_query
    assert list(merged.per_query) == list(whole.per_query)
    assert (merged.metrics, merged.intervals, merged.groups) == (whole.metrics, whole.intervals, whole.groups)
    assert (merged.run, merged.settings, merged.notes) == (whole.run, whole.settings, whole.notes)
    assert str(merged) == str(whole)
    # The record that was written is that of one process: with it nothing is asked again.
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_every_number_of_answers_is_that_of_one_process(tmp_path: Path) -> None:
    def rag() -> VisRAG:
        return VisRAG(Ranked(), ScriptedGenerator(*["the answer 1"] * COUNT), top_k=2)

    whole = evaluate_answers(SET, rag(), ["em", "f1"], progress=False)
    records = [tmp_path / f"{number}.jsonl" for number in (1, 2)]
    for number, record in enumerate(records, 1):
        evaluate_answers(SET.shard(number, 2), rag(), record=record, progress=False)
    merged = merge_records(SET, records, ["em", "f1"])
    assert (merged.per_query, merged.intervals, merged.answers) == (whole.per_query, whole.intervals, whole.answers)
    assert merged.settings == whole.settings
    assert 0 < merged.metrics["em"] < 1


def test_shards_share_out_all_questions_once() -> None:
    parts = [SET.shard(number, 4).questions for number in range(1, 5)]
    assert sorted(question.id for part in parts for question in part) == sorted(q.id for q in QUESTIONS)
    assert {len(part) for part in parts} == {5, 6}
    for number, count, says in ((0, 2, "no shard 0 of 2"), (3, 2, "no shard 3 of 2"), (1, 24, "too few for 24")):
        with pytest.raises(SettingError, match=says):
            SET.shard(number, count)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    one, two, three = run_shards(tmp_path, 3)

    def refused(records: list[Path], says: str, dataset: EvaluationSet = SET) -> None:
        with pytest.raises(SettingError, match=says):
            merge_records(dataset, records)

    refused([one, three], "Of 3 shards 2 is missing")
    refused([two], "Of 3 shards 1, 3 is missing")
    refused([one, two, three, two], r"2.jsonl' is shard 2 of 3, and so is .*2.jsonl'. Name each once")
    refused([], "no record to merge")
    refused([one, two, tmp_path / "none"], "cannot be read")
    (tmp_path / "other").mkdir()
    other = run_shards(tmp_path / "other", 2)
    refused([one, other[1]], "is one of 2 shards, and .* one of 3")
    evaluate_retrieval(SET, Ranked(), METRICS, record=tmp_path / "whole.jsonl", progress=False)
    refused([tmp_path / "whole.jsonl"], "record of a whole run")
    (tmp_path / "empty").write_bytes(b"")
    refused([one, two, tmp_path / "empty"], "is empty")
    refused([one, two, three], "drawn' with 23 questions, and this set is 'drawn' with 9", SET.first(9))
    renamed = replace(SET, name="other")
    refused([one, two, three], "this set is 'other'", renamed)
    # The same shards of other settings.
    evaluate_retrieval(SET.shard(3, 3), Ranked(), ["mrr@5"], record=tmp_path / "deep.jsonl", progress=False)
    refused([one, two, tmp_path / "deep.jsonl"], "of different runs: top_k was 10, is 5")
    # A set that was changed since: another text, or another order.
    changed = replace(SET, questions=(replace(QUESTIONS[0], text="question 99"), *QUESTIONS[1:]))
    refused([one, two, three], "holds a result of 'q0'", changed)
    refused([one, two, three], "holds a result of", replace(SET, questions=QUESTIONS[::-1]))


def test_an_unfinished_shard_is_named(tmp_path: Path) -> None:
    records = run_shards(tmp_path, 3, Ranked(fail="question 7"))
    with pytest.raises(SettingError, match=r"1 questions have no result, such as 'q7'. Run shard 2 again"):
        merge_records(SET, records)
    merged = merge_records(SET, records, METRICS, unfinished=True)
    assert (len(merged.per_query), [failure.id for failure in merged.failed]) == (COUNT - 1, ["q7"])
    # The shard is run again with its record: only what is missing is asked.
    evaluate_retrieval(SET.shard(2, 3), Ranked(), METRICS, record=records[1], progress=False)
    assert len(merge_records(SET, records).per_query) == COUNT


def test_a_record_of_one_shard_is_not_gone_on_with_by_another(tmp_path: Path) -> None:
    records = run_shards(tmp_path, 2)
    with pytest.raises(SettingError, match="shard was '1/2', is '2/2'"):
        evaluate_retrieval(SET.shard(2, 2), Ranked(), METRICS, record=records[0], progress=False)


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a set of texts, in the layout of BEIR."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boats" / "qrels").mkdir(parents=True)
    colours = ["red", "green", "blue", "black", "white", "brown", "grey", "pink"]
    rows = [{"_id": f"p{n}", "text": f"The {colour} boat has number {n}."} for n, colour in enumerate(colours)]
    asked = [{"_id": f"q{n}", "text": f"{colour} boat"} for n, colour in enumerate(colours)]
    for name, lines in (("corpus", rows), ("queries", asked)):
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (tmp_path / "boats" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    judged = "".join(f"q{n}\tp{n if n % 3 else 0}\t1\n" for n in range(len(colours)))
    (tmp_path / "boats" / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")
    return tmp_path


def visrag(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["eval", *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


ASKED = ("boats", "--preset", "cpu", "--mode", "lexical", "--quiet")


def test_shards_on_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "index", "boats", "--preset", "cpu", "--quiet")
    assert (code, out) == (0, "8 pages of boats are indexed; the collection has 8.\n"), err
    code, whole, err = visrag(capsys, "retrieval", *ASKED, "--run-out", "whole.trec")
    assert code == 0, err
    for number in (1, 2):
        code, _, err = visrag(capsys, "retrieval", *ASKED, "--shard", f"{number}/2", "--record", f"{number}.jsonl")
        assert code == 0, err
    code, merged, err = visrag(capsys, "merge", "boats", "1.jsonl", "2.jsonl", "--run-out", "merged.trec")
    assert code == 0, err
    assert merged == whole
    assert (place / "merged.trec").read_bytes() == (place / "whole.trec").read_bytes()
    code, out, err = visrag(capsys, "merge", "boats", "1.jsonl", "1.jsonl")
    assert (code, out) == (2, "")
    assert "is shard 1 of 2, and so is" in err


def test_pages_are_shared_out_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = visrag(capsys, "index", "boats", "--shard", "2/3", "--preset", "cpu", "--quiet", "--json")
    assert code == 0, err
    assert json.loads(out) == {"set": "boats", "pages": 3, "failed": 0, "indexed": 3}
    for number, there in ((1, 6), (3, 8)):
        code, out, err = visrag(
            capsys, "index", "boats", "--shard", f"{number}/3", "--preset", "cpu", "--quiet", "--json"
        )
        assert json.loads(out)["indexed"] == there


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2"])
def test_a_wrong_share_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["eval", "retrieval", "x.jsonl", f"--shard={wrong}"])
    assert ended.value.code == 2
    assert "it must be I/N with I from 1 to N" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from test_evaluation_shards import METRICS, SET, Ranked
from visrag_integrations.evaluation import evaluate_retrieval

class Killed(Ranked):
    asked = 0
    def retrieve(self, query, top_k=5):
        Killed.asked += 1
        if Killed.asked > 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().retrieve(query, top_k)

Killed.__name__ = "Ranked"
evaluate_retrieval(SET.shard(1, 2), Killed(), METRICS, record=sys.argv[1], batch_size=1, progress=False)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_a_shard_that_was_killed_goes_on(tmp_path: Path) -> None:
    record = tmp_path / "1.jsonl"
    root = Path(__file__).parent
    paths = os.pathsep.join([str(root), str(root.parent)])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(record)], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(record.read_text(encoding="utf-8").splitlines()) == 6  # what it is of, and five results

    class Counting(Ranked):
        asked = 0

        def retrieve(self, query: str, top_k: int = 5) -> Sequence[ScoredPage]:
            Counting.asked += 1
            return super().retrieve(query, top_k)

    Counting.__name__ = "Ranked"
    evaluate_retrieval(SET.shard(1, 2), Counting(), METRICS, record=record, progress=False)
    assert Counting.asked == 12 - 5
    evaluate_retrieval(SET.shard(2, 2), Ranked(), METRICS, record=tmp_path / "2.jsonl", progress=False)
    whole = evaluate_retrieval(SET, Ranked(), METRICS, progress=False)
    assert merge_records(SET, [record, tmp_path / "2.jsonl"], METRICS).per_query == whole.per_query


def started(*arguments: str) -> subprocess.Popen[str]:
    """`visrag eval` in a process of its own."""
    command = [sys.executable, "-m", "visrag_integrations", "eval", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each of them printed, once all have ended well."""
    printed: list[str] = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        printed.append(out)
    return printed


@pytest.mark.slow
def test_processes_fill_one_collection_of_a_server_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        there = ("--index", server.url, "--collection", "boats")
        fill = ("index", "boats", "--preset", "cpu", "--quiet", *there)
        ended([started(*fill, "--shard", f"{number}/3") for number in (1, 2, 3)])
        with QdrantPageStore(server.url, collection="boats") as store:
            assert store.count() == 8
        ask = ("retrieval", *ASKED, *there)
        (whole,) = ended([started(*ask, "--run-out", "whole.trec")])
        ended([started(*ask, "--shard", f"{number}/2", "--record", f"{number}.jsonl") for number in (1, 2)])
    code, merged, err = visrag(capsys, "merge", "boats", "1.jsonl", "2.jsonl", "--run-out", "merged.trec")
    assert code == 0, err
    assert merged == whole
    assert (place / "merged.trec").read_bytes() == (place / "whole.trec").read_bytes()
