"""How EVisRAG's authors let it write, and a call's own settings on top of that."""

from __future__ import annotations

import dataclasses

from visrag_integrations.errors import SettingError
from visrag_integrations.types import GenerationSettings

PUBLISHED = GenerationSettings(max_tokens=2048, temperature=0.1, repetition_penalty=1.05)
"""The published sampling settings."""
MAX_IMAGES = 5
"""Pictures in one conversation, as published."""
# It protects memory: vLLM must hold a whole context in its cache, and a network that takes 128,000 tokens would ask for
# four times as much. Lower, and pages are shown smaller (`chat.PromptWriter`).
MAX_CONTEXT = 32768
"""Tokens of one conversation and its answer, where a model would take even more."""


def with_defaults(settings: GenerationSettings | None, defaults: GenerationSettings) -> GenerationSettings:
    """The settings, with what they leave open taken from the defaults.

    >>> filled = with_defaults(GenerationSettings(temperature=0.0), PUBLISHED)
    >>> filled.max_tokens, filled.temperature
    (2048, 0.0)

    Raises:
        SettingError: A value is outside what is allowed.
    """
    if settings is None:
        return _checked(defaults)
    given = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value is not None and value is not False and value != ():  # 0.0 is given: it is the greedy temperature
            given[field.name] = value
    return _checked(dataclasses.replace(defaults, **given))


def _checked(settings: GenerationSettings) -> GenerationSettings:
    tokens, temperature, top_p = settings.max_tokens, settings.temperature, settings.top_p
    penalty = settings.repetition_penalty
    if tokens is not None and tokens < 1:
        raise SettingError(f"max_tokens is {tokens!r}; it must be 1 or more.")
    if temperature is not None and not temperature >= 0:
        raise SettingError(f"temperature is {temperature!r}; it must be 0 (greedy) or more.")
    if top_p is not None and not 0 < top_p <= 1:
        raise SettingError(f"top_p is {top_p!r}; it must be above 0 and at most 1.")
    if penalty is not None and not penalty > 0:
        raise SettingError(f"repetition_penalty is {penalty!r}; it must be above 0; 1.0 is none.")
    if settings.json_schema is not None and settings.guided:
        raise SettingError(f"json_schema is {settings.json_schema!r}; it must be left out when guided=True.")
    return settings
