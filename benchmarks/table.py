"""The one shape of what a benchmark measured: a row with ours, the raw path in the same run, and what is aimed at.

A script keeps its rows where it prints its figures:

    import table

    table.keep("search: dense", ours=2.4, raw=2.1, unit="ms")

By itself that does nothing; `benchmarks/all.py` names a file in the variable VISRAG_BENCH_ROWS, and reads it then.
"""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROWS = "VISRAG_BENCH_ROWS"
_AIM = re.compile(r"(ours|ratio|difference) (<=|>=) ([0-9.]+)")
_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        name: What was measured; aims are found by it.
        ours: The figure.
        unit: Of both.
        raw: The same by the shortest way there is without this library, measured in the same run; None: there is none.
    """

    name: str
    ours: float
    unit: str = ""
    raw: float | None = None

    @property
    def ratio(self) -> float | None:
        if not self.raw:
            return None
        return self.ours / self.raw


def keep(name: str, ours: float, unit: str = "", raw: float | None = None) -> None:
    """Hand a figure to whoever asked for rows."""
    place = os.environ.get(ROWS)
    if place:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Row(name, ours, unit, raw))) + "\n")


def read(place: Path) -> list[Row]:
    """The rows that were kept there; a last one that is not written to its end yet is none."""
    if not place.is_file():
        return []
    whole, _, _ = place.read_text(encoding="utf-8").rpartition("\n")
    return [Row(**json.loads(line)) for line in whole.splitlines()]


def met(row: Row, aim: str) -> bool:
    """Whether an aim holds: "ratio <= 1.5", "ours >= 250", "difference <= 0.3" (of ours to the raw path).

    >>> met(Row("search", 3.0, "ms", 2.0), "ratio <= 1.5"), met(Row("search", 3.0, "ms", 2.0), "difference <= 0.3")
    (True, False)
    """
    said = _AIM.fullmatch(aim)
    if said is None:
        raise ValueError(f"{aim!r} is no aim; write ratio, ours or difference, then <= or >=, then a number.")
    values = {"ours": row.ours, "ratio": row.ratio}
    if row.raw is not None:
        values["difference"] = row.ours - row.raw
    value = values.get(said[1])
    if value is None:
        raise ValueError(f"{row.name} has no raw path beside it, and its aim is {aim!r}.")
    return bool(_COMPARE[said[2]](value, float(said[3])))


def markdown(rows: Iterable[Row], aims: dict[str, str]) -> str:
    """Rows as a table; of those with an aim, whether it is met."""
    lines = ["| | ours | raw path | ratio | aim | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(line_of(row, aims.get(row.name)))
    return "\n".join(lines)


def line_of(row: Row, aim: str | None = None) -> str:
    """One row of the table."""
    cells = [row.name, _number(row.ours, row.unit), "", "", "", ""]
    if row.raw is not None:
        cells[2] = _number(row.raw, row.unit)
    if row.ratio is not None:
        cells[3] = f"{row.ratio:.2f} x"
    if aim is not None:
        cells[4:] = [aim, "yes" if met(row, aim) else "NO"]
    return "| " + " | ".join(cells) + " |"


def _number(value: float, unit: str) -> str:
    digits = 4 if abs(value) < 2 else 2  # cosines are told apart by their last digits
    if abs(value) >= 100 or value == int(value):
        digits = 0
    return f"{value:,.{digits}f} {unit}".strip()
