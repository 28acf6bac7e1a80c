"""LlamaIndex's callbacks and events around the steps of a query, and what they say about a model."""

from __future__ import annotations

from typing import Any, TypeVar

from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.schema import QueryBundle

dispatcher = get_dispatcher(__name__)

GivenResponse = TypeVar("GivenResponse", bound=Response | StreamingResponse | AsyncStreamingResponse)


class ResponseEvents:
    """The events around a step that ends with a response: `with ResponseEvents(...) as end: return end(response)`.

    Args:
        manager: Whose handlers are called.
        kind: `CBEventType.QUERY` or `CBEventType.SYNTHESIZE`.
        query: What was asked.
    """

    def __init__(self, manager: CallbackManager, kind: CBEventType, query: QueryBundle) -> None:
        self._query = query
        self._kind = kind
        self._event = manager.event(kind, payload={EventPayload.QUERY_STR: query.query_str})

    def __enter__(self) -> ResponseEvents:
        # The query event itself comes from LlamaIndex's base class; that of synthesis has to be sent here.
        if self._kind == CBEventType.SYNTHESIZE:
            dispatcher.event(SynthesizeStartEvent(query=self._query))
        self._running = self._event.__enter__()
        return self

    def __call__(self, response: GivenResponse) -> GivenResponse:
        """The response, after the handlers were told about it."""
        self._running.on_end(payload={EventPayload.RESPONSE: response})
        if self._kind == CBEventType.SYNTHESIZE:
            dispatcher.event(SynthesizeEndEvent(query=self._query, response=response))
        return response

    def __exit__(self, *error: Any) -> None:
        self._event.__exit__(*error)


def model_payload(model: Any) -> dict[str, Any]:
    """The model's own description, without secrets; older versions of LlamaIndex have none, and get its names.

    >>> from types import SimpleNamespace
    >>> model_payload(SimpleNamespace(class_name=lambda: "Mine", model_name="small"))
    {'class_name': 'Mine', 'model_name': 'small'}
    """
    if hasattr(model, "to_payload"):
        described: dict[str, Any] = model.to_payload()
        return described
    name = getattr(model, "model_name", None) or getattr(model, "model", "unknown")
    return {"class_name": model.class_name(), "model_name": str(name)}
