"""`Trace`: everything that happened in a run: to look at, to keep, to run again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visrag_integrations.agent.drawing import trace_fragment, trace_page
from visrag_integrations.agent.recorded_run import RecordedRun
from visrag_integrations.agent.recording import Recording
from visrag_integrations.agent.storage import load_record, save_record


@dataclass(frozen=True, repr=False)
class Trace(RecordedRun):
    """One run, step by step; in a notebook it draws itself.

    Attributes:
        question: What was asked.
        steps: What was thought and done, and what was shown for it, in order; the last one is a `Finish`.
        turns: What the generator wrote, one for each turn.
        template: The prompt that was used, with `{question}`.
    """

    def generator(self) -> Recording:
        """A generator that writes what was written in this run, so that it can be run again without a model."""
        return Recording(self.turns)

    def save(self, folder: str | Path) -> Path:
        """Keep the run in a folder: `trace.json`, and every picture as the model saw it.

        What was in the folder under these names is replaced, as a whole. Pages of a run that is loaded again have the
        picture that was shown, not the one in the store.
        """
        return save_record(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Trace:
        """A run that was saved.

        Raises:
            TraceError: The folder holds none, or one of a newer version.
        """
        record = load_record(Path(folder))
        return cls(record.question, record.steps, record.turns, record.template)

    def to_html(self) -> str:
        """The run as one self-contained HTML page: what was thought, the pages, and where it looked closer."""
        return trace_page(self)

    def _repr_html_(self) -> str:
        return trace_fragment(self)
