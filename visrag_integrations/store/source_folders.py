"""The folders of a page's sources, as keys of an index: what is stored below a folder is found without a walk. Pure.

    docs/sub/a.pdf        "docs/sub/"  "docs"  "."          the folder it is in ends with "/"; then those above
    /data/a.pdf/notes.md  "/data/a.pdf/"  "/data"  "/"      a file inside of another one: the outer one is its folder
    https://h/a.zip/b.md  "https://h/a.zip/"                nothing stands above in a URL: no folder is given for it

A key says more than it must ("C:\\docs" is a folder on Windows, and a part of a name elsewhere): it finds candidates,
and whoever asks looks at their sources.
"""

from __future__ import annotations

import ntpath
import posixpath
from collections.abc import Iterable

from visrag_integrations.errors import storable

FOLDERS = "visrag.folders"
"""Where the keys are in a payload. A page without sources has one too, "": pages of older versions have none."""

# A source such as ../../../x.pdf leads to the root where the working folder is less deep than the one it was given in.
_STEPS_UP = 8


def folder_keys(sources: Iterable[str]) -> list[str]:
    """The keys of a page that was found at these sources.

    >>> folder_keys(["docs/sub/a.pdf", "./b.pdf"])
    ['docs/sub/', 'docs', '.', './']
    >>> folder_keys([])
    ['']
    """
    keys: dict[str, None] = {}  # in order, each once
    for source in sources:
        keys[inside_key(_around(source))] = None
        if "\\" in source:  # a part of the file's name, unless it was indexed on Windows
            keys[inside_key(posixpath.dirname(posixpath.normpath(source)))] = None
        if "://" in source or source.startswith("bytes:"):
            continue
        folder = posixpath.dirname(_plain(source))
        while folder:
            folder = _above(folder)
            keys[folder] = None
    keys.pop("", None)
    return list(keys) or [""]


def inside_key(source: str) -> str:
    """The key of pages that lie in this folder itself, or inside of this document.

    >>> inside_key("./docs//a.pdf"), inside_key("https://h/a.zip"), inside_key("")
    ('docs/a.pdf/', 'https://h/a.zip/', './')
    """
    if "://" in source:
        return f"{source}/"
    return f"{_plain(source)}/"


def below_keys(folder: str, working: str) -> list[str]:
    """Keys one of which every page has that was found somewhere below a folder.

    Args:
        folder: Its absolute path.
        working: The absolute path of the folder that relative sources start from.

    >>> below_keys("/home/ada/docs", "/home/ada")[:6]
    ['/home/ada/docs', '/home/ada/docs/', 'docs', 'docs/', '../ada/docs', '../ada/docs/']
    """
    names = _spellings(folder, working)
    wanted = _plain(folder)
    for above, start in _starts(working):
        # Relative sources start below the folder: each of them is below it too.
        if start != wanted and start.startswith(_slashed(wanted)):
            names.append(above)
    keys: list[str] = []
    for name in names:
        keys += [name, f"{name}/"]
    return keys


def beside_keys(folder: str, working: str) -> list[str]:
    """Keys one of which every page has that was found in a folder itself; see `below_keys`.

    >>> beside_keys("/home", "/home/ada")[:3]
    ['/home/', '../', '../../home/']
    """
    return [f"{name}/" for name in _spellings(folder, working)]


def _spellings(folder: str, working: str) -> list[str]:
    """How a folder may stand before a name in a source: absolute, and from the working folder and those above it.

    /home/ada/docs, seen from /home/ada: "docs", and "../ada/docs", which nobody writes and which means the same.
    """
    wanted = _plain(folder)
    names = [wanted]
    for above, start in _starts(working):
        if start == wanted:
            names.append(above)
        elif wanted.startswith(_slashed(start)):
            names.append(posixpath.normpath(f"{above}/{wanted[len(_slashed(start)) :]}"))
    return names


def _starts(working: str) -> list[tuple[str, str]]:
    """(".", the working folder), ("..", the one above it), ("../..", ...), up to the root and some steps more."""
    if not working:
        return []
    # A backslash is a part of a name, unless the path is one of Windows: one step up leads out of "back\\slash".
    dirname = posixpath.dirname if working.startswith("/") else ntpath.dirname
    above, start = ".", working
    starts = [(above, _plain(start))]
    while len(starts) < _STEPS_UP or dirname(start) not in ("", start):
        # Above the root there is the root again.
        above, start = posixpath.normpath(f"{above}/.."), dirname(start) or start
        starts.append((above, _plain(start)))
    return starts


def _plain(path: str) -> str:
    """A path with single slashes of one kind, and without "." in it.

    >>> _plain("C:\\\\docs\\\\a.pdf"), _plain("./docs//sub/../a.pdf")
    ('C:/docs/a.pdf', 'docs/a.pdf')
    """
    return posixpath.normpath(storable(path).replace("\\", "/"))


def _around(source: str) -> str:
    """What a source lies in: its folder, or the document around it."""
    if "://" in source:
        return source.rpartition("/")[0]
    return posixpath.dirname(_plain(source))


def _above(folder: str) -> str:
    """The folder above, "." above the first name of a relative path; "" where nothing is known above."""
    if folder in (".", "/", "//") or posixpath.basename(folder) == "..":
        return ""
    return posixpath.dirname(folder) or "."


def _slashed(folder: str) -> str:
    return folder if folder.endswith("/") else f"{folder}/"
