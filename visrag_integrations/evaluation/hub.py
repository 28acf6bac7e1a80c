"""Data sets on the Hugging Face hub, through the `datasets` package; pictures are decoded by us, when needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visrag_integrations.errors import DatasetError, MissingExtraError, PictureError
from visrag_integrations.evaluation.parts import Tables
from visrag_integrations.evaluation.tables import IMAGE, Row
from visrag_integrations.images import PictureSource


def hub_tables(name: str, split: str) -> Tables:
    """The tables (configs) of a data set on the hub; the `datasets` package finds it, in its cache or on the net.

    Raises:
        DatasetError: The hub gives no data set of that name; or, when rows are read, it has no such split.
        MissingExtraError: `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as err:
        raise MissingExtraError("datasets, which finds sets by name,", "eval") from err
    try:
        names = tuple(datasets.get_dataset_config_names(name))
    except Exception as err:  # whatever the hub's client raises
        raise DatasetError(
            name, f"is no path here, and the hub gives no data set of that name ({type(err).__name__}: {err})"
        ) from err

    def rows(config: str) -> list[Row]:
        try:
            return _hub_rows(datasets, name, config, split)
        except DatasetError:
            raise
        except Exception as err:  # as above
            raise DatasetError(
                name, f"its table {config} cannot be read ({type(err).__name__}: {err}). Is the net there?"
            ) from err

    return Tables(name, names, rows)


def _hub_rows(datasets: Any, name: str, config: str, split: str) -> list[Row]:
    splits = datasets.get_dataset_split_names(name, config)
    if split not in splits:
        # A table with one part only is that part, whatever it is called; of several, none is guessed.
        if len(splits) != 1:
            raise DatasetError(
                name, f"{config} has no split {split!r}; there is {', '.join(splits)}. Say which: split=... (--split)."
            )
        split = splits[0]
    return table_rows(datasets.load_dataset(name, config, split=split))


def table_rows(table: Any) -> list[Row]:
    """The rows of a `datasets.Dataset`; pictures in them become sources that are opened when needed."""
    import datasets

    rows: list[Row]
    if IMAGE not in table.column_names:
        rows = table.to_list()
        return rows
    # Not decoded: each picture is opened when it is needed, and by our own rules.
    pictures = table.select_columns(IMAGE).cast_column(IMAGE, datasets.Image(decode=False))
    others = table.remove_columns(IMAGE).to_list()
    rows = []
    for place in range(len(pictures)):
        row: Row = {}
        if others:  # none in a table of pictures only
            row.update(others[place])
        row[IMAGE] = _hub_picture(pictures, place)
        rows.append(row)
    return rows


def _hub_picture(table: Any, place: int) -> PictureSource:
    def read() -> bytes:
        data = table[place][IMAGE]
        if not isinstance(data, Mapping) or not isinstance(data.get("bytes"), bytes):
            raise PictureError(f"Row {place + 1} of the data set holds no picture.")
        return bytes(data["bytes"])

    return read
