"""What the documentation site takes from the project: its addresses, and where links out of docs/ lead.

The pages are read on GitHub too, so they name files as GitHub does: `../benchmarks/RESULTS.md`. The site has only what is
in docs/; such a link becomes the file's address in the project.
"""

from __future__ import annotations

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
_OUT_OF_DOCS = re.compile(r"\]\((?P<path>(?:\.\./)+[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Where the site and the project are: `[project.urls]` is the one place that says it."""
    urls = project_urls()
    config["site_url"] = urls["Documentation"]
    config["repo_url"] = urls["Source"]
    config["repo_name"] = config["site_name"]
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return with_project_links(markdown, page.file.src_uri, project_urls()["Source"])


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
