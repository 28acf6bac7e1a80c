"""Office and text files: LibreOffice makes a PDF of them, the PDF is read."""

from __future__ import annotations

from visrag_integrations.readers.content import DocumentContent, RenderSettings
from visrag_integrations.readers.pdf import Backend
from visrag_integrations.readers.sources import Source


def open_office(source: Source, settings: RenderSettings, backend: Backend, timeout: float) -> DocumentContent:
    raise NotImplementedError
