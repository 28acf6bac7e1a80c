"""UltraRAG's files as sets, answers and runs, and its metrics by the rules of its evaluation server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.cli import main
from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation import (
    EvaluationSet,
    Question,
    evaluate_answers_of,
    evaluate_run,
    load_evaluation_set,
    read_answers,
    read_run,
)

BENCHMARK = [
    {"id": 0, "question": "how many boats", "golden_answers": ["forty", "40"], "meta_data": {}},
    {"id": 1, "question": "who signed", "golden_answers": ["Ada Lovelace"], "meta_data": {}},
    {"id": 2, "question": "how many boats", "golden_answers": ["nine"], "meta_data": {}},
]


def memory(**variables: Any) -> list[dict[str, Any]]:
    """A run's file: each step has what every variable was after it; later ones are null before they are made."""
    steps = []
    known: dict[str, Any] = {f"memory_{name}": None for name in variables}
    for name, value in variables.items():
        known = {**known, f"memory_{name}": value}
        steps.append({"step": f"server.{name}", "memory": known})
    return steps


RUN = memory(
    q_ls=["who signed", "how many boats", "how many boats"],
    gt_ls=[["Ada Lovelace"], ["forty", "40"], ["nine"]],
    ret_psg=[["/a/image/report/page_1.jpg", "/a/image/report/page_0.jpg"], ["/a/image/x/page_0.jpg"], []],
    ans_ls=["<think>..</think><answer>Ada</answer>", "<answer>40</answer>", "nine"],
)


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_a_benchmark_keeps_its_answers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    if suffix == ".json":
        write(path, BENCHMARK)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in BENCHMARK), encoding="utf-8")
    found = load_evaluation_set(path)
    assert [(q.id, q.text, q.answers) for q in found.questions] == [
        ("0", "how many boats", ("forty", "40")),
        ("1", "who signed", ("Ada Lovelace",)),
        ("2", "how many boats", ("nine",)),
    ]


def test_a_memory_file_is_answers_a_run_and_a_set(tmp_path: Path) -> None:
    path = write(tmp_path / "memory_set_evisrag_20260816_120000.json", RUN)
    dataset = EvaluationSet(
        "set",
        load_evaluation_set(write(tmp_path / "set.json", BENCHMARK)).questions,
        {"1": {"page_0.jpg": 1, "report/page_1.jpg": 1}},
    )
    # By text, whatever the order of the run; of two questions with one text the first asked is the first of the set.
    assert read_answers(path, dataset.questions) == {"0": "40", "1": "Ada", "2": "nine"}
    run = read_run(path, dataset)
    assert run == {
        "0": {"page_0.jpg": 1.0},
        "1": {"report/page_1.jpg": 1.0, "page_0.jpg": 0.5},
        "2": {},
    }
    assert evaluate_run(run, dataset.qrels, ["mrr@10", "recall@5"]) == {"1": {"mrr@10": 1.0, "recall@5": 1.0}}

    asked = load_evaluation_set(path)
    assert [(q.id, q.answers) for q in asked.questions] == [
        ("q1", ("Ada Lovelace",)),
        ("q2", ("forty", "40")),
        ("q3", ("nine",)),
    ]
    values = evaluate_answers_of(read_answers(path), asked.questions, ["em", "ultrarag-em"])
    assert [value["em"] for value in values.values()] == [0.0, 1.0, 1.0]
    assert list(read_run(path)["q1"]) == ["report/page_1.jpg", "report/page_0.jpg"]


