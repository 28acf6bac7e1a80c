"""Progress bars: text in a terminal; in a notebook a widget, or text where ipywidgets is not installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from tqdm import tqdm


def in_notebook() -> bool:
    """Whether cells are run here, in Jupyter, VS Code or Colab; IPython in a terminal is none."""
    ipython = sys.modules.get("IPython")  # a notebook's kernel has imported it before anything else
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def progress_bar(shown: bool | None, **settings: Any) -> Any:
    """A tqdm bar.

    `tqdm.auto` is not asked: in a notebook without ipywidgets it warns at its import, and its bar is then hidden.

    Args:
        shown: Whether it is drawn; None: where standard error is a terminal, and in a notebook.
        **settings: tqdm's own: total, unit, desc.
    """
    if not in_notebook():
        # `disable=None` is tqdm's own word for "only where standard error is a terminal".
        hidden = None if shown is None else not shown
        return tqdm(disable=hidden, **settings)
    hidden = shown is False
    if find_spec("ipywidgets") is None:
        return tqdm(disable=hidden, **settings)
    from tqdm.notebook import tqdm as widget

    return widget(disable=hidden, **settings)


def set_total(bar: Any, total: int) -> None:
    """Say how much there is to do, once that is known or has changed.

    The widget takes its end from the first total alone: one that began without would stay a small full square.
    """
    bar.total = total
    parts = getattr(bar, "container", None)  # of the widget: words, bar, words
    if parts is None or total <= 0:
        return
    drawn = parts.children[1]
    drawn.max = total
    drawn.bar_style = ""
    drawn.layout.width = None
