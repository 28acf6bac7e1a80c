"""`cpu-visual`: pages searched as pictures on a processor: ColModernVBERT on smaller pictures, with int8 weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from visrag_integrations.embedders.colmodernvbert import ColModernVBertEmbedder
from visrag_integrations.embedders.devices import at_least_one
from visrag_integrations.embedders.fast_cpu import Precision, best_precision, make_fast
from visrag_integrations.types import Mode

CHECKPOINT = "ModernVBERT/colmodernvbert-merged"
NAME = "cpu-visual"
# An A4 page of 1024 pixels is four tiles of 512 and an overview: five times the work of 512 pixels, where small print
# is blurred, and two fifths of the work of 2048 pixels, which is the model's own size.
LONGEST_EDGE = 1024


class CPUVisualEmbedder(ColModernVBertEmbedder):
    """ColModernVBERT as a processor can have it; searched together with the words of the pages by default.

    Attributes:
        default_mode: "hybrid": the model is small, and finds more with the words.
        precision: What it computes in.
    """

    default_mode: ClassVar[Mode] = "hybrid"

    def __init__(
        self,
        model_name_or_path: str | Path | None = None,
        *,
        longest_edge: int = LONGEST_EDGE,
        precision: Precision | None = None,
        **settings: Any,
    ) -> None:
        """Load the checkpoint.

        Args:
            model_name_or_path: A folder, or a name on the hub; `CHECKPOINT` when None.
            longest_edge: Pixels to which a page's picture is brought before it is cut into tiles.
            precision: "int8", "bfloat16" or "float32"; int8 where this torch has it when None.
            **settings: Those of `TransformersEmbedder`; device, dtype and batch size are given.

        Raises:
            CheckpointError: The checkpoint is not there, not whole, or not of this architecture.
            SettingError: A setting is not allowed.
        """
        at_least_one(longest_edge=longest_edge)
        self.precision: Precision = precision or best_precision()
        self.longest_edge = longest_edge
        # One page at a time: what is made int8 together shares its scale, and a page would depend on its neighbours.
        fixed = {"device": "cpu", "dtype": "float32", "batch_size": 1}
        super().__init__(model_name_or_path or CHECKPOINT, **{**settings, **fixed})
        self._processor.image_processor.size = {"longest_edge": longest_edge}
        self.name = NAME

    @property
    def fingerprint(self) -> str:
        """The checkpoint's, and the size of pictures: vectors of two sizes are not of one index."""
        return f"{super().fingerprint}-{self.longest_edge}px"

    def _set_up(self, model: Any) -> Any:
        return make_fast(super()._set_up(model), self.precision)
