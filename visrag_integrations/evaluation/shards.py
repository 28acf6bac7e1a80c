"""`merge_records`: the records of several processes, each with its share of the questions, as the result of one run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation.answer_runs import answered_questions, scored_answers
from visrag_integrations.evaluation.results import EvaluationResult, QueryFailure
from visrag_integrations.evaluation.run_record import RunRecord, differences, read_record
from visrag_integrations.evaluation.runs import judged_questions, scored_retrieval
from visrag_integrations.evaluation.sets import EvaluationSet, Question

# The one setting that differs between the shards of one run.
_OF_A_SHARD = "shard"


def merge_records(
    dataset: EvaluationSet,
    records: Iterable[str | Path],
    metrics: Sequence[str] | None = None,
    *,
    record: str | Path | None = None,
    unfinished: bool = False,
) -> EvaluationResult:
    """The result of the whole run; every number is that of a run in one process.

    Args:
        dataset: The whole set, loaded and limited as for the shards.
        records: Of every shard, in any order.
        metrics: By default those of `evaluate_retrieval` or `evaluate_answers`.
        record: Also write the record that one process would have written.
        unfinished: Report questions without a result as failed, where they are else an error.

    Raises:
        SettingError: A shard is missing or there twice, of another set, of other settings or not finished.
    """
    shards = _complete(list(map(_Shard.read, records)))
    settings = _common_settings(shards, dataset)
    is_retrieval = settings.get("task") == "retrieval"
    if is_retrieval:
        asked = judged_questions(dataset)
    else:
        asked = answered_questions(dataset)
    found = _results(shards, dataset)
    done: dict[str, dict[str, Any]] = {}
    failed: list[QueryFailure] = []
    for question in asked:
        if question.id in found:
            done[question.id] = found[question.id]
        else:
            failed.append(QueryFailure(question.id, "no shard has a result of it"))
    if failed and not unfinished:
        number = _shard_of(failed[0].id, dataset, len(shards))
        raise SettingError(
            f"{len(failed)} questions have no result, such as {failed[0].id!r}. Run shard {number} again with its "
            "record, or say unfinished=True (--unfinished)."
        )
    if record is not None:
        RunRecord(record, settings).append(list(done.values()))
    if is_retrieval:
        scored = scored_retrieval(dataset, done, metrics or ("mrr@10", "recall@5"))
    else:
        scored = scored_answers(
            dataset, done, metrics or ("em", "accuracy", "f1"), with_evidence="evidence" in settings
        )
    return scored.result(dataset, asked, settings, tuple(failed))


@dataclass(frozen=True)
class _Shard:
    """The record of one process."""

    path: str
    number: int
    count: int
    settings: Mapping[str, Any]
    done: Mapping[str, dict[str, Any]]

    @classmethod
    def read(cls, path: str | Path) -> _Shard:
        settings, done = read_record(path)
        number, _, count = str(settings.get("shard", "")).partition("/")
        if not (number.isdecimal() and count.isdecimal()):
            raise SettingError(f"{str(path)!r} is the record of a whole run, and of no shard. Nothing is to be merged.")
        return cls(str(path), int(number), int(count), settings, done)


def _complete(shards: Sequence[_Shard]) -> list[_Shard]:
    """The shards in order, if each is there once."""
    if not shards:
        raise SettingError("There is no record to merge. Name the record of each shard.")
    by_number: dict[int, _Shard] = {}
    count = shards[0].count
    for shard in shards:
        if shard.count != count:
            raise SettingError(
                f"{shard.path!r} is one of {shard.count} shards, and {shards[0].path!r} one of {count}. "
                "Merge those of one run."
            )
        if shard.number in by_number:
            raise SettingError(
                f"{shard.path!r} is shard {shard.number} of {count}, and so is {by_number[shard.number].path!r}. "
                "Name each once."
            )
        by_number[shard.number] = shard
    missing = [str(number) for number in range(1, count + 1) if number not in by_number]
    if missing:
        raise SettingError(f"Of {count} shards {', '.join(missing)} is missing. Name the record of each shard.")
    return [by_number[number] for number in sorted(by_number)]


def _common_settings(shards: Sequence[_Shard], dataset: EvaluationSet) -> dict[str, Any]:
    """The settings of the run in one process."""
    first = _without_its_number(shards[0])
    for shard in shards[1:]:
        other = _without_its_number(shard)
        changes = differences(first, other)
        if changes:
            raise SettingError(
                f"{shards[0].path!r} and {shard.path!r} are of different runs: {'; '.join(changes)}. "
                "Merge the shards of one run."
            )
    if (first.get("set"), first.get("questions")) != (dataset.name, len(dataset.questions)):
        raise SettingError(
            f"The shards are of {first.get('set')!r} with {first.get('questions')} questions, and this set is "
            f"{dataset.name!r} with {len(dataset.questions)}. Load it as for the shards (same limit, language, ...)."
        )
    del first["questions"]
    return first


def _without_its_number(shard: _Shard) -> dict[str, Any]:
    settings = dict(shard.settings)
    settings.pop(_OF_A_SHARD, None)
    return settings


def _results(shards: Sequence[_Shard], dataset: EvaluationSet) -> dict[str, dict[str, Any]]:
    """What was done, by question; each of a question of its own shard."""
    found: dict[str, dict[str, Any]] = {}
    for shard in shards:
        own: dict[str, Question] = {}
        for question in dataset.shard(shard.number, shard.count).questions:
            own[question.id] = question
        for id_, entry in shard.done.items():
            if id_ not in own or entry.get("query") != own[id_].text:
                raise SettingError(
                    f"{shard.path!r} holds a result of {id_!r} ({entry.get('query')!r}), which shard {shard.number} of "
                    f"{shard.count} of this set does not ask. Was the set changed since?"
                )
            found[id_] = entry
    return found


def _shard_of(id_: str, dataset: EvaluationSet, count: int) -> int:
    for place, question in enumerate(dataset.questions):
        if question.id == id_:
            return place % count + 1
    return 1
