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
            corpus, queries, qrels = (
                _hub_rows(datasets, name, table, split) for table in ("corpus", "queries", "qrels")
            )
            return corpus, queries, qrels
        return [], _hub_rows(datasets, name, configs[0] if configs else None, split), []
    except DatasetError:
        raise
    except Exception as err:  # whatever the hub's client raises
        raise DatasetError(
            name, f"is no path here, and the hub gives no data set of that name ({type(err).__name__}: {err})"
        ) from err


def _hub_rows(datasets: Any, name: str, config: str | None, split: str) -> list[Row]:
    splits = datasets.get_dataset_split_names(name, config)
    chosen = split if split in splits else splits[0]
    table = datasets.load_dataset(name, config, split=chosen)
    has_image = IMAGE in table.column_names
    rows: list[Row] = (table.remove_columns(IMAGE) if has_image else table).to_list()
    if not has_image:
        return rows
    pictures = table.select_columns(IMAGE).cast_column(IMAGE, datasets.Image(decode=False))
    rows = rows or [{} for _ in range(len(pictures))]
    return [{**row, IMAGE: _hub_picture(pictures, place)} for place, row in enumerate(rows)]


def _hub_picture(table: Any, place: int) -> PictureSource:
    def read() -> bytes:
        data = table[place][IMAGE]
        if not isinstance(data, Mapping) or not isinstance(data.get("bytes"), bytes):
            raise PictureError(f"Row {place + 1} of the data set holds no picture.")
        return bytes(data["bytes"])

    return read
