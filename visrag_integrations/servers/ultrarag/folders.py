"""`visrag ultrarag init DIR`: the folders that UltraRAG's pipelines name as servers.

DIR/retriever/parameter.yaml        yours to change; kept where it is there
DIR/retriever/src/retriever.py      what UltraRAG starts; it starts the Python that has this library
DIR/generation/..., DIR/corpus/..., DIR/custom/...
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole

# Names of the hub, folders and URLs; YAML reads such a text as it stands ("a: b" and "a #b" it would not).
_PLAIN = re.compile(r"(?:[A-Za-z/]|\.{1,2}/)[A-Za-z0-9/._~:+@%-]*(?<!:)")
_OTHER_VALUES = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
_UP_TO_FFFF = re.compile("[\x7f-\uffff]")  # but for ASCII; lone surrogates, as of a broken name, among them
NAMES = ("retriever", "generation", "corpus", "custom")


@dataclass(frozen=True)
class WrittenFolders:
    """What `write_folders` did.

    Attributes:
        folder: Where, as an absolute path.
        kept: Parameter files that were there already and stayed as they are.
    """

    folder: Path
    kept: tuple[Path, ...]

    def yaml_lines(self) -> str:
        """The lines of a pipeline that name our servers."""
        return "\n".join(f"  {name}: {self.folder / name}" for name in NAMES)


def write_folders(folder: Path, *, embedder: str, generator: str) -> WrittenFolders:
    """Write the folders of all servers.

    Args:
        folder: Where; made where it is not there. Not inside an installed package: UltraRAG writes into it.
        embedder: The embedder that a new retriever/parameter.yaml names.
        generator: The generator that a new generation/parameter.yaml names; one model of a server as URL#NAME.

    Raises:
        SettingError: It cannot be written.
    """
    folder = folder.absolute()
    kept: list[Path] = []
    values = _values(embedder, generator)
    try:
        for name in NAMES:
            (folder / name / "src").mkdir(parents=True, exist_ok=True)
            parameters = folder / name / "parameter.yaml"
            if parameters.exists():
                kept.append(parameters)
            else:
                text = _filled(_template(f"{name}.yaml"), values)
                write_whole(parameters, text.encode("utf-8"))
            # Always new: after an update or a move, the Python that has this library is another one.
            starter = _template("starter.txt").replace("PYTHON_PATH", repr(sys.executable)).replace("NAME", name)
            write_whole(folder / name / "src" / f"{name}.py", starter.encode("utf-8"))
    except OSError as err:
        raise SettingError(
            f"{folder} cannot be written: {err.strerror or err} ({err.filename}). Name another."
        ) from err
    return WrittenFolders(folder, tuple(kept))


def _values(embedder: str, generator: str) -> dict[str, str]:
    """What stands in the templates, each as YAML.

    >>> _values("ocr", "http://localhost:8000/v1#EVisRAG-7B")["SETTINGS"]
    '{"model": "EVisRAG-7B"}'
    """
    settings: dict[str, str] = {}
    address, _, model = generator.partition("#")
    if "://" in address:  # as --generator takes it everywhere; a checkpoint's folder may have a "#" in its name
        generator = address
        if model.strip():
            settings["model"] = model.strip()
    return {"EMBEDDER": _quoted(embedder), "GENERATOR": _quoted(generator), "SETTINGS": _in_quotes(settings)}


def _quoted(name: str) -> str:
    """A name as YAML: as it is where it can be nothing else, else in quotes.

    >>> _quoted("openbmb/VisRAG-Ret"), _quoted("models/a #2"), _quoted("null")
    ('openbmb/VisRAG-Ret', '"models/a #2"', '"null"')
    """
    if _PLAIN.fullmatch(name) and name.lower() not in _OTHER_VALUES:
        return name
    return _in_quotes(name)


def _in_quotes(value: str | dict[str, str]) -> str:
    """JSON that YAML reads as the same.

    Not `json.dumps` alone: it writes "📄" as two surrogates, and YAML reads each of them as a character of its own. The
    rest stays escaped, for some of it are line breaks to YAML, and some it refuses.

    >>> _in_quotes("models/📄 ü") == '"models/📄 \\\\u00fc"'
    True
    """
    return _UP_TO_FFFF.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with each word in capitals replaced once, so that no value is searched for the next word."""
    return re.sub("|".join(values), lambda found: values[found[0]], template)


def _template(name: str) -> str:
    return resources.files("visrag_integrations.servers.ultrarag").joinpath("parameters", name).read_text("utf-8")
