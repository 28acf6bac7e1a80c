"""How EVisRAG's authors let it write, and a call's own settings on top of that."""

from __future__ import annotations

import dataclasses

from visrag_integrations.errors import SettingError
from visrag_integrations.types import GenerationSettings

PUBLISHED = GenerationSettings(max_tokens=2048, temperature=0.1, repetition_penalty=1.05)
"""The published sampling settings."""
MAX_IMAGES = 5
"""Pictures in one conversation, as published."""
MAX_CONTEXT = 32768
"""Tokens of one conversation and its answer, where a model would take even more."""


def over(settings: GenerationSettings | None, defaults: GenerationSettings) -> GenerationSettings:
    """The settings, with what they leave open taken from the defaults.

    >>> filled = over(GenerationSettings(temperature=0.0), PUBLISHED)
    >>> filled.max_tokens, filled.temperature
    (2048, 0.0)

    Raises:
        SettingError: A value is outside what is allowed.
    """
    if settings is None:
        return _checked(defaults)
    given = {
        field.name: value
        for field in dataclasses.fields(settings)
        if (value := getattr(settings, field.name)) is not None and value is not False and value != ()
    }
    return _checked(dataclasses.replace(defaults, **given))


def _checked(settings: GenerationSettings) -> GenerationSettings:
    allowed = {
        "max_tokens": (settings.max_tokens is None or settings.max_tokens >= 1, "1 or more"),
        "temperature": (settings.temperature is None or settings.temperature >= 0, "0 (greedy) or more"),
        "top_p": (settings.top_p is None or 0 < settings.top_p <= 1, "above 0 and at most 1"),
        "repetition_penalty": (
            settings.repetition_penalty is None or settings.repetition_penalty > 0,
            "above 0; 1.0 is none",
        ),
        "json_schema": (settings.json_schema is None or not settings.guided, "left out when guided=True"),
    }
    for name, (fine, rule) in allowed.items():
        if not fine:
            raise SettingError(f"{name} is {getattr(settings, name)!r}; it must be {rule}.")
    return settings
