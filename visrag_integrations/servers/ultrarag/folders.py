"""`visrag ultrarag init DIR`: the folders that UltraRAG's pipelines name as servers.

DIR/retriever/parameter.yaml        yours to change; kept where it is there
DIR/retriever/src/retriever.py      what UltraRAG starts; it starts the Python that has this library
DIR/generation/..., DIR/corpus/..., DIR/custom/...
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole

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
        generator: The generator that a new generation/parameter.yaml names.

    Raises:
        SettingError: It cannot be written.
    """
    folder = folder.absolute()
    kept: list[Path] = []
    try:
        for name in NAMES:
            (folder / name / "src").mkdir(parents=True, exist_ok=True)
            parameters = folder / name / "parameter.yaml"
            if parameters.exists():
                kept.append(parameters)
            else:
                text = _template(f"{name}.yaml").replace("EMBEDDER", embedder).replace("GENERATOR", generator)
                write_whole(parameters, text.encode("utf-8"))
            # Always new: after an update or a move, the Python that has this library is another one.
            starter = _template("starter.txt").replace("PYTHON_PATH", repr(sys.executable)).replace("NAME", name)
            write_whole(folder / name / "src" / f"{name}.py", starter.encode("utf-8"))
    except OSError as err:
        raise SettingError(
            f"{folder} cannot be written: {err.strerror or err} ({err.filename}). Name another."
        ) from err
    return WrittenFolders(folder, tuple(kept))


def _template(name: str) -> str:
    return resources.files("visrag_integrations.servers.ultrarag").joinpath("parameters", name).read_text("utf-8")
