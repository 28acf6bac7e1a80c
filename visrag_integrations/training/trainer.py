"""`RetrieverTrainer`: transformers' Trainer with the loss of a whole batch, GradCache, and whole checkpoints.

The Trainer does the loop, the optimizer and its schedule, several devices, half precision and logging. Here are only
the step, the data of a step, and evaluation by search; checkpoints are those of every run (`whole_checkpoints.py`).
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from visrag_integrations.errors import DatasetError, TrainingError
from visrag_integrations.training.callbacks import LastStep, StepBar, quieten
from visrag_integrations.training.gradcache import Vectors, backward_cached
from visrag_integrations.training.history import EVALUATION
from visrag_integrations.training.losses import gather_ids, world_size
from visrag_integrations.training.run_trainer import random_kept
from visrag_integrations.training.runs import RunFolder
from visrag_integrations.training.stream import MicroBatch, PairStream, StepBatch
from visrag_integrations.training.trainable import TrainableRetriever
from visrag_integrations.training.trouble import memory_trouble, not_finite
from visrag_integrations.training.whole_checkpoints import Save, WholeCheckpoints

logger = logging.getLogger(__name__)

# Steps in a row, from the first, in which every page of the batch is the same one: then the data is wrong. One such
# step is chance where the batch is small.
PATIENCE = 10


class RetrieverTrainer(WholeCheckpoints, Trainer):  # type: ignore[misc]
    """Trains a `TrainableRetriever`.

    Args:
        retriever: What is trained.
        arguments: The Trainer's settings.
        stream: The pairs of every step.
        run: Where checkpoints go.
        save: Writes what a checkpoint is loaded from.
        temperature: Of the loss.
        evaluate: Gives metric -> value; None where there is no evaluation set.
        spent: Seconds and stops of the parts of this run that came before.
    """

    def __init__(
        self,
        retriever: TrainableRetriever,
        arguments: TrainingArguments,
        stream: PairStream,
        run: RunFolder,
        save: Save,
        *,
        temperature: float,
        evaluate: Callable[[], dict[str, float]] | None,
        spent: tuple[float, int] = (0.0, 0),
    ) -> None:
        self.retriever = retriever
        self.stream = stream
        self.temperature = temperature
        self._evaluate_now = evaluate
        seconds, resumed = spent
        best_by = str(arguments.metric_for_best_model).removeprefix(EVALUATION)

        def save_network(folder: Path, state: Mapping[str, Tensor]) -> None:
            save(folder, {name.removeprefix("network."): weight for name, weight in state.items()})

        self.keep_in(run, save_network, best_by=best_by, seconds_before=seconds, resumed=resumed)
        self._batch: StepBatch | None = None
        self._without_negatives = 0
        # The Trainer refuses to evaluate without a data set; ours is searched, not iterated.
        eval_dataset = None if evaluate is None else [0]
        super().__init__(model=retriever, args=arguments, train_dataset=[0], eval_dataset=eval_dataset)
        quieten(self)
        self.add_callback(LastStep(evaluate is not None))
        self.add_callback(StepBar(arguments.disable_tqdm))

    def notes(self) -> dict[str, Any]:
        """With the rows that were left out so far."""
        return {**super().notes(), "skipped": self.stream.broken}

    def named_weights(self) -> Mapping[str, Tensor]:
        """The retriever's; its network is one part of it."""
        weights: Mapping[str, Tensor] = self.retriever.state_dict()
        return weights

    def all_skipped(self) -> dict[str, str]:
        """Rows that were left out, on all devices."""
        if world_size() == 1:
            return dict(self.stream.broken)
        everyone: list[Any] = [None] * world_size()
        dist.all_gather_object(everyone, dict(self.stream.broken))
        skipped: dict[str, str] = {}
        for broken in everyone:
            skipped |= broken
        return skipped

    def log(self, logs: dict[str, float], *others: Any) -> None:
        """With the epoch of the data, where the Trainer knows of one long epoch only."""
        in_epoch = len(self.stream.pairs) // self.stream.batch_size
        self.state.epoch = self.state.global_step / in_epoch
        super().log(logs, *others)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps of the whole run by their numbers, each as its `StepBatch`: one epoch, as the Trainer sees it."""
        steps = list(range(self.args.max_steps))
        return DataLoader(steps, batch_size=1, collate_fn=self._pairs_of_step)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Add the gradient of a whole batch; gives the loss."""
        model.train()
        batch: StepBatch = inputs
        self._batch = batch
        with memory_trouble(self.stream.micro_batch):
            loss = self._backward(model, batch)
        return loss / world_size()  # the Trainer takes the mean over devices for the log

    def _backward(self, model: Any, batch: StepBatch) -> Tensor:
        def embed(part: MicroBatch) -> Vectors:
            with self.compute_loss_context_manager():
                vectors: Vectors = model(part)
            return vectors

        def loss_of(parts: Sequence[Vectors]) -> Tensor:
            return self._loss(batch, parts)

        # All of it fits: one pass is enough.
        if len(batch) == 1:
            loss = self._loss(batch, [embed(batch[0])])
            self.accelerator.backward(loss)
            return loss.detach()
        return backward_cached(
            batch,
            embed,
            loss_of,
            backward=self.accelerator.backward,
            no_sync=lambda: self.accelerator.no_sync(model),
        )

    def _loss(self, batch: StepBatch, parts: Sequence[Vectors]) -> Tensor:
        ready = batch.ready()
        ids: list[str] = []
        for pair in ready:
            ids += pair.page_ids
        self._check_negatives(batch.step, ids, parts[0][1].device)
        loss = self.retriever.loss(parts, self.temperature, ids)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(self._not_finite("The loss", batch, parts))
        return loss

    def _check_negatives(self, step: int, ids: Sequence[str], device: torch.device) -> None:
        """A batch of one page only teaches nothing: its loss is 0."""
        numbers = gather_ids(ids, len(ids), device)
        if not bool((numbers == numbers[0]).all()):
            self._without_negatives = -PATIENCE * PATIENCE  # there are different pages: never again a reason to stop
            return
        logger.warning("Step %d: all pages of the batch are the same one, so that there is nothing to learn.", step + 1)
        self._without_negatives += 1
        if self._without_negatives >= min(PATIENCE, self.args.max_steps):
            raise DatasetError(
                self.stream.pairs.name,
                f"all pages of the first {self._without_negatives} steps are the same one; a query has nothing to tell "
                "its page from. Look at the column image, or raise batch_size.",
            )

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        if norm is not None and self._batch is not None and not math.isfinite(float(norm)):
            raise TrainingError(self._not_finite("The gradient", self._batch, []))
        return norm

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """How well held-out pages are found, by one process; the others wait for it."""
        scores: list[Any] = [None]
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # the network only computes if all processes do
        if self._evaluate_now is not None and (self.is_world_process_zero() or sharded):
            training = self.retriever.training
            self.retriever.eval()
            with self._whole_weights(), self.compute_loss_context_manager(), random_kept():
                scores[0] = self._evaluate_now()
            self.retriever.train(training)
        if world_size() > 1:
            dist.broadcast_object_list(scores, src=0)
        metrics: dict[str, float] = {}
        for name, value in (scores[0] or {}).items():
            metrics[f"{metric_key_prefix}_{name}"] = value
        self.log(metrics)
        handler: Any = self.callback_handler
        self.control: Any = handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _whole_weights(self) -> contextlib.AbstractContextManager[Any]:
        if not self.is_fsdp_enabled:
            return contextlib.nullcontext()
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel.summon_full_params(self.model, writeback=False)

    def _pairs_of_step(self, steps: list[int]) -> StepBatch:
        return self.stream.batch(steps[0])

    def _not_finite(self, what: str, batch: StepBatch, parts: Sequence[Vectors]) -> str:
        return not_finite(what, batch.step + 1, batch.ready(), parts)
