"""Tools for UltraRAG's `custom` server: what EVisRAG wrote, as answers, evidence, and boxes on the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.evisrag import parse_evidence
from visrag_integrations.generation.parser import scored
from visrag_integrations.grounding import ground
from visrag_integrations.servers.ultrarag.found_pages import FoundPages, Needs
from visrag_integrations.servers.ultrarag.tool_table import Output, ToolSpec
from visrag_integrations.types import Answer, Box, Evidence


class CustomTools:
    """The tools; they hold nothing between calls.

    Args:
        folder: What `visrag ultrarag init` wrote; the pages behind the paths are known there.
    """

    def __init__(self, folder: Path) -> None:
        self._found = FoundPages(folder / "found")

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, by the names UltraRAG's pipelines use."""
        parsed = ("pred_ls", "evidence_ls", "sufficient_ls", "problems_ls")
        return (
            ToolSpec(self.evisrag_output_extract_from_special, ("ans_ls",), ("pred_ls",)),
            ToolSpec(self.evisrag_parse, ("ans_ls", "ret_psg"), parsed),
            ToolSpec(self.evisrag_ground, ("ans_ls", "ret_psg"), ("boxes", "verdict_ls", "support_ls")),
        )

    def close(self) -> None:
        """Nothing is open."""

    def evisrag_output_extract_from_special(self, ans_ls: list[str]) -> Output:
        """What stands in each text's first <answer>; the whole text where there is none. UltraRAG's own rule."""
        return {"pred_ls": list(map(_first_answer, ans_ls))}

    def evisrag_parse(self, ans_ls: list[str], ret_psg: list[list[str]]) -> Output:
        """Answers, evidence by page, whether the pages were enough, and what was off in the text."""
        answers: list[str] = []
        evidence: list[list[dict[str, Any]]] = []
        sufficient: list[bool] = []
        problems: list[list[str]] = []
        for answer, paths in self._parsed(ans_ls, ret_psg):
            answers.append(answer.text)
            evidence.append([_entry(entry, paths) for entry in answer.evidence])
            sufficient.append(answer.sufficient)
            problems.append(list(answer.problems))
        return {"pred_ls": answers, "evidence_ls": evidence, "sufficient_ls": sufficient, "problems_ls": problems}

    def evisrag_ground(self, ans_ls: list[str], ret_psg: list[list[str]]) -> Output:
        """For each piece of evidence of `evisrag_parse`: its boxes on its page (fractions), a verdict and its support.

        Evidence that says its page holds nothing has no boxes and no verdict.
        """
        boxes: list[list[list[Box]]] = []
        verdicts: list[list[str | None]] = []
        supports: list[list[float | None]] = []
        for answer, _ in self._parsed(ans_ls, ret_psg, "words"):
            groundings = [entry.grounding for entry in ground(answer).evidence]
            boxes.append([list(one.boxes) if one else [] for one in groundings])
            verdicts.append([one.verdict if one else None for one in groundings])
            supports.append([one.support if one else None for one in groundings])
        return {"boxes": boxes, "verdict_ls": verdicts, "support_ls": supports}

    def _parsed(
        self, ans_ls: Sequence[str], ret_psg: Sequence[Sequence[str]], needs: Needs = "picture"
    ) -> Iterator[tuple[Answer, Sequence[str]]]:
        """Each text with the pages it was written from."""
        if len(ans_ls) != len(ret_psg):
            raise SettingError(
                f"There are {len(ans_ls)} answers and pictures for {len(ret_psg)}; there must be as many."
            )
        for text, paths in zip(ans_ls, ret_psg, strict=True):
            pages = [self._found.page_at(path, needs) for path in paths]
            yield parse_evidence(text, scored(pages)), paths


def _first_answer(text: str) -> str:
    """What stands in the first <answer>.

    >>> _first_answer("<think>7?</think><answer> seven </answer>"), _first_answer(" seven ")
    ('seven', 'seven')
    """
    _, opened, rest = text.partition("<answer>")
    if not opened:
        return text.strip()
    return rest.partition("</answer>")[0].strip()


def _entry(entry: Evidence, paths: Sequence[str]) -> dict[str, Any]:
    """A piece of evidence as JSON; without a page where the model named one that it was not shown."""
    known: dict[str, Any] = {"index": entry.page_index, "text": entry.text, "relevant": entry.relevant}
    if entry.page is None:
        return {**known, "image": None, "source": None, "page": None}
    return {
        **known,
        "image": paths[entry.page_index - 1],
        "source": entry.page.source,
        "page": entry.page.number,
    }
