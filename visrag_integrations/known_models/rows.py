"""One known model, and one way to get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["embedder", "reranker", "generator"]
_BYTES_EACH = 2  # of a parameter in bfloat16, as models of this size are loaded on a GPU


@dataclass(frozen=True)
class Way:
    """One way to get a model.

    Attributes:
        name: "in process", "sentence-transformers" (in process too, through that library) or "vLLM" (a server).
        extra: The extra of this library that it needs; "" for none.
        code: What to type.
    """

    name: Literal["in process", "sentence-transformers", "vLLM"]
    extra: str
    code: str


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model; "" where nothing is.

    Attributes:
        name: On the hub; or what `load_embedder` and `load_generator` call it.
        role: What it is for.
        ways: How to get it, the simplest first.
        parameters: In millions, an adapter's with its base; 0 where it is not known, or the model is none of weights.
        licence: Of the weights.
        languages: Those it was made for.
        vectors: Of an embedder: "single" (one a page) or "multi" (many a page).
        dimension: Numbers of a vector; 0 where it is not known.
        score: A published one, by the benchmark's name.
        speed: Measured here, where it ran.
        needs_gpu: Whether it is too slow to be of use without one.
        note: What else must be known before it is chosen.
    """

    name: str
    role: Role
    ways: tuple[Way, ...]
    parameters: float = 0
    licence: str = ""
    languages: str = ""
    vectors: Literal["", "single", "multi"] = ""
    dimension: int = 0
    score: str = ""
    speed: str = ""
    needs_gpu: bool = True
    note: str = ""

    @property
    def size(self) -> str:
        """Its parameters, for people.

        >>> KnownModel("a", "embedder", (), parameters=70).size, KnownModel("b", "embedder", (), parameters=7570).size
        ('70 M', '7.57 B')
        """
        if not self.parameters:
            return ""
        if self.parameters < 1000:
            return f"{self.parameters:g} M"
        return f"{self.parameters / 1000:g} B"

    @property
    def memory(self) -> str:
        """What its weights take in bfloat16: two bytes a parameter. What it computes with comes on top.

        >>> KnownModel("a", "embedder", (), parameters=3400).memory
        '6.8 GB'
        """
        if not self.parameters:
            return ""
        return f"{self.parameters * _BYTES_EACH / 1000:.1f} GB"

    @property
    def kind(self) -> str:
        """Its vectors, for people: how many a page, and of how many numbers."""
        if self.vectors and self.dimension:
            return f"{self.vectors}, {self.dimension}"
        return self.vectors

    def as_dict(self) -> dict[str, Any]:
        """What `visrag models --json` prints; None where nothing is known."""
        return {
            "name": self.name,
            "role": self.role,
            "parameters": int(self.parameters * 1_000_000) or None,
            "memory_bytes": int(self.parameters * 1_000_000) * _BYTES_EACH or None,
            "licence": self.licence or None,
            "languages": self.languages or None,
            "vectors": self.vectors or None,
            "dimension": self.dimension or None,
            "score": self.score or None,
            "speed": self.speed or None,
            "needs_gpu": self.needs_gpu,
            "ways": [{"name": way.name, "extra": way.extra or None, "code": way.code} for way in self.ways],
            "note": self.note or None,
        }
