"""What the documentation site takes from the project: its addresses, and where links out of docs/ lead.

The pages are read on GitHub too, so they name files as GitHub does: `../benchmarks/RESULTS.md`. The site has only what
is in docs/; such a link becomes the file's address in the project. A built page that loads anything from elsewhere is
an error: the site is read without a network, and tells nobody that it is read.
"""

from __future__ import annotations

import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
_ELSEWHERE = re.compile(r"<(?:script|img|iframe|source|video)\b[^>]*?\bsrc=[\"']?(?P<script>(?:https?:)?//[^\"'\s>]+)")
_STYLE = re.compile(r"<link\b[^>]*?\bhref=[\"']?(?P<style>(?:https?:)?//[^\"'\s>]+)[^>]*>")
# What a page says of its own address loads nothing.
_SAID_ONLY = re.compile(r"\brel=[\"']?(?:canonical|next|prev)\b")
_OUT_OF_DOCS = re.compile(r"\]\((?P<path>(?:\.\./)+[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Where the site and the project are: `[project.urls]` says it, or VISRAG_SITE_URL where the site is published."""
    urls = project_urls()
    config["site_url"] = os.environ.get("VISRAG_SITE_URL") or urls["Documentation"]
    config["repo_url"] = urls["Source"]
    config["repo_name"] = config["site_name"]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return with_project_links(markdown, page.file.src_uri, project_urls()["Source"])


def on_post_build(config: Any) -> None:
    """Look at what was built.

    Raises:
        ValueError: A page loads something from elsewhere.
    """
    for path in sorted(Path(config["site_dir"]).rglob("*.html")):
        elsewhere = loaded_from_elsewhere(path.read_text(encoding="utf-8"))
        if elsewhere:
            raise ValueError(f"{path}: the page loads {', '.join(elsewhere)}. Put it into docs/assets.")


def loaded_from_elsewhere(page: str) -> list[str]:
    """The addresses from which a browser would load scripts, styles and pictures of this HTML.

    >>> loaded_from_elsewhere('<script src="https://e.org/a.js"></script><a href="https://e.org">e</a>')
    ['https://e.org/a.js']
    """
    found = [match["script"] for match in _ELSEWHERE.finditer(page)]
    for match in _STYLE.finditer(page):
        if not _SAID_ONLY.search(match[0]):
            found.append(match["style"])
    return found


def project_urls() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["project"]["urls"]


def with_project_links(markdown: str, page: str, source: str) -> str:
    """A page's text, its links to files outside docs/ made absolute.

    Args:
        markdown: The page's text.
        page: Its path inside docs/.
        source: The project's address.

    Raises:
        FileNotFoundError: A link leads to no file of the project.
    """

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), link["path"]))
        if path.startswith("docs/"):
            return link[0]  # ../glossary.md, from a page in a folder of docs
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page}: {link['path']!r} is no file of the project.")
        kind = "tree" if (ROOT / path).is_dir() else "blob"
        return f"]({source}/{kind}/main/{path}{link['anchor'] or ''})"

    return _OUT_OF_DOCS.sub(absolute, markdown)
