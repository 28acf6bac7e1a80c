"""The trainer of a reader's first stage: written answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import Trainer

from visrag_integrations.training.reader import ReaderNetwork
from visrag_integrations.training.reader_batches import join_examples
from visrag_integrations.training.reader_examples import ReaderExamples
from visrag_integrations.training.run_trainer import RunTrainer


class SftTrainer(RunTrainer, Trainer):  # type: ignore[misc]
    """Supervised: the network learns the right responses, token by token.

    Args:
        reader: What is trained.
        args: The Trainer's settings.
        examples: What is learned.
    """

    def __init__(self, reader: ReaderNetwork, args: Any, examples: ReaderExamples) -> None:
        self.reader, self.examples = reader, examples
        numbers: Any = list(range(len(examples)))
        super().__init__(model=reader.model, args=args, train_dataset=numbers, data_collator=self._join)

    def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **more: Any) -> Any:
        """As the Trainer's; pages are counted."""
        self.pages += len(inputs.get("image_grid_thw", ()))
        return super().compute_loss(model, inputs, *arguments, **more)

    def _join(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        encoded = [self.reader.encode(self.examples.rows[number]) for number in numbers]
        return join_examples(encoded, int(self.reader.tokenizer.pad_token_id or 0))
