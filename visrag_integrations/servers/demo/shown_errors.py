"""Errors as the page shows them, and what came from a browser as what it should be."""

from __future__ import annotations

import logging
from typing import Any

import gradio as gr

from visrag_integrations.errors import FilterError, SettingError, UnknownNameError, VisRAGError
from visrag_integrations.servers.demo import fragments
from visrag_integrations.servers.web.public import public_error

logger = logging.getLogger(__name__)

UNFORESEEN = "Something went wrong; the log of the server says what."


def typed(value: Any) -> str:
    """What somebody typed or chose; "" for anything else: a file sent in its place would come back with its path."""
    return value if isinstance(value, str) else ""


def in_words(error: Exception) -> str:
    """What is wrong, without the paths of this machine or the addresses of other servers: those are for the log."""
    if isinstance(error, (SettingError, UnknownNameError, FilterError)):
        return str(error)  # what the visitor did
    logger.warning("shown to a visitor in short: %s", error)
    if isinstance(error, VisRAGError):
        return public_error(error).message
    if isinstance(error, OSError):
        return error.strerror or "The file system failed."
    return UNFORESEEN


def shown(error: Exception) -> gr.Error:
    """What Gradio shows in a corner of the page."""
    return gr.Error(fragments.escaped(in_words(error)), print_exception=False)
