"""The documentation site: public names, pages and messages are there, and every link leads somewhere.

That it builds without a warning is `make docs`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts_by_path import load_script

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "visrag_integrations"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|mailto:)(?P<path>[^)\s#]*)(?:#(?P<anchor>[^)\s]*))?\)")


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return load_script(DOCS / "site_links.py")


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    loaded = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


# Public names


def names_on_pages() -> set[str]:
    """The names behind `:::` on the pages of the reference."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    return set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))


def public_names() -> list[tuple[str, str]]:
    """(module, name) of all that stands in an `__all__`."""
    found: list[tuple[str, str]] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                names: list[str] = ast.literal_eval(node.value)
                found += [(module, name) for name in names]
    return found


def is_on_a_page(module: str, name: str, shown: set[str]) -> bool:
    """Whether a name is shown: as that of its module, of a module in the same room, or of the whole package."""
    room = ".".join(module.split(".")[:2])
    if f"visrag_integrations.{name}" in shown:
        return True
    return any(path.startswith(f"{room}.") and path.endswith(f".{name}") for path in shown)


def test_every_public_name_is_in_the_reference() -> None:
    shown = names_on_pages()
    names = public_names()
    assert len(names) > 150
    assert [f"{module}.{name}" for module, name in names if not is_on_a_page(module, name, shown)] == []


def test_every_name_of_the_design_is_in_the_reference() -> None:
    text = (DOCS / "design.md").read_text(encoding="utf-8").split("## Names users type")[1]
    shown = names_on_pages()
    imports = re.findall(r"^from (visrag_integrations[\w.]*) import \(([^)]*)\)", text, re.MULTILINE)
    assert len(imports) == 3
    for module, names in imports:
        for name in re.findall(r"\w+", names):
            assert is_on_a_page(module, name, shown), f"{module}.{name}"


def test_a_name_that_is_nowhere_would_be_found() -> None:
    shown = {"visrag_integrations.agent.Trace", "visrag_integrations.Page"}
    assert is_on_a_page("visrag_integrations.agent.traces", "Trace", shown)
    assert is_on_a_page("visrag_integrations.types", "Page", shown)
    assert not is_on_a_page("visrag_integrations.agent", "Step", shown)
    assert not is_on_a_page("visrag_integrations.report", "Trace", shown)


def test_every_name_of_the_reference_is_defined_or_imported_there() -> None:
    for path in sorted(names_on_pages()):
        module, _, name = path.rpartition(".")
        base = ROOT.joinpath(*module.split("."))
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        assert file.is_file(), path
        assert re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")), path


# Pages and links


