"""Draw the pictures of README: ask a question of the samples, and photograph the report in Chromium.

python docs/pictures/draw.py
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from visrag_integrations import (
    PageRetriever,
    QdrantPageStore,
    VisRAG,
    index_documents,
    load_embedder,
    load_generator,
    samples,
)
from visrag_integrations.report import answer_to_html

HERE = Path(__file__).parent
QUESTION = "What is the default value of groupSpacing?"
SIZE = (1280, 800)  # what a laptop shows at once
MOST_BYTES = 300_000  # of a picture that README shows


def answer_page(folder: Path) -> Path:
    """The report on one question, as an HTML file."""
    embedder = load_embedder("ocr")
    with QdrantPageStore(folder / "index") as store:
        index_documents(samples(), store=store, embedder=embedder)
        answer = VisRAG(PageRetriever(embedder, store), load_generator("extractive")).ask(QUESTION)
        html = answer_to_html(QUESTION, answer)
    path = folder / "answer.html"
    path.write_text(html, encoding="utf-8")
    return path


def photograph(page: Path, picture: Path) -> None:
    """What Chromium shows of a page, in few enough colours to be small."""
    chromium = ["chromium", "--headless", "--hide-scrollbars", "--force-device-scale-factor=1.5"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # the page is our own, and root has no sandbox
        chromium.append("--no-sandbox")
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    subprocess.run([*chromium, size, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    with Image.open(picture) as drawn:
        small = drawn.convert("RGB").quantize(128)
    small.save(picture, optimize=True)
    size_now = picture.stat().st_size
    assert size_now < MOST_BYTES, f"{picture} takes {size_now} bytes"
    print(f"{picture}: {size_now} bytes")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        photograph(answer_page(Path(scratch)), HERE / "answer.png")
