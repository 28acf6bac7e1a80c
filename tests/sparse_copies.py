"""Copies of a filled index that stay as small as it is: its files are mostly holes, which a plain copy writes out."""

import shutil
from os import PathLike
from pathlib import Path

BLOCK = 1 << 16


def copy_file(source: str | PathLike[str], target: str | PathLike[str]) -> None:
    """Copy one file, and leave a hole wherever a whole block is zeros."""
    with open(source, "rb") as reading, open(target, "wb") as writing:
        while block := reading.read(BLOCK):
            if block.count(0) == len(block):
                writing.seek(len(block), 1)
            else:
                writing.write(block)
        writing.truncate()
    shutil.copystat(source, target)


def copy_index(source: Path, target: Path) -> Path:
    """Copy a folder that holds an index into `target`, which may be there already."""
    return Path(shutil.copytree(source, target, copy_function=copy_file, dirs_exist_ok=True))
