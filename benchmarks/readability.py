"""How much a reader has to decode: `python benchmarks/readability.py [FOLDER ...] [--files] [--names]`.

Counted for the package, or for the folders given:
- conditional expressions (`a if b else c`) and comprehensions, per 1,000 lines that are not blank;
- lines with a comment, as a share of the lines of code (docstrings apart);
- class and alias names that two files define: a reader who meets one has to ask which it is. A public name that stands
  once for LangChain and once for LlamaIndex means the same in both, and is not counted.

The aims stand in docs/design.md: at most 12 conditional expressions, comments on at least 5 % of the lines, no name
with two meanings. They point at places to look; code that counts well can still be hard to read.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "visrag_integrations"
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Counts:
    lines: int = 0
    code_lines: int = 0
    comment_lines: int = 0
    conditionals: int = 0
    comprehensions: int = 0

    def add(self, other: Counts) -> None:
        self.lines += other.lines
        self.code_lines += other.code_lines
        self.comment_lines += other.comment_lines
        self.conditionals += other.conditionals
        self.comprehensions += other.comprehensions

    def row(self, name: str) -> str:
        per_thousand = 1000 / max(self.lines, 1)
        conditionals = self.conditionals * per_thousand
        comprehensions = self.comprehensions * per_thousand
        comments = 100 * self.comment_lines / max(self.code_lines, 1)
        return f"{name:44} {self.lines:6} {conditionals:12.1f} {comprehensions:14.1f} {comments:8.1f} %"


def count(path: Path) -> Counts:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    counts = Counts(lines=sum(bool(line.strip()) for line in text.splitlines()))
    with_code: set[int] = set()
    docstrings = docstring_lines(tree)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            counts.comment_lines += 1
        elif token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            with_code.update(range(token.start[0], token.end[0] + 1))
    counts.code_lines = len(with_code - docstrings)
    for node in ast.walk(tree):
        counts.conditionals += isinstance(node, ast.IfExp)
        counts.comprehensions += isinstance(node, COMPREHENSIONS)
    return counts


def docstring_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def defined_names(path: Path) -> set[str]:
    """Classes, and aliases in CamelCase such as `Box = tuple[float, ...]`, at the top of a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            looks_like_a_type = name.lstrip("_")[:1].isupper() and not name.isupper() and "_" not in name.lstrip("_")
            if looks_like_a_type and isinstance(node.value, (ast.Subscript, ast.BinOp, ast.Name, ast.Attribute)):
                found.add(name)
    return found


def double_names(paths: list[Path]) -> dict[str, list[Path]]:
    homes: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        for name in defined_names(path):
            homes[name.lstrip("_")].append(path)
    return {name: files for name, files in sorted(homes.items()) if len(files) > 1 and not _twins(files)}


def _twins(files: list[Path]) -> bool:
    rooms = [path.resolve().parent.name for path in files]
    return sorted(rooms) == ["langchain", "llamaindex"] and not any(path.name.startswith("_") for path in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=[PACKAGE])
    parser.add_argument("--files", action="store_true", help="a row for every file, most conditional expressions first")
    parser.add_argument("--names", action="store_true", help="the files of every name that is defined twice")
    options = parser.parse_args()
    paths = sorted({path for folder in options.folders for path in folder.rglob("*.py")})

    print(f"{'':44} {'lines':>6} {'conditionals':>12} {'comprehensions':>14} {'comments':>10}")
    total = Counts()
    files: list[tuple[int, str]] = []
    for path in paths:
        counts = count(path)
        total.add(counts)
        files.append((counts.conditionals, counts.row(_short(path))))
    if options.files:
        for _, row in sorted(files, reverse=True):
            print(row)
    print(total.row("all"))

    doubles = double_names(paths)
    print(f"names that two files define: {len(doubles)}")
    if options.names:
        for name, homes in doubles.items():
            print(f"  {name}: {', '.join(_short(home) for home in homes)}")


def _short(path: Path) -> str:
    resolved = path.resolve()
    if resolved.is_relative_to(PACKAGE):
        return str(resolved.relative_to(PACKAGE))
    return str(path)


if __name__ == "__main__":
    main()