def test_every_page_is_in_the_navigation(settings: dict[str, Any]) -> None:
    named: list[str] = []

    def walk(entry: Any) -> None:
        if isinstance(entry, str):
            named.append(entry)
        elif isinstance(entry, dict):
            for inner in entry.values():
                walk(inner)
        else:
            for inner in entry:
                walk(inner)

    walk(settings["nav"])
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_nothing_comes_from_elsewhere(settings: dict[str, Any]) -> None:
    assert settings["theme"]["font"] is False
    assert settings["strict"] is True
    for path in [*settings["extra"]["polyfills"], *settings["extra_css"]]:
        assert (DOCS / path).is_file(), path
    # The plugin that makes the site work from a disk fetches such a script, unless one of ours has the name.
    assert any("iframe-worker" in path for path in settings["extra"]["polyfills"])
    assert "http" not in (DOCS / "assets" / "iframe-worker-from-disk.js").read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    anchors: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return anchors


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere_on_github_too(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        target = page
        if link["path"]:
            target = page.parent / link["path"]
        assert target.exists(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors_of(target), link[0]


@pytest.mark.parametrize(
    ("page", "written", "shown"),
    [
        ("models.md", "[r](../benchmarks/RESULTS.md)", "[r](https://e.org/x/blob/main/benchmarks/RESULTS.md)"),
        ("api/core.md", "[r](../../README.md#licence)", "[r](https://e.org/x/blob/main/README.md#licence)"),
        ("index.md", "[n](../notebooks)", "[n](https://e.org/x/tree/main/notebooks)"),
        ("api/core.md", "[r](../readers.md)", "[r](../readers.md)"),
        ("index.md", "[r](readers.md#a) and [p](https://e.org/../a)", "[r](readers.md#a) and [p](https://e.org/../a)"),
    ],
)
def test_links_out_of_docs(hooks: ModuleType, page: str, written: str, shown: str) -> None:
    assert hooks.with_project_links(written, page, "https://e.org/x") == shown


def test_a_link_to_nothing_stops_the_build(hooks: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match=r"index\.md"):
        hooks.with_project_links("[r](../nothing.md)", "index.md", "https://e.org/x")


@pytest.mark.parametrize(
    ("page", "loaded"),
    [
        ('<script src="https://e.org/a.js"></script>', ["https://e.org/a.js"]),
        ("<script async src=//e.org/a.js></script>", ["//e.org/a.js"]),
        ('<link rel="stylesheet" href="https://e.org/a.css">', ["https://e.org/a.css"]),
        ('<link href="https://e.org" rel="preconnect">', ["https://e.org"]),
        ('<img alt="a" src="https://e.org/a.png">', ["https://e.org/a.png"]),
        ('<link rel="canonical" href="https://e.org/a.html">', []),
        ('<a href="https://e.org">e</a><script src="assets/a.js"></script><img src="a.png">', []),
    ],
)
def test_what_a_page_loads_from_elsewhere(hooks: ModuleType, tmp_path: Path, page: str, loaded: list[str]) -> None:
    assert hooks.loaded_from_elsewhere(page) == loaded
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "page.html").write_text(page, encoding="utf-8")
    if loaded:
        with pytest.raises(ValueError, match=re.escape(loaded[0])):
            hooks.on_post_build({"site_dir": str(tmp_path)})
    else:
        hooks.on_post_build({"site_dir": str(tmp_path)})


def test_the_address_is_that_of_the_project(hooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISRAG_SITE_URL", "https://me.github.io/mine/")
    assert hooks.on_config({"site_name": "mine"})["site_url"] == "https://me.github.io/mine/"
    monkeypatch.delenv("VISRAG_SITE_URL")
    urls = hooks.project_urls()
    config = hooks.on_config({"site_name": "visrag-integrations"})
    assert config["site_url"] == urls["Documentation"]
    assert config["repo_url"] == urls["Source"]
    assert urls["Source"] not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_examples_in_docstrings_are_shown_as_code() -> None:
    pytest.importorskip("griffe")
    fenced = load_script(DOCS / "doctests.py").fenced
    assert fenced("Half.\n\n>>> half(4)\n2\n\nMore.") == "Half.\n\n```pycon\n>>> half(4)\n2\n```\n\nMore."
    assert fenced("Half.\n\n    >>> half(4)\n    2") == "Half.\n\n    ```pycon\n    >>> half(4)\n    2\n    ```"
    assert fenced("No example >>> here.") == "No example >>> here."


# Messages and words


def texts_of_the_package() -> list[str]:
    """Every text in the code, an f-string as one text with … for each value; docstrings are none."""
    texts: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
    return texts


def messages() -> list[str]:
    """The headings of the page on troubleshooting."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (.*)$", text, re.MULTILINE)
    assert all(heading.startswith("`") and heading.endswith("`") for heading in headings)
    return [heading.strip("`") for heading in headings]


def test_every_message_on_the_page_is_in_the_code() -> None:
    texts = texts_of_the_package()
    assert len(messages()) > 30
    unknown: list[str] = []
    for message in messages():
        parts = [re.escape(part) for part in message.split("…")]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        if not any(pattern.search(text) for text in texts):
            unknown.append(message)
    assert unknown == []


def test_messages_say_enough_to_be_found() -> None:
    for message in messages():
        longest = max(message.split("…"), key=len)
        assert len(longest.strip()) >= 16, message


def test_the_glossary_has_the_words_of_this_field() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"^## (.*)$", text, re.MULTILINE)]
    assert words == sorted(words)
    said = " ".join(words)
    for word in (
        *("late interaction", "fused", "patches", "pooled", "maxsim", "grounding", "strategy", "preset"),
        *("extractive", "textrag", "evisrag prompt", "evidence", "reranker", "tenant", "verdict"),
    ):
        assert word in said, word


@pytest.mark.parametrize("source", ["README.md", "docs/index.md", "docs/embedders.md", "docs/store.md"])
def test_pages_lead_to_the_glossary(source: str) -> None:
    assert "glossary.md" in (ROOT / source).read_text(encoding="utf-8")


def test_the_gate_builds_the_site_as_the_workflow_does() -> None:
    yaml = pytest.importorskip("yaml")
    assert "step make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text(encoding="utf-8"))
    commands = [step["run"].strip() for step in workflow["jobs"]["build"]["steps"] if "run" in step]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^docs:.*\n\t.*?(mkdocs build .*)$", makefile, re.MULTILINE)
    assert "--strict" in command
    assert command in commands
