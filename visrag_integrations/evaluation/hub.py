"""Data sets on the Hugging Face hub, through the `datasets` package; pictures are decoded by us, when needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visrag_integrations.errors import DatasetError, MissingExtraError, PictureError
from visrag_integrations.evaluation.tables import IMAGE, Row
from visrag_integrations.images import PictureSource


def hub_tables(name: str, split: str) -> tuple[list[Row], list[Row], list[Row]]:
    """(corpus, queries, qrels) of a data set on the hub; (nothing, its rows, nothing) where it has one table.

    The `datasets` package finds it, in its cache or on the net.
    """
    try:
        import datasets
    except ImportError as err:
        raise MissingExtraError("datasets, which finds sets by name,", "eval") from err
    try:
        configs = datasets.get_dataset_config_names(name)
        if {"corpus", "queries", "qrels"} <= set(configs):
            corpus = _hub_rows(datasets, name, "corpus", split)
            queries = _hub_rows(datasets, name, "queries", split)
            return corpus, queries, _hub_rows(datasets, name, "qrels", split)
        first = configs[0] if configs else None
        return [], _hub_rows(datasets, name, first, split), []
    except DatasetError:
        raise
    except Exception as err:  # whatever the hub's client raises
        raise DatasetError(
            name, f"is no path here, and the hub gives no data set of that name ({type(err).__name__}: {err})"
        ) from err


def _hub_rows(datasets: Any, name: str, config: str | None, split: str) -> list[Row]:
    splits = datasets.get_dataset_split_names(name, config)
    # A set with one part only is that part, whatever it is called.
    if split not in splits:
        split = splits[0]
    table = datasets.load_dataset(name, config, split=split)
    if IMAGE not in table.column_names:
        rows: list[Row] = table.to_list()
        return rows
    # Not decoded: each picture is opened when it is needed, and by our own rules.
    pictures = table.select_columns(IMAGE).cast_column(IMAGE, datasets.Image(decode=False))
    rows = table.remove_columns(IMAGE).to_list()
    if not rows:  # a table of pictures only
        rows = [{} for _ in range(len(pictures))]
    for place, row in enumerate(rows):
        row[IMAGE] = _hub_picture(pictures, place)
    return rows


def _hub_picture(table: Any, place: int) -> PictureSource:
    def read() -> bytes:
        data = table[place][IMAGE]
        if not isinstance(data, Mapping) or not isinstance(data.get("bytes"), bytes):
            raise PictureError(f"Row {place + 1} of the data set holds no picture.")
        return bytes(data["bytes"])

    return read
