"""The answer rules beside the published ones on many random pairs: written again here from their definitions, and,
where VISRAG_HOME names a clone of OpenBMB/VisRAG, beside its own code.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.evaluation.answers import ANSWER_METRICS, vqa_normalized
from visrag_integrations.evaluation.sets import Question

PAIRS = 60_000
TEXT = """
the a an An The paris Paris PARIS france 7 seven none zero ten 1,234 3.5 12% $5 U.S. u.s well-known red/blue don't dont
shed've she'dve somebody'd somebodyd somebodyd've y'all'dve yall'd've ow's'at Im Id've mustve let's the. (a) nan
insufficient to answer no relevant information question é 北京 ½ _x_ -- ... ; ' " % 50 % 0 0.0 -5 1e3
"""
WORDS = TEXT.split()
GAPS = (" ", "  ", "\n", "\t", " - ", ", ", "")


def pairs(seed: int) -> Iterator[tuple[str, list[str]]]:
    """Answers, each with right answers that share words with it, as a rule."""
    drawn = random.Random(seed)
    for _ in range(PAIRS):
        answer = text(drawn, drawn.randint(0, 6))
        truths = [text(drawn, drawn.randint(0, 4)) for _ in range(drawn.randint(1, 3))]
        if drawn.random() < 0.4:
            words = answer.split()
            drawn.shuffle(words)
            truths.insert(drawn.randint(0, len(truths)), " ".join(words[: drawn.randint(0, len(words))]))
        yield answer, truths


def text(drawn: random.Random, words: int) -> str:
    return "".join(drawn.choice(WORDS) + drawn.choice(GAPS) for _ in range(words))


def by_definition(answer: str, truths: list[str]) -> dict[str, float]:
    """EVisRAG's metrics as its script defines them; a truth that shares no word with the answer counts for nothing."""
    best = {"em": 0.0, "accuracy": 0.0, "f1": 0.0}
    given = in_evisrags_form(answer)
    for truth in truths:
        wanted = in_evisrags_form(truth)
        shared = 0
        counts = Counter(wanted.split())
        for word, count in Counter(given.split()).items():
            shared += min(count, counts[word])
        if shared == 0:
            continue
        precision, recall = shared / len(given.split()), shared / len(wanted.split())
        best["em"] = max(best["em"], float(given == wanted))
        best["accuracy"] = max(best["accuracy"], float(all(word in given.split() for word in wanted.split())))
        best["f1"] = max(best["f1"], 2 * precision * recall / (precision + recall))
    return best


def in_evisrags_form(text: str) -> str:
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", kept).split())


@pytest.mark.slow
def test_evisrags_rules_on_many_pairs() -> None:
    right = Counter[str]()
    for answer, truths in pairs(seed=1):
        question = Question("q", "?", answers=tuple(truths))
        for metric, wanted in by_definition(answer, truths).items():
            assert ANSWER_METRICS[metric](answer, question) == pytest.approx(wanted, abs=1e-12), (
                answer,
                truths,
                metric,
            )
            right[metric] += wanted > 0
    assert min(right.values()) > PAIRS / 100  # pairs of which none is right would show nothing


@pytest.mark.parametrize(
    ("text", "ours", "published"),
    [
        ("somebody'd", "somebody'd", "somebodyd"),
        ("somebodyd", "somebody'd", "somebodyd"),
        ("shed've", "she'd've", "she'd've"),
        ("she'dve", "she'd've", "she'd've"),
        ("shedve", "shedve", "shedve"),
        ("y'alld've yall'll mustve", "y'all'd've y'all'll must've", "y'all'd've y'all'll must've"),
        ("ow's'at", "'ow's'at", "'ow's'at"),
        ("Im", "im", "im"),  # its key has a capital letter, and the text is in lower case by then
        ("x. " * 33, " ".join(["x"] * 33), " ".join(["x"] * 32 + ["x."])),
    ],
)
def test_where_the_published_normalisation_differs(text: str, ours: str, published: str) -> None:
    assert vqa_normalized(text) == ours
    assert vqa_normalized(text, published=True) == published


def test_the_switch_reaches_the_metrics() -> None:
    question = Question("q", "?", answers=("somebodyd",))
    assert ANSWER_METRICS["exact"]("somebody'd", question) == 1  # both become "somebody'd"
    assert ANSWER_METRICS["exact-published"]("somebody'd", question) == 1  # both become "somebodyd"
    many = Question("q", "?", answers=("x " * 33,))
    assert ANSWER_METRICS["exact"]("x. " * 33, many) == 1
    assert ANSWER_METRICS["exact-published"]("x. " * 33, many) == 0
    assert ANSWER_METRICS["relaxed-published"]("x. " * 33, many) == 0


# --- beside the published code itself ---------------------------------------------------------------------------------

HOME = os.environ.get("VISRAG_HOME", "")
published_code = pytest.mark.skipif(not HOME, reason="VISRAG_HOME names no clone of OpenBMB/VisRAG")


def functions(file: str, *names: str, **given: Any) -> list[Callable[..., Any]]:
    """Functions of a published script, without running the rest of it, which asks for arguments and models."""
    tree = ast.parse((Path(HOME) / file).read_text(encoding="utf-8"))
    kept = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    room: dict[str, Any] = {"re": re, "string": string, "Counter": Counter, "json": json, **given}
    exec(compile(ast.Module(kept, []), file, "exec"), room)
    return [room[name] for name in names]


@pytest.mark.slow
@published_code
def test_evisrags_own_code_on_many_pairs() -> None:
    _, evaluate = functions("src/evisrag/eval.py", "normalize_answer_qa", "evaluate_predictions")
    for answer, truths in pairs(seed=2):
        theirs, _ = evaluate(answer, truths)
        question = Question("q", "?", answers=tuple(truths))
        assert ANSWER_METRICS["em"](answer, question) == theirs["em"], (answer, truths)
        assert ANSWER_METRICS["accuracy"](answer, question) == theirs["acc"], (answer, truths)
        assert ANSWER_METRICS["f1"](answer, question) == pytest.approx(theirs["f1"], abs=1e-6), (answer, truths)


@pytest.mark.slow
@published_code
def test_visrag_gens_own_normalisation_on_many_texts() -> None:
    (normalise,) = functions("src/openmatch/generation_utils.py", "preprocess_text")
    for answer, truths in pairs(seed=3):
        for text in (answer, *truths, "x. " * 40 + answer):
            assert vqa_normalized(text, published=True) == normalise(text), text


@published_code
def test_every_word_of_its_table() -> None:
    source = (Path(HOME) / "src/openmatch/generation_utils.py").read_text(encoding="utf-8")
    (normalise,) = functions("src/openmatch/generation_utils.py", "preprocess_text")
    tables: list[dict[str, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "contractions":
            tables.append(ast.literal_eval(node.value))
    (table,) = tables
    assert len(table) > 100
    for word, whole in table.items():
        for text in (word, whole, word.upper()):
            assert vqa_normalized(text, published=True) == normalise(text), text
