"""The tables of an evaluation as HTML: scores with intervals, groups, ranks, evidence, a judge, and a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visrag_integrations.evaluation import Comparison, EvaluationResult, EvaluationSet
from visrag_integrations.evaluation.metrics import ranked, relevant_pages
from visrag_integrations.evaluation.statistics import mean, mean_interval
from visrag_integrations.report.bars import difference_bar, share_bar
from visrag_integrations.report.escaping import escaped

# Places as people look at results: the first, those on a screen, those that a metric at 5 or at 10 sees, the rest.
_RANKS = ((1, 1), (2, 3), (4, 5), (6, 10), (11, 10**9))


@dataclass(frozen=True)
class Cell:
    """A cell that is HTML already; texts are escaped."""

    html: str


_MEASURED: tuple[str | Cell, ...] = ("Questions", "Mean", "95 % interval", Cell("<span>0 to 1</span>"))


def table(title: str, rows: Sequence[Sequence[str | Cell]], css_class: str = "scores") -> str:
    """A heading and a table with a header row, whose first column names its rows. A wide one scrolls by itself."""
    head, *others = rows
    titles = "".join(f'<th scope="col">{_shown(cell)}</th>' for cell in head)
    body: list[str] = []
    for first, *cells in others:
        values = "".join(f"<td>{_shown(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{_shown(first)}</th>{values}</tr>')
    return (
        f'<section class="numbers"><h2>{escaped(title)}</h2>'
        f'<div class="wide" role="region" tabindex="0" aria-label="{escaped(title)}"><table class="{css_class}">'
        f"<thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table></div></section>"
    )


Named = Sequence[tuple[str, EvaluationResult]]
"""Results with what they are called; one alone needs no name."""


def score_table(results: Named) -> str:
    """Each metric of each result, one below the other."""
    rows = [_head("Metric", results, *_MEASURED)]
    for metric in results[0][1].metrics:
        # All questions of a run are a group too.
        values = [_of_group(result, metric, list(result.per_query)) for _, result in results]
        rows += _measured_rows(metric, results, values)
    return table("Scores of all questions", rows)


def group_tables(results: Named) -> str:
    """A table for each metric, with a row for each group; "" where the set has no groups."""
    groups = results[0][1].groups
    if len(groups) < 2:
        return ""
    tables: list[str] = []
    for metric in results[0][1].metrics:
        rows = [_head("Group", results, *_MEASURED)]
        for group, ids in groups.items():
            values = [_of_group(result, metric, ids) for _, result in results]
            rows += _measured_rows(group, results, values)
        tables.append(table(f"{metric} by group", rows))
    return "\n".join(tables)


def rank_table(results: Named, dataset: EvaluationSet) -> str:
    """Where the first relevant page stood: how many questions for each range of places."""
    rows = [_head("Place of the first right page", results, "Questions", "Share", "")]
    found = [list(first_places(result, dataset).values()) for _, result in results]
    for first, last in (*_RANKS, (0, 0)):
        counts = [sum(first <= rank <= last for rank in ranks) for ranks in found]
        if not any(counts) and first > 1:
            continue
        for place, count in enumerate(counts):
            share = count / max(1, len(found[place]))
            bar = Cell(share_bar(share, css_class=_color(place)))
            rows.append([*_names(_ranks(first, last), results, place), str(count), f"{share:.0%}", bar])
    return table("How far down the right page stood", rows)


def first_places(result: EvaluationResult, dataset: EvaluationSet) -> dict[str, int]:
    """Question id -> place of its first relevant page, from 1; 0 where none was found. Only where there is one."""
    places: dict[str, int] = {}
    for id_ in result.per_query:
        relevant = set(relevant_pages(dataset.qrels.get(id_, {})))
        if not relevant:  # it cannot be answered, or nobody knows from where: there is nothing to be found
            continue
        places[id_] = 0
        for place, page in enumerate(ranked(result.run.get(id_, {})), start=1):
            if page in relevant:
                places[id_] = place
                break
    return places


def more_tables(result: EvaluationResult) -> str:
    """Evidence, answers against evidence, and the judge, where they were asked for."""
    parts: list[str] = []
    if result.evidence is not None and result.evidence.metrics:
        rows: list[list[str | Cell]] = [["Evidence", *_MEASURED]]
        for metric in result.evidence.metrics:
            rows.append([metric, *_measured(list(result.evidence.values[metric].values()), 0)])
        parts += [table("Evidence of the answers", rows), *map(note, result.evidence.notes)]
    if result.answers_by_evidence is not None:
        parts.append(table("Right answers and right evidence", result.answers_by_evidence.rows()))
    if result.judged is not None:
        parts += [note(result.judged.title()), *map(note, result.judged.notes)]
        if result.judged.agreements:
            parts.append(table("Agreement of the judge with the rules", result.judged.rows()))
    return "\n".join(parts)


def comparison_section(comparisons: Sequence[Comparison], first: str, second: str) -> str:
    """Each metric of two runs, with the interval of the difference."""
    rows: list[list[str | Cell]] = [
        ["Metric", "Questions", first, second, "Difference", "95 % interval", "p", "Better on", "Worse on", ""]
    ]
    for found in comparisons:
        low, high = found.interval
        numbers = [str(found.queries), f"{found.first:.3f}", f"{found.second:.3f}", f"{found.difference:+.3f}"]
        interval, p_value = f"{low:+.3f} to {high:+.3f}", f"{found.p_value:.3f}"
        if found.p_value < 0.001:
            p_value = "< 0.001"
        bar = Cell(difference_bar(found.difference, found.interval))
        rows.append([found.metric, *numbers, interval, p_value, str(found.wins), str(found.losses), bar])
    why = "p: how often chance alone makes a difference this large (paired randomisation test, two-sided)."
    return f"{table(f'{first} against {second}, question by question', rows)}{note(why)}"


def note(text: str) -> str:
    """A line below a table."""
    return f'<p class="note">{escaped(text)}</p>'


def _head(title: str, results: Named, *columns: str | Cell) -> list[str | Cell]:
    if len(results) > 1:
        return [title, "Run", *columns]
    return [title, *columns]


def _names(title: str, results: Named, place: int) -> list[str | Cell]:
    """What a row is about, and of which result; said again below itself for those who hear the table."""
    if len(results) == 1:
        return [title]
    if place:
        return [Cell(f'<span class="again">{escaped(title)}</span>'), results[place][0]]
    return [title, results[place][0]]


def _measured_rows(title: str, results: Named, values: Sequence[Sequence[float]]) -> list[list[str | Cell]]:
    """A row for each result that has values."""
    rows: list[list[str | Cell]] = []
    for place, of_result in enumerate(values):
        if of_result:
            rows.append([*_names(title, results, place), *_measured(of_result, place)])
    return rows


def _of_group(result: EvaluationResult, metric: str, ids: Sequence[str]) -> list[float]:
    """The metric of each question that was asked; another run may have asked fewer, or by other metrics."""
    values: list[float] = []
    for id_ in ids:
        row = result.per_query.get(id_, {})
        if metric in row:
            values.append(row[metric])
    return values


def _measured(values: Sequence[float], place: int) -> list[str | Cell]:
    """Count, mean, interval and bar."""
    average = mean(values)
    low, high = interval = mean_interval(values)
    return [
        str(len(values)),
        f"{average:.3f}",
        f"{low:.3f} to {high:.3f}",
        Cell(share_bar(average, interval, _color(place))),
    ]


def _color(place: int) -> str:
    return ("first", "second")[min(place, 1)]


def _ranks(first: int, last: int) -> str:
    if not first:
        return "not found"
    if last >= 10**9:
        return f"{first} or later"
    if first == last:
        return str(first)
    return f"{first} to {last}"


def _shown(cell: str | Cell) -> str:
    if isinstance(cell, Cell):
        return cell.html
    return escaped(cell)
