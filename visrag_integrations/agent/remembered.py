"""How the agent of a trained checkpoint is to be run: what it was trained with, in a file beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from visrag_integrations.agent.budget import Rules
from visrag_integrations.agent.pictures import PictureRules
from visrag_integrations.errors import CheckpointError
from visrag_integrations.generation.vrag import TEMPLATE, check_template

FILE = "visrag_agent.json"
FORMAT = 1
"""Of the file; a later version that older ones cannot read gets the next number."""


@dataclass(frozen=True)
class AgentSettings:
    """What a model was trained to be asked with.

    Attributes:
        max_turns: As `VRAGAgent` counts: the last one answers.
        template: The prompt, with `{question}`.
        pictures: How large pages and crops are shown.
    """

    max_turns: int = 10
    template: str = TEMPLATE
    pictures: PictureRules = field(default_factory=PictureRules)

    def save(self, folder: Path) -> None:
        """Write the file into a checkpoint's folder."""
        kept = {"format": FORMAT, **asdict(self)}
        (folder / FILE).write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def of(cls, name: object) -> AgentSettings | None:
        """What a checkpoint remembers; None where it is no local folder, or was not trained as an agent.

        Raises:
            CheckpointError: The file is there and cannot be read.
        """
        try:
            path = Path(str(name)).expanduser() / FILE
            if not path.is_file():
                return None
            return _read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as err:
            if isinstance(err, OSError) and not isinstance(name, Path):
                return None  # a name of another kind, far too long for a path
            raise CheckpointError(
                f"{FILE} of {str(name)!r} is damaged: {err}. Copy it from the trained checkpoint, or delete it and "
                "give max_turns, template and pictures yourself."
            ) from err


def rules_for(
    checkpoint: object,
    *,
    max_turns: int | None = None,
    template: str | None = None,
    pictures: PictureRules | None = None,
    **others: Any,
) -> Rules:
    """The rules of an agent: what is said here, else what the checkpoint remembers, else what all agents begin with.

    Args:
        checkpoint: A folder, or a name that may be one.
        max_turns: As `Rules` has it,
        template: and the other two as well.
        pictures: None: as the checkpoint was trained.
        **others: Of `Rules`; these are no part of what a checkpoint remembers.

    Raises:
        CheckpointError: What the checkpoint remembers cannot be read.
        SettingError: A value is not allowed.
    """
    known = AgentSettings.of(checkpoint) or AgentSettings()
    return Rules(
        max_turns=known.max_turns if max_turns is None else max_turns,
        template=known.template if template is None else template,
        pictures=known.pictures if pictures is None else pictures,
        **others,
    )


def _read(kept: Any) -> AgentSettings:
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        raise ValueError(f"this version reads the format {FORMAT}")
    if not isinstance(kept["max_turns"], int) or kept["max_turns"] < 1:
        raise ValueError(f"max_turns is {kept['max_turns']!r}")
    return AgentSettings(kept["max_turns"], check_template(kept["template"]), PictureRules(**kept["pictures"]))
