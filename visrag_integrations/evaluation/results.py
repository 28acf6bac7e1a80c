"""`EvaluationResult`: what came out, per query and on average, as text, HTML and JSON."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from visrag_integrations.evaluation.evidence_scores import AnswersByEvidence, EvidenceScores, answers_by_evidence
from visrag_integrations.evaluation.judged import JudgedAnswers
from visrag_integrations.evaluation.metrics import PerQuery, mean_metrics
from visrag_integrations.evaluation.statistics import Comparison, Interval, compare, mean_interval
from visrag_integrations.evaluation.text_tables import aligned

_BRACKETS = ("In brackets: the 95 % interval of the mean (bootstrap over the questions).",)
_STYLE = "text-align:right;padding:2px 12px"
# Of the settings what tells two runs apart at a glance; all of them are in `as_dict`.
_SHOWN = ("retriever", "embedder", "mode", "generator", "prompt", "pages", "top_k")


@dataclass(frozen=True)
class QueryFailure:
    """A question that could not be asked, and why."""

    id: str
    error: str


class MoreTable(NamedTuple):
    """A table beside that of the metrics: lines above it, cells with a header, lines below it."""

    title: tuple[str, ...]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()

    def as_text(self) -> list[str]:
        """Its lines."""
        lines = list(self.title)
        if self.rows:
            lines += aligned(self.rows)
        return [*lines, *self.notes]

    def as_html(self) -> str:
        """For a notebook."""
        captions = ""
        for line in self.title:
            captions += f"<caption>{html.escape(line)}</caption>"
        return f"<table>{captions}{_html_rows(self.rows)}</table>{_html_notes(self.notes)}"


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found. Printed, it is a table; in a notebook too.

    Attributes:
        name: The set's name.
        per_query: Question id -> metric -> value; without those that failed.
        settings: What was evaluated, and how.
        groups: Group -> ids of its questions, where the set has groups.
        failed: Questions that could not be asked; run again with the same `record` to ask only them.
        run: Question id -> page key -> score: what was found, or shown to the generator.
        answers: Question id -> answer; empty for retrieval.
        seconds: How long it took; what a record held already took none.
        notes: What else a reader of the numbers should know.
        evidence: How good the answers' evidence is, where it was asked for.
        judged: What a model says of the answers, where one was asked.
    """

    name: str
    per_query: PerQuery = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    failed: tuple[QueryFailure, ...] = ()
    run: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    evidence: EvidenceScores | None = None
    judged: JudgedAnswers | None = None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The mean of each metric over the questions."""
        return mean_metrics(self.per_query)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Where each mean lies with 95 % confidence (bootstrap over the questions)."""
        return _intervals(self.per_query)

    # The settings of a group are those of the whole: what was evaluated is the same.
    def group(self, name: str) -> EvaluationResult:
        """The result of one group's questions."""
        found: PerQuery = {}
        for id_ in self.groups[name]:
            if id_ in self.per_query:  # not where the question failed
                found[id_] = self.per_query[id_]
        return EvaluationResult(f"{self.name}, {name}", found, self.settings)

    def compare(self, other: EvaluationResult) -> list[Comparison]:
        """Each metric of both, the interval of the difference, and how likely chance makes it; see `Comparison`."""
        return compare(self.per_query, other.per_query)

    @cached_property
    def answers_by_evidence(self) -> AnswersByEvidence | None:
        """Right and wrong answers against right and wrong evidence; by the judge or, without one, by the first metric.

        None without evidence, without a judge and a metric, or where the set does not say what is right.
        """
        if self.evidence is None:
            return None
        if self.judged is not None and self.judged.verdicts:
            return answers_by_evidence(self.judged.verdicts, f"judge {self.judged.judge}", self.evidence)
        if not self.metrics:
            return None
        rule = next(iter(self.metrics))
        values: dict[str, float] = {}
        for id_, row in self.per_query.items():
            values[id_] = row[rule]
        return answers_by_evidence(values, rule, self.evidence)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but what each question gave."""
        intervals: dict[str, list[float]] = {}
        for metric, interval in self.intervals.items():
            intervals[metric] = list(interval)
        groups: dict[str, Any] = {}
        for name, part in self._parts().items():
            groups[name] = {"queries": len(part.per_query), "metrics": part.metrics}
        values: dict[str, Any] = {
            "set": self.name,
            "queries": len(self.per_query),
            "settings": dict(self.settings),
            "metrics": self.metrics,
            "intervals": intervals,
            "groups": groups,
            "failed": [dict(vars(failure)) for failure in self.failed],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }
        if self.evidence is not None:
            values["evidence"] = self.evidence.as_dict()
        if self.answers_by_evidence is not None:
            values["answers_by_evidence"] = self.answers_by_evidence.as_dict()
        if self.judged is not None:
            values["judged"] = self.judged.as_dict()
        return values

    def __str__(self) -> str:
        """A table: all questions, then each group; then that of the evidence and that of the judge."""
        lines = [self.title, *aligned(self._rows()), *self._notes()]
        for table in self.more_tables():
            lines += ["", *table.as_text()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = MoreTable((self.title,), self._rows(), (*_BRACKETS, *self._notes()))
        shown = table.as_html()
        for more in self.more_tables():
            shown += more.as_html()
        return shown

    def more_tables(self) -> list[MoreTable]:
        """The tables of the evidence and of the judge, where there are any."""
        tables: list[MoreTable] = []
        if self.evidence is not None:
            tables.append(MoreTable((), self.evidence.rows(), self.evidence.notes))
        if self.answers_by_evidence is not None:
            tables.append(MoreTable((), self.answers_by_evidence.rows()))
        if self.judged is not None:
            tables.append(MoreTable((self.judged.title(),), self.judged.rows(), self.judged.notes))
        return tables

    @property
    def title(self) -> str:
        """The set, and what was evaluated."""
        shown: list[str] = []
        for name, value in self.settings.items():
            if name in _SHOWN and value:
                shown.append(f"{name} {value}")
        if not shown:
            return self.name
        return f"{self.name}: {', '.join(shown)}"

    def _rows(self) -> list[list[str]]:
        rows = [["", "queries", *self.metrics], _row("all", self)]
        for name, part in self._parts().items():
            rows.append(_row(name, part))
        return rows

    def _notes(self) -> list[str]:
        if not self.failed:
            return list(self.notes)
        first = self.failed[0]
        asked = len(self.failed) + len(self.per_query)
        count = f"{len(self.failed)} of {asked} queries failed and are not in the table"
        return [f"{count}; the first: {first.id}: {first.error}", *self.notes]

    def _parts(self) -> dict[str, EvaluationResult]:
        """The result of each group; with one group only, it would repeat the whole."""
        if len(self.groups) < 2:
            return {}
        parts: dict[str, EvaluationResult] = {}
        for name in self.groups:
            parts[name] = self.group(name)
        return parts


def comparison_table(comparisons: Sequence[Comparison], first: str, second: str) -> str:
    """The comparisons as a table for people.

    Args:
        comparisons: From `compare`.
        first: What the first run is called.
        second: What the second run is called.
    """
    rows = [["", first, second, "difference", "95 % interval", "p", "better on", "worse on"]]
    for found in comparisons:
        low, high = found.interval
        numbers = [
            f"{found.first:.3f}",
            f"{found.second:.3f}",
            f"{found.difference:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
        ]
        rows.append([found.metric, *numbers, _p(found.p_value), str(found.wins), str(found.losses)])
    note = "p: how often chance alone makes such a difference (paired randomisation test, two-sided)."
    return "\n".join([*aligned(rows), note])


def _row(name: str, result: EvaluationResult) -> list[str]:
    cells: list[str] = []
    for metric, mean in result.metrics.items():
        low, high = result.intervals[metric]
        cells.append(f"{mean:.3f} [{low:.3f}, {high:.3f}]")
    return [name, str(len(result.per_query)), *cells]


def _html_rows(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the header."""
    tag = "th"
    lines = ""
    for row in rows:
        cells = ""
        for cell in row:
            cells += f'<{tag} style="{_STYLE}">{html.escape(cell)}</{tag}>'
        lines += f"<tr>{cells}</tr>"
        tag = "td"
    return lines


def _html_notes(notes: Sequence[str]) -> str:
    lines = ""
    for note in notes:
        lines += f"<p>{html.escape(note)}</p>"
    return lines


def _intervals(per_query: PerQuery) -> dict[str, Interval]:
    rows = list(per_query.values())
    if not rows:
        return {}
    intervals: dict[str, Interval] = {}
    for metric in rows[0]:
        intervals[metric] = mean_interval([row[metric] for row in rows])
    return intervals


def _p(value: float) -> str:
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}"
