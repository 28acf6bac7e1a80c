"""Whether a page of MuPDF has texts that its file gives in place of letters (`ActualText`)."""

from __future__ import annotations

import functools
from typing import Any


def has_actual_text(drawing: Any) -> bool:
    """Whether the file gives a text in place of letters of a page, wherever it says so (content, forms, structure)."""
    import pymupdf

    mupdf = pymupdf.mupdf
    device = _actual_text_device()()
    mupdf.fz_run_display_list(
        mupdf.FzDisplayList(drawing.this),
        device,
        mupdf.FzMatrix(),
        mupdf.FzRect(mupdf.FzRect.Fixed_INFINITE),
        mupdf.FzCookie(),
    )
    device.fz_close_device()
    return bool(device.found)


@functools.cache
def _actual_text_device() -> Any:
    """A device of MuPDF that draws nothing and hears of nothing but such texts: a fortieth of a millisecond a page."""
    import pymupdf

    class ActualTextDevice(pymupdf.mupdf.FzDevice2):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.use_virtual_begin_metatext()
            self.found = False

        def begin_metatext(self, context: Any, kind: int, text: str) -> None:  # the name is MuPDF's
            self.found = self.found or kind == pymupdf.mupdf.FZ_METATEXT_ACTUALTEXT

    return ActualTextDevice
