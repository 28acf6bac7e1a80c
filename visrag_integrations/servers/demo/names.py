"""Names that strangers chose, made safe: of files for every file system, of knowledge bases for people.

Whatever comes out has no way to leave the folder it is put into.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection

from visrag_integrations.errors import SettingError

MAX_FILE_NAME = 180
"""Bytes of a file name; file systems take 255, and a number may be added."""
MAX_BASE_NAME = 60
"""Characters of a knowledge base's name."""

# U+200C and U+200D hold letters together or apart; without them, words of these scripts are misspelt.
_JOINERS = "\u200c\u200d"
_FORBIDDEN = str.maketrans(dict.fromkeys('<>:"|?*', "_"))  # in file names of Windows
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$", re.IGNORECASE)  # devices on Windows


def safe_file_name(given: str) -> str:
    """The last part of a path as a name that is allowed everywhere; letters of all scripts stay.

    >>> safe_file_name("../../etc/passwd"), safe_file_name("C:\\\\x\\\\Résumé 2024.pdf"), safe_file_name("aux.txt")
    ('passwd', 'Résumé 2024.pdf', '_aux.txt')
    """
    name = _printable(given.replace("\\", "/").rpartition("/")[2])
    name = name.translate(_FORBIDDEN)
    # "~$draft.docx" is the name of Word's lock files, which are passed over when a folder is indexed.
    name = name.strip(" .").removeprefix("~$")
    stem, suffix = _split(name)
    stem = _cut(stem, MAX_FILE_NAME - len(suffix.encode())).rstrip(" .") or "document"
    if _RESERVED.match(stem.partition(".")[0].rstrip()):
        stem = f"_{stem}"
    return stem + suffix


def unused_name(name: str, taken: Collection[str]) -> str:
    """The name, with a number where another file has it already; capitals make no difference, as on some systems.

    >>> unused_name("a.pdf", ["A.pdf", "a (2).pdf"])
    'a (3).pdf'
    """
    folded = {other.casefold() for other in taken}
    stem, suffix = _split(name)
    number, tried = 1, name
    while tried.casefold() in folded:
        number += 1
        tried = f"{stem} ({number}){suffix}"
    return tried


def base_name(given: str) -> str:
    """The name of a knowledge base as it is shown.

    Raises:
        SettingError: It is empty or too long.
    """
    name = " ".join(_printable(given.replace("\n", " ").replace("\t", " ")).split())
    if not name.strip(_JOINERS):
        raise SettingError("The name is empty. Type one, for example: Contracts 2024.")
    if len(name) > MAX_BASE_NAME:
        raise SettingError(f"The name has {len(name)} characters; at most {MAX_BASE_NAME} are allowed.")
    return name


def base_key(name: str) -> str:
    """The same for names that people would not tell apart: capitals and letter forms make no difference.

    >>> base_key("Ｔax É") == base_key("tax e\\u0301")
    True
    """
    # Twice, because folding capitals can take a normalised text apart again.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def base_folder(name: str) -> str:
    """The folder of a knowledge base: a few plain letters for people, and a digest that tells it from all others.

    >>> base_folder("Contracts 2024")
    'contracts-2024-6a7011f5'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", base_key(name)).strip("-")[:32].strip("-")
    digest = hashlib.sha256(base_key(name).encode("utf-8", "replace")).hexdigest()[:8]
    if not plain:
        return digest
    return f"{plain}-{digest}"


def _printable(text: str) -> str:
    kept = "".join(c for c in text if c.isprintable() or c in _JOINERS)
    return unicodedata.normalize("NFC", kept)


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix; what is too long for a suffix belongs to the stem."""
    stem, dot, suffix = name.rpartition(".")
    if stem and 0 < len(suffix.encode()) <= 10:
        return stem, dot + suffix
    return name, ""


def _cut(text: str, size: int) -> str:
    # In bytes, as file systems count; what is left of a letter that was cut through is dropped.
    return text.encode()[:size].decode("utf-8", "ignore")