def test_scores_and_keys_of_our_retriever_are_used(tmp_path: Path) -> None:
    pages = [
        [{"source": "r.pdf", "page": 2, "key": "r.pdf#page=2"}, {"source": "r.pdf", "page": 1, "key": "r.pdf#page=1"}]
    ]
    kept = memory(q_ls=["a"], ret_psg=[["/x/1f.jpg", "/x/2f.jpg"]], ret_scores=[[7.5, 3]], ret_pages=pages)
    path = write(tmp_path / "memory_a.json", kept)
    assert read_run(path) == {"q1": {"r.pdf#page=2": 7.5, "r.pdf#page=1": 3.0}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[", "is no JSON"),
        ([], "is no memory file"),
        ({"memory": 1}, "is no memory file"),
        ([{"step": "x"}], "is no memory file"),
        (memory(ans_ls=["x"]), "holds no questions"),
        (memory(q_ls=["a", "b"], ans_ls=["x"]), "2 questions and 1 entries of ans_ls"),
        (memory(q_ls=["a"]), "holds no answers"),
        (memory(q_ls=["other"], ans_ls=["x"]), "is a run of other questions: it asked 'other'"),
        ([{"step": "x", "memory": ["q_ls"]}], "is no memory file"),
        (memory(q_ls=["a"], ans_ls="x"), "its ans_ls is str"),
    ],
)
def test_a_file_that_is_no_memory_says_why(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "memory.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"memory\.json") as raised:
        read_answers(path, [Question("1", "a")])
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ret_scores": [[7.5]]}, "entry 1 is of 1 pages, and ret_psg has 2"),
        ({"ret_scores": [[7.5, "high"]]}, "entry 1 is [7.5, 'high']"),
        ({"ret_scores": [7.5]}, "entry 1 is 7.5"),
        ({"ret_pages": [[{"key": "a"}]]}, "entry 1 is of 1 pages"),
        ({"ret_pages": [[{"key": "a"}, {"name": "b"}]]}, "entry 1 is [{'key': 'a'}"),
        ({"ret_pages": [["a", "b"]]}, "entry 1 is ['a', 'b']"),
    ],
)
def test_what_is_said_of_pages_must_be_of_each_page(variables: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "memory_a.json", memory(q_ls=["a"], ret_psg=[["/x/1.jpg", "/x/2.jpg"]], **variables))
    with pytest.raises(DatasetError, match=r"memory_a\.json, ret_") as raised:
        read_run(path)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "variables",
    [
        {
            "ret_scores": [[7.5], [3]],
            "ret_pages": [[{"key": "a"}], [{"key": "b"}]],
        },  # found, and then merged to two each
        {"ret_scores": [[7.5, 2], [3, 1], [9, 8]]},  # one for each part of a question
        {"ret_pages": [["a"], ["b"]]},  # a step of somebody else's
        {"ret_scores": "none"},
    ],
)
def test_answers_do_not_need_what_is_said_of_pages(variables: dict[str, Any], tmp_path: Path) -> None:
    """A step after the search changes `ret_psg` alone, as merging does: the answers are good all the same."""
    steps = memory(
        q_ls=["a", "b"],
        gt_ls=[["x"], ["y"]],
        **variables,
        ret_psg=[["/x/1.jpg", "/x/2.jpg"], ["/x/3.jpg", "/x/1.jpg"]],
        ans_ls=["x", "z"],
    )
    path = write(tmp_path / "memory_a.json", steps)
    assert read_answers(path) == {"q1": "x", "q2": "z"}
    assert [question.answers for question in load_evaluation_set(path).questions] == [("x",), ("y",)]
    with pytest.raises(DatasetError, match=r"ret_(scores|pages)"):  # with which score is each page found?
        read_run(path)


def test_a_question_without_anything_has_nothing(tmp_path: Path) -> None:
    """Null is no page, no right answer and no answer of that name."""
    kept = memory(
        q_ls=["a", "b"], gt_ls=[None, ["7"]], ret_psg=[None, ["/x/1.jpg"]], ret_scores=[None, [3]], ans_ls=[None, "7"]
    )
    path = write(tmp_path / "memory_a.json", kept)
    assert read_run(path) == {"q1": {}, "q2": {"1.jpg": 3.0}}
    assert read_answers(path) == {"q1": "", "q2": "7"}
    assert [question.answers for question in load_evaluation_set(path).questions] == [(), ("7",)]


@pytest.mark.parametrize(
    ("answer", "right", "expected"),
    [
        # acc, em, coverem, stringem, f1
        ("17", ("7",), (1, 0, 0, 0, 0)),  # contained, though in another number
        ("the U.S.", ("us",), (0, 0, 0, 0, 0)),  # "u s"
        ("True", ("yes",), (1, 1, 1, 1, 1)),
        ("true", ("yes",), (0, 0, 0, 0, 0)),  # only the word as Python writes it
        ("boats, forty", ("forty boats",), (0, 0, 1, 0, 1)),
        ("net_total", ("net total", "total"), (1, 1, 1, 0.5, 1)),
        ("forty boats", ("40", "forty"), (1, 0, 1, 0, 2 / 3)),
        ("", ("x",), (0, 0, 0, 0, 0)),
    ],
)
def test_its_metrics_follow_its_rules(answer: str, right: tuple[str, ...], expected: tuple[float, ...]) -> None:
    metrics = [f"ultrarag-{name}" for name in ("acc", "em", "coverem", "stringem", "f1")]
    values = evaluate_answers_of({"q": answer}, [Question("q", "?", answers=right)], metrics)["q"]
    assert [values[metric] for metric in metrics] == pytest.approx(expected)


def test_a_run_of_ultrarag_is_compared_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "corpus.jsonl").write_text('{"_id": "report/page_1.jpg", "text": "Signed by Ada Lovelace."}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "s", "text": "who signed", "answer": "Ada Lovelace"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\ns\treport/page_1.jpg\t1\n")
    path = write(tmp_path / "memory.json", RUN)
    for task, metric in (("retrieval", "mrr@10"), ("answers", "ultrarag-acc")):
        capsys.readouterr()
        told = ["--preset", "cpu", "--quiet", "--json", "--metrics", metric, "--compare", str(path)]
        assert main(["eval", task, str(tmp_path), *told]) == 0
        (compared,) = json.loads(capsys.readouterr().out)["comparison"]
        assert (compared["metric"], compared["second"]) == (metric, {"retrieval": 1.0, "answers": 0.0}[task])
