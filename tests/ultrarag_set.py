"""One set of documents and questions, for UltraRAG's pipelines and for `visrag eval`, and what both must agree on."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ultrarag_pipeline
import yaml
from drawing import draw_pdf

from visrag_integrations.cli import main
from visrag_integrations.evaluation import read_run
from visrag_integrations.generation.evisrag import prompt_template

DOCUMENTS = {
    "boats.pdf": ["The harbour holds forty sailing boats.", "Anchors have a weight of two hundred pounds."],
    "bread.pdf": ["Bake the sourdough loaf for fifty minutes.", "Knead the dough of rye flour by hand."],
    "glacier.pdf": ["The glacier lost nine metres of ice.", "Lanterns in the hut burn whale oil."],
}
QUESTIONS = [
    ("boats", "how many sailing boats does the harbour hold", "forty", "boats/page_0.jpg"),
    ("anchors", "weight of the anchors", "two hundred pounds", "boats/page_1.jpg"),
    ("bread", "how long does the sourdough loaf bake", "fifty minutes", "bread/page_0.jpg"),
    ("ice", "what did the glacier lose in metres of ice", "nine metres", "glacier/page_0.jpg"),
    ("comet", "which comet returns in the year 2061", "insufficient to answer", "glacier/page_1.jpg"),
]
TOP_K = 10  # more than there are pages


@dataclass(frozen=True)
class PlayedSet:
    """A working folder: documents, the four server folders in `visrag`, and the job for a client."""

    place: Path

    @property
    def folder(self) -> Path:
        return self.place / "visrag"

    @property
    def job(self) -> dict[str, Any]:
        lines = [line.strip() for line in prompt_template().split("\n") if line.strip()]
        reworded = "\n".join(lines).replace("{query}", "{{question}}") + "\n<image>"  # as UltraRAG words it
        boxed = "Think step by step. Give the final answer in a box.\n\nQuestion: {{question}}"
        asked = {"q_ids": [id_ for id_, *_ in QUESTIONS], "q_ls": [question for _, question, _, _ in QUESTIONS]}
        return {
            "folder": str(self.folder),
            "variables": asked,
            "templates": {"qa_boxed": boxed, "evisrag_vqa": reworded},
            "pipelines": {
                "corpus": ultrarag_pipeline.BUILD_CORPUS,
                "index": ultrarag_pipeline.INDEX,
                "visrag": ultrarag_pipeline.VISRAG,
                "evisrag": [*ultrarag_pipeline.EVISRAG, *ultrarag_pipeline.MORE],
            },
        }


def make_set(place: Path) -> PlayedSet:
    """Documents, and what `visrag ultrarag init` writes, with paths below this folder."""
    (place / "docs").mkdir()
    for name, pages in DOCUMENTS.items():
        draw_pdf(place / "docs" / name, pages)
    assert main(["ultrarag", "init", str(place / "visrag"), "--preset", "cpu"]) == 0
    corpus, retriever = place / "visrag" / "corpus", place / "visrag" / "retriever"
    change_parameters(corpus, parse_file_path=place / "docs", image_corpus_save_path=place / "c.jsonl")
    change_parameters(retriever, corpus_path=place / "c.jsonl", top_k=TOP_K, run_path=place / "run.trec")
    change_parameters(retriever, **{"backend_configs.visrag.store": place / "index"})
    return PlayedSet(place)


def change_parameters(server: Path, **values: Any) -> None:
    """Set keys of a parameter.yaml, as a user does with an editor; "a.b" is b below a."""
    file = server / "parameter.yaml"
    parameters = yaml.safe_load(file.read_text("utf-8"))
    for key, value in values.items():
        *above, last = key.split(".")
        place = parameters
        for name in above:
            place = place[name]
        place[last] = str(value) if isinstance(value, Path) else value
    file.write_text(yaml.safe_dump(parameters), encoding="utf-8")


def evaluated(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same set through `visrag eval`, from the same pictures and texts, in an index of its own."""
    rows = [json.loads(line) for line in (place / "c.jsonl").read_text("utf-8").splitlines()]
    corpus = [{"_id": row["image_id"], "text": row["contents"], "image": row["image_path"]} for row in rows]
    _write(place / "corpus.jsonl", corpus)
    asked = [{"_id": id_, "text": text, "answer": answer} for id_, text, answer, _ in QUESTIONS]
    _write(place / "queries.jsonl", asked)
    (place / "qrels").mkdir(exist_ok=True)
    judged = "".join(f"{id_}\t{page}\t1\n" for id_, _, _, page in QUESTIONS)
    (place / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", encoding="utf-8")

    monkeypatch.chdir(place)
    run = ["eval", "retrieval", str(place), "--preset", "cpu", "--json", "--quiet", "--run-out", "eval.trec"]
    retrieval = _printed(run, capsys)
    values: dict[str, Any] = {"metrics": retrieval["metrics"], "run": read_run(place / "eval.trec")}
    for prompt in ("evisrag", "plain"):
        asked_of = ["eval", "answers", str(place), "--preset", "cpu", "--json", "--quiet", "-k", str(TOP_K)]
        _printed([*asked_of, "--prompt", prompt, "--per-query", f"{prompt}.jsonl"], capsys)
        lines = [json.loads(line) for line in (place / f"{prompt}.jsonl").read_text("utf-8").splitlines()]
        values[prompt] = {line["id"]: line["answer"] for line in lines}
    return values


def check_agreement(results: dict[str, dict[str, Any]], evaluated: dict[str, Any], place: Path) -> None:
    """Pages, their order, both metrics and all answers are those of `visrag eval`."""
    ids = [id_ for id_, _, _, _ in QUESTIONS]
    for pipeline in ("visrag", "evisrag"):
        found = results[pipeline]["ret_psg"]
        assert all(Path(path).is_absolute() and Path(path).is_file() for paths in found for path in paths)
        names = [[Path(path).relative_to(place / "image").as_posix() for path in paths] for paths in found]
        wanted = [list(evaluated["run"][id_]) for id_ in ids]
        assert [len(paths) for paths in names] == [6] * len(ids)
        assert names == wanted
        ranks = [paths.index(page) + 1 for paths, (_, _, _, page) in zip(names, QUESTIONS, strict=True)]
        assert sum(1 / rank for rank in ranks) / len(ranks) == pytest.approx(evaluated["metrics"]["mrr@10"])
        assert sum(rank <= 5 for rank in ranks) / len(ranks) == pytest.approx(evaluated["metrics"]["recall@5"])
    assert dict(zip(ids, results["visrag"]["ans_ls"], strict=True)) == evaluated["plain"]
    assert dict(zip(ids, results["evisrag"]["pred_ls"], strict=True)) == evaluated["evisrag"]
    answers = evaluated["evisrag"]
    assert "forty" in answers["boats"]
    assert answers["comet"] == "insufficient to answer"
    check_evidence(results["evisrag"])
    assert {id_: list(hits) for id_, hits in read_run(place / "run.trec").items()} == {
        id_: list(hits) for id_, hits in evaluated["run"].items()
    }


def check_evidence(variables: dict[str, Any]) -> None:
    """The evidence names the picture it is of; the words it quotes stand in its boxes."""
    boats = variables["evidence_ls"][0]
    assert [entry["index"] for entry in boats] == list(range(1, len(variables["ret_psg"][0]) + 1))
    assert [entry["image"] for entry in boats] == variables["ret_psg"][0]
    (relevant,) = [place for place, entry in enumerate(boats) if "forty" in entry["text"]]
    assert re.search(r"boats\.pdf$", boats[relevant]["source"])
    assert boats[relevant]["page"] == 1
    assert variables["verdict_ls"][0][relevant] == "supported"
    ((left, top, right, bottom),) = variables["boxes"][0][relevant]
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert variables["sufficient_ls"] == [True, True, True, True, False]
    assert [len(scores) for scores in variables["ret_scores"]] == [6] * len(QUESTIONS)
    assert variables["ret_pages"][0][0]["key"] == "boats/page_0.jpg"


def _printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(arguments) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
