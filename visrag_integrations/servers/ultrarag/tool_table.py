"""Which tools a server has, where UltraRAG takes their arguments from, and the `server.yaml` that says so.

UltraRAG's `build` calls the tool of that name; the server writes `server.yaml` beside the `parameter.yaml` it is given:

path: DIR/retriever/src/retriever.py
parameter: DIR/retriever/parameter.yaml
tools:
  retriever_search:
    input: {query_list: q_ls, top_k: $top_k}      $: a key of parameter.yaml; else a variable of the pipeline
    output: [ret_psg]
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from visrag_integrations.errors import SettingError
from visrag_integrations.files import write_whole

Output = Mapping[str, Any]
"""What a tool gives: output name -> value; empty for tools without output."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool, and the names that its arguments and results have in a pipeline.

    Attributes:
        function: What is called; its name is the tool's.
        inputs: A name for each argument, in order: a key of parameter.yaml or a variable of the pipeline.
        outputs: The variables it gives.
    """

    function: Callable[..., Output]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The tool's name."""
        return self.function.__name__

    def entry(self, parameters: Collection[str]) -> dict[str, Any]:
        """Its entry in server.yaml.

        Args:
            parameters: The keys of parameter.yaml.
        """
        arguments = list(inspect.signature(self.function).parameters)
        found: dict[str, str] = {}
        for argument, name in zip(arguments, self.inputs, strict=True):
            found[argument] = f"${name}" if name in parameters else name
        entry: dict[str, Any] = {"input": found}
        if self.outputs:
            entry["output"] = list(self.outputs)
        return entry


def read_parameters(path: Path) -> dict[str, Any]:
    """The keys of a parameter.yaml; none where there is no such file.

    Raises:
        SettingError: It cannot be read, or is no mapping.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise SettingError(f"{path} cannot be read: {' '.join(str(err).split())}") from err
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingError(f"{path} holds {type(found).__name__}, not keys and values.")
    return found


def write_server_yaml(parameter_file: str, specs: Collection[ToolSpec]) -> None:
    """Write `server.yaml` beside the parameter file.

    Raises:
        SettingError: The parameter file cannot be read, or there is no `src/NAME.py` that UltraRAG could start.
    """
    folder = Path(parameter_file).parent
    parameters = read_parameters(Path(parameter_file))
    started = str(parameters.get("path") or folder / "src" / f"{folder.name}.py")
    if not Path(started).is_file():
        raise SettingError(
            f"UltraRAG starts {started}, and there is no such file. Make it: visrag ultrarag init {folder.parent}"
        )
    described = {
        "path": started,
        "parameter": parameter_file,
        "tools": {spec.name: spec.entry(parameters) for spec in specs},
        "prompts": {},
    }
    text = yaml.safe_dump(described, allow_unicode=True, sort_keys=False)
    try:
        write_whole(folder / "server.yaml", text.encode("utf-8"))
    except OSError as err:
        raise SettingError(f"{folder / 'server.yaml'} cannot be written: {err.strerror or err}.") from err
