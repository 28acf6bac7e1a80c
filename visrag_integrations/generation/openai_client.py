"""The client of an OpenAI-compatible server: made from its URL, or from a client that the caller has."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from visrag_integrations.errors import SettingError
from visrag_integrations.fetching import without_credentials
from visrag_integrations.generation.openai_errors import openai
from visrag_integrations.generation.openai_retries import TellsOfRetries


def make_client(source: Any, options: dict[str, Any]) -> Any:
    """An asynchronous client.

    Args:
        source: The server's URL, or a client of the openai package: an asynchronous one is taken as it is, of another
            one its settings.
        options: `api_key`, `timeout` and `max_retries`, for a URL.
    """
    if isinstance(source, openai.AsyncOpenAI):
        return source
    if isinstance(source, openai.OpenAI):
        return openai.AsyncOpenAI(
            api_key=source.api_key,
            base_url=source.base_url,
            timeout=source.timeout,
            max_retries=source.max_retries,
            default_headers=source._custom_headers,
        )
    # The client refuses to be made without a key; servers of one's own ignore it.
    key = options["api_key"] or os.environ.get("OPENAI_API_KEY") or "none"
    transport = openai.DefaultAsyncHttpxClient(event_hooks={"request": [TellsOfRetries()]})
    address = completed_url(str(source))
    return openai.AsyncOpenAI(base_url=address, http_client=transport, **{**options, "api_key": key})


def completed_url(url: str) -> str:
    """The URL of the server's interface; without a path it is "/v1".

    >>> completed_url("http://localhost:8000"), completed_url("http://host/api/v3/")
    ('http://localhost:8000/v1', 'http://host/api/v3/')

    Raises:
        SettingError: It is no http or https URL, or has a model's name behind "#".
    """
    no_url = f'{without_credentials(url)!r} is no URL of a server. Give one such as "http://localhost:8000/v1".'
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - one that is no number, or too large, is refused when it is asked for
    except ValueError as err:
        raise SettingError(no_url) from err
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingError(no_url)
    if parts.fragment:  # it would not be sent, and the server's only model would answer in place of this one
        raise SettingError(
            f"{without_credentials(url)!r} names a model as the command line does. Here: "
            f"load_generator({without_credentials(url.partition('#')[0])!r}, model={parts.fragment!r})."
        )
    if parts.path in {"", "/"}:
        return urlunsplit(parts._replace(path="/v1"))
    return url
