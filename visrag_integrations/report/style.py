"""The style of everything that is shown: report.css."""

from __future__ import annotations

from importlib import resources


def style() -> str:
    """The style of reports; every rule of it is about what is inside an element of the class "visrag"."""
    return resources.files("visrag_integrations.report").joinpath("report.css").read_text(encoding="utf-8")
