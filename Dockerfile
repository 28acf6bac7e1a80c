# visrag serve, for compose.yaml: Qdrant keeps the pages, vLLM answers.
#
# PyMuPDF, which is in this image, is licensed under the AGPL (or commercially). To build one with PDFium only:
#   docker build --build-arg PDF=pdfium .
FROM python:3.11-slim

ARG PDF=pymupdf

# Chromium for web pages, LibreOffice for office files, bubblewrap as the wall around it, fonts for both.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        bubblewrap \
        chromium \
        fonts-dejavu \
        fonts-liberation2 \
        libgl1 \
        libglib2.0-0 \
        libreoffice-calc \
        libreoffice-impress \
        libreoffice-writer \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/visrag
COPY pyproject.toml hatch_build.py README.md LICENSE CHANGELOG.md ./
COPY samples samples
COPY visrag_integrations visrag_integrations
RUN pip install --no-cache-dir ".[cpu,pdfium,office,openai,serve]" \
    && if [ "$PDF" = "pdfium" ]; then pip uninstall --yes pymupdf; fi

# Not root: Chromium's own sandbox refuses to start for it, and nothing here needs its rights.
RUN useradd --create-home --uid 1000 visrag && mkdir /data && chown visrag /data
USER visrag
WORKDIR /data

EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=5 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://localhost:8000/health/ready', timeout=4)"]
ENTRYPOINT ["visrag"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
