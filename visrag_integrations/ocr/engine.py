"""RapidOCR: where the lines of a picture are, and what they say."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from visrag_integrations import images, telemetry
from visrag_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

logger = logging.getLogger(__name__)

# The value of the VisRAG paper's OCR baselines. Lower lets in letters read into pictures and ruled lines; higher loses
# faint and small print.
MIN_SCORE = 0.6
"""Lines that OCR is less sure of are left out."""

# Larger is slower and reads no better; much smaller loses small print.
PIXELS = 960 * 720
"""A page is read at so many pixels (an A4 page at 980 x 700)."""

_lock = threading.Lock()
_threads: int | None = None


class OcrLine(NamedTuple):
    """A line of text as OCR found it.

    Attributes:
        text: What it says.
        score: How sure OCR is, from 0 to 1.
        box: Left, top, right, bottom in pixels.
    """

    text: str
    score: float
    box: tuple[float, float, float, float]

    @property
    def is_tall(self) -> bool:
        """Whether it runs up or down; RapidOCR turns such a line before it reads it."""
        left, top, right, bottom = self.box
        return bottom - top >= 1.5 * (right - left)


def is_installed() -> bool:
    """Whether RapidOCR and what it runs on are installed."""
    return importlib.util.find_spec("rapidocr") is not None and importlib.util.find_spec("onnxruntime") is not None


@functools.lru_cache(maxsize=1)
def warn_missing() -> None:
    """Say once in the log that pages without text stay without, and what to install."""
    logger.warning('Pages without a text layer get no text. For OCR: pip install "visrag-integrations[cpu]"')


def count_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # a container or a batch system may allow fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Let the OCR of this process use so many threads; call it before the first page is read."""
    global _threads
    _threads = threads


def find_and_read(image: Image) -> list[OcrLine]:
    """All lines of an RGB picture as it is, the unsure ones too, in no order.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    with _lock:  # the engine keeps state while it reads
        found = _engine()(_pixels(image), use_det=True, use_rec=True)
    if found.boxes is None or found.txts is None:
        return []
    lines: list[OcrLine] = []
    for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        if text.strip():
            lines.append(OcrLine(text.strip(), float(score), _upright_box(corners)))
    return lines


def find_boxes(image: Image) -> list[tuple[float, float, float, float]]:
    """Where lines are on an RGB picture, in pixels."""
    with _lock:
        found = _engine()(_pixels(image), use_det=True, use_rec=False)
    if found.boxes is None:
        return []
    return [_upright_box(corners) for corners in found.boxes]


def read_line(image: Image) -> tuple[str, float]:
    """What one line says, cut out and upright, and how sure OCR is of it.

    Raises:
        MissingExtraError: RapidOCR is not installed.
    """
    with _lock:
        found = _engine()(_pixels(images.to_rgb(image)), use_det=False, use_rec=True)
    if not found.txts:
        return "", 0.0
    return str(found.txts[0]).strip(), float(found.scores[0])


def _pixels(image: Image) -> NDArray[np.uint8]:
    import numpy as np

    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])  # OCR wants BGR


def _upright_box(corners: Any) -> tuple[float, float, float, float]:
    """The upright box around four corners; a slanted line's is larger than the line."""
    across, down = corners[:, 0], corners[:, 1]
    return float(across.min()), float(down.min()), float(across.max()), float(down.max())


@functools.lru_cache(maxsize=1)
def _engine() -> Any:
    """RapidOCR with the models of its own wheel, on OpenVINO when that is installed."""
    try:
        from rapidocr import EngineType, RapidOCR
    except ImportError as err:
        raise MissingExtraError("RapidOCR", "cpu") from err
    telemetry.switch_off()  # onnxruntime may have been imported before this package was
    params: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.text_score": 0.0,  # unsure lines tell of a page that lies on its side, and are left out later
        "Global.use_cls": False,  # lines that stand on their heads are found for the page as a whole
        "Global.max_side_len": 4000,  # a long strip of `PIXELS` is not scaled down again
        "Rec.rec_batch_num": 1,  # batches are padded to their longest line, which costs more than it saves
    }
    if importlib.util.find_spec("openvino") is not None:
        params |= {"Det.engine_type": EngineType.OPENVINO, "Rec.engine_type": EngineType.OPENVINO}
    threads = _threads or count_cores()
    params["EngineConfig.onnxruntime.intra_op_num_threads"] = threads
    params["EngineConfig.openvino.inference_num_threads"] = threads
    return RapidOCR(params=params)
