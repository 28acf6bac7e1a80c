"""Requests made from the server's own OpenAPI, such as fit it and such as do not: every answer is one that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastapi  # noqa: F401  (what these tests need)
import pytest
import schemathesis
from fakes import PixelEmbedder
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from web_server import library

from visrag_integrations import QdrantPageStore, VisRAG, load_generator
from visrag_integrations.servers.http import ServeSettings, create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
]
TAKING = [
    ("GET", "/search"),
    ("POST", "/search"),
    ("POST", "/ask"),
    ("GET", "/pages/{page_id}"),
    ("GET", "/pages/{page_id}/image"),
]
PLAIN = [("GET", "/health"), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics")]
REAL_PAGE: list[str] = []


@pytest.fixture(scope="module")
def described() -> Iterator[Any]:
    with QdrantPageStore(":memory:") as store:
        retriever = library(store, PixelEmbedder())
        REAL_PAGE[:] = [next(store.scroll()).id]
        rag = VisRAG(retriever, load_generator("extractive"))
        app = create_app(retriever, rag, ServeSettings(request_seconds=60, max_pixels=100_000))
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_is_tried(described: Any) -> None:
    assert {(operation.ok().method.upper(), operation.ok().path) for operation in described.get_all_operations()} == {
        *TAKING,
        *PLAIN,
    }


@pytest.mark.parametrize("operation", TAKING, ids=" ".join)
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_one_that_openapi_names(
    described: Any, operation: tuple[str, str], mode: schemathesis.GenerationMode
) -> None:
    method, path = operation

    @settings(
        max_examples=100,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        if str(case.path_parameters.get("page_id", "")).endswith(tuple("02468ace")):
            case.path_parameters["page_id"] = REAL_PAGE[0]
        case.call_and_validate(checks=CHECKS)

    check()


@pytest.mark.parametrize("operation", PLAIN, ids=" ".join)
def test_operations_that_take_nothing(described: Any, operation: tuple[str, str]) -> None:
    method, path = operation
    described[path][method].Case().call_and_validate(checks=CHECKS)
