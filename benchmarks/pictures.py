"""What a stored page picture costs by format: size, and time to write and to open it.

    python benchmarks/pictures.py samples/*.pdf

The store keeps JPEG of quality 85 unless told otherwise (`picture_format`, `picture_quality`). `error` is the root mean
square difference to the drawn pixels, of 255; what is embedded is the drawn pixels, never the stored file.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from visrag_integrations import PageReader, images

FORMATS = [("JPEG", 75), ("JPEG", 85), ("JPEG", 95), ("WEBP", 80), ("WEBP", 90), ("PNG", 0)]


def timed(work: Callable[[], object]) -> tuple[float, object]:
    started = time.thread_time()
    result = work()
    return time.thread_time() - started, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("documents", nargs="+")
    parser.add_argument("--pages", type=int, default=8, help="of each document")
    arguments = parser.parse_args()
    drawn = [
        page.open_image()
        for path in arguments.documents
        for page in PageReader(ocr="never", pages=f"1-{arguments.pages}").read(path)
    ]
    print(
        f"{len(drawn)} pages, median {statistics.median(p.width * p.height for p in drawn) / 1e6:.2f} million pixels\n"
    )
    print("| format | KB a page | ms to write | ms to open | error |\n|---|---|---|---|---|")
    for kind, quality in FORMATS:
        rows = []
        for page in drawn:
            write, data = timed(partial(images.encode, page, kind, quality))
            assert isinstance(data, bytes)
            read, opened = timed(partial(images.open_picture, data))
            assert isinstance(opened, Image.Image)
            off = np.asarray(opened.convert("RGB"), np.float32) - np.asarray(page.convert("RGB"), np.float32)
            rows.append((len(data) / 1e3, write * 1e3, read * 1e3, float(np.sqrt((off**2).mean()))))
        size, write, read, error = (statistics.median(column) for column in zip(*rows, strict=True))
        name = kind if kind == "PNG" else f"{kind} {quality}"
        print(f"| {name} | {size:.0f} | {write:.0f} | {read:.0f} | {error:.1f} |")


if __name__ == "__main__":
    main()
