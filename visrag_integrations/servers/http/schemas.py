"""What requests and answers look like; OpenAPI is made from this."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from visrag_integrations.servers.web.schemas import BoxesField, MissingField, SupportField, VerdictField
from visrag_integrations.types import Mode

PAGE_ID = "8f2b6f0e-5d0c-5b0e-9a43-0c8f4a4f9b1d"
_FILTER = "Metadata the pages must have: a value, a list of values, or a range. `source` takes a path or a file name."
_REF: dict[str, Any] = {
    "id": PAGE_ID,
    "doc_id": "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
    "source": "reports/report-2024.pdf",
    "page": 12,
    "image": f"http://127.0.0.1:8000/pages/{PAGE_ID}/image",
}
_HIT = {**_REF, "score": 0.71, "score_type": "fused"}
_ANSWER = {
    "question": "How many packages are there?",
    "answer": "12",
    "sufficient": True,
    "evidence": [
        {
            "index": 1,
            "page": _REF,
            "text": "The table counts 12 packages.",
            "relevant": True,
            "verdict": "partly",
            "support": 0.8,
            "boxes": [[0.1, 0.2, 0.4, 0.22]],
            "missing": ["counts"],
        }
    ],
    "thinking": "The first page holds the table.",
    "observation": "A page with a table.",
    "pages": [_HIT],
    "problems": [],
}


def _example(value: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class PageRef(BaseModel):
    """A page of the index."""

    model_config = _example(_REF)
    id: str = Field(description="Of the page; its picture and text are at /pages/{id}.")
    doc_id: str = Field(description="Of its document.")
    source: str = Field(description="The document's path or URI; of an absolute path only the file's name.")
    page: int = Field(description="The page's number, from 1.")
    image: str | None = Field(description="The address of its picture; null where none is kept.")


class Hit(PageRef):
    """A page that was found."""

    model_config = _example(_HIT)
    score: float = Field(description="Higher is better; comparable within one answer.")
    score_type: str = Field(description="cosine, maxsim, bm25, fused or rerank.")


class DetailedHit(Hit):
    """A page that was found, with everything that is known of it."""

    text: str = Field(description="The page's text.")
    metadata: dict[str, Any] = Field(description="What else is known of it.")


class SearchRequest(BaseModel):
    """A search by text, by picture, or by both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "torque of the M8 bolts", "top_k": 3}]},
    )
    text: str = Field("", description="What to search for.")
    image: str | None = Field(None, description="A picture to search by: base64 or a data URL. Nothing is fetched.")
    top_k: int = Field(5, ge=1, description="At most so many pages.")
    filter: dict[str, Any] | None = Field(None, description=_FILTER, examples=[{"source": "report-2024.pdf"}])
    mode: Mode | None = Field(None, description="dense: by vectors; lexical: by words; hybrid: by both.")
    score_threshold: float | None = Field(None, allow_inf_nan=False, description="For mode dense: the least score.")
    details: bool = Field(False, description="Give each page's text and metadata, too.")


class SearchAnswer(BaseModel):
    """The pages that fit, best first."""

    model_config = _example({"pages": [_HIT]})
    pages: list[DetailedHit | Hit]
    note: str | None = Field(None, description="Where a filter fits no page: which key or value is unknown here.")


class RankedImage(BaseModel):
    """A page as VRAG's search engine gives it: its rank and its picture."""

    model_config = _example({"idx": 0, "image_file": _REF["image"], "score": 0.71, "id": PAGE_ID})
    idx: int = Field(description="The rank, from 0.")
    image_file: str | None = Field(description="The address of the picture; its path where the server was started so.")
    score: float
    id: str = Field(description="Of the page.")


class PageDetails(PageRef):
    """Everything that is known of a page."""

    model_config = _example({**_REF, "text": "Table 3: ...", "metadata": {"total_pages": 40}})
    text: str
    metadata: dict[str, Any]


class AskRequest(BaseModel):
    """A question."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question": "How many packages are there?", "top_k": 3}]},
    )
    question: str = Field(min_length=1, description="The question.")
    top_k: int | None = Field(None, ge=1, description="How many pages are read.")
    filter: dict[str, Any] | None = Field(None, description=_FILTER)
    stream: bool = Field(False, description="Answer with server-sent events while the answer is written.")
    agent: bool = Field(False, description="Let the model search and look closer by itself; top_k does not count then.")
    strategy: str | None = Field(
        None,
        max_length=50,
        description="How the pages are shown: multi_image, image_and_text, page_concatenation, weighted_selection or "
        "text; as the server was started, where it is left out.",
    )


class EvidenceItem(BaseModel):
    """What was found on one of the pages that were read."""

    index: int = Field(description="The page's place among those that were read, from 1, as the model counts.")
    page: PageRef | None
    text: str
    relevant: bool
    verdict: VerdictField = None
    support: SupportField = None
    boxes: BoxesField = []
    missing: MissingField = []


class AskAnswer(BaseModel):
    """An answer with the evidence it rests on."""

    model_config = _example(_ANSWER)
    question: str
    answer: str
    sufficient: bool = Field(description="False where the pages do not hold the answer.")
    evidence: list[EvidenceItem]
    thinking: str
    observation: str
    pages: list[Hit] = Field(description="The pages that were read, best first.")
    problems: list[str] = Field(description="What was off in the model's text.")


class ShownRef(PageRef):
    """A page, or a part of it, as the model saw it."""

    region: list[float] = Field(description="Which part: left, top, right, bottom, as fractions of the page.")
    size: list[int] = Field(description="Width and height in pixels; boxes are given in these.")


class AgentStep(BaseModel):
    """What the model did in a turn, and what it was shown for it."""

    turn: int = Field(description="From 1.")
    kind: str = Field(description="thought, search, crop or finish.")
    text: str = Field(description="What was thought or searched for; of a crop the box, of a finish why the run ended.")
    shown: list[ShownRef]
    told: str = Field(description="What the model was told beside it.")
    problems: list[str] = Field(description="What was off in its turn, by name.")


class AgentAnswer(AskAnswer):
    """An answer of the agent, with the steps that led to it."""

    reason: str = Field(description="answered, or the budget that was used up: turns, tokens, pictures, context.")
    steps: list[AgentStep]


class Health(BaseModel):
    """Whether the server can answer."""

    model_config = _example({"status": "ok"})
    status: str = Field(description="ok, or unavailable.")


class ErrorDetail(BaseModel):
    """What happened."""

    type: str = Field(description="For programs.")
    message: str = Field(description="For people: what happened, what is allowed, what to do.")


class ErrorAnswer(BaseModel):
    """Every error has this shape."""

    model_config = _example({"error": {"type": "invalid_request", "message": "top_k is 900; at most 50 are allowed."}})
    error: ErrorDetail
