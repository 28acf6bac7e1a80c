"""What a judge said of answers, and how far string rules agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from visrag_integrations.evaluation.answers import RIGHT_FROM
from visrag_integrations.evaluation.metrics import PerQuery
from visrag_integrations.evaluation.statistics import Interval, cohen_kappa, mean, mean_interval


@dataclass(frozen=True)
class Agreement:
    """How far a string rule and the judge agree, over the answers that both judged.

    Attributes:
        rule: The rule's name.
        questions: How many answers that is.
        share: The share on which both say the same.
        kappa: Cohen's kappa: 1 is full agreement, 0 what chance alone would give; None where both always say the same
            one thing, so that chance gives full agreement too.
        judge_only: Answers that only the judge calls right.
        rule_only: Answers that only the rule calls right.
    """

    rule: str
    questions: int
    share: float
    kappa: float | None
    judge_only: int
    rule_only: int


@dataclass(frozen=True)
class JudgedAnswers:
    """A judge's verdicts.

    Attributes:
        judge: Its name.
        verdicts: Question id -> 1.0 where the answer is right, else 0.0; without those that have none.
        unjudged: Question id -> why there is no verdict.
        agreements: With each string rule.
    """

    judge: str
    verdicts: Mapping[str, float] = field(repr=False)
    unjudged: Mapping[str, str] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()

    @property
    def right(self) -> float | None:
        """The share of the judged answers that are right; None where none was judged."""
        if not self.verdicts:
            return None
        return mean(list(self.verdicts.values()))

    @cached_property
    def interval(self) -> Interval | None:
        """Where that share lies with 95 % confidence."""
        if not self.verdicts:
            return None
        return mean_interval(list(self.verdicts.values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """What has no verdict, and what that can mean for the share."""
        if not self.unjudged:
            return ()
        # Judges fail on the odd answers, not on any: the rest alone would flatter, or blame, the system.
        total = len(self.verdicts) + len(self.unjudged)
        # Least: all of them wrong; most: all of them right.
        least = sum(self.verdicts.values()) / total
        most = least + len(self.unjudged) / total
        first, reason = next(iter(self.unjudged.items()))
        return (
            f"{len(self.unjudged)} of {total} answers have no verdict and are not in the share of right answers; with "
            f"them it is between {least:.3f} and {most:.3f}. The first: {first}: {reason}",
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        interval = None
        if self.interval is not None:
            interval = list(self.interval)
        return {
            "judge": self.judge,
            "judged": len(self.verdicts),
            "right": self.right,
            "interval": interval,
            "unjudged": [{"id": id_, "reason": reason} for id_, reason in self.unjudged.items()],
            "agreement": [dict(vars(agreement)) for agreement in self.agreements],
        }

    def rows(self) -> list[list[str]]:
        """The table: each rule beside the judge; nothing where there is no rule."""
        if not self.agreements:
            return []
        rows = [["judge", "questions", "same", "kappa", "only judge: right", "only rule: right"]]
        for found in self.agreements:
            kappa = "-"
            if found.kappa is not None:
                kappa = f"{found.kappa:.3f}"
            counts = [str(found.judge_only), str(found.rule_only)]
            rows.append([f"and {found.rule}", str(found.questions), f"{found.share:.3f}", kappa, *counts])
        return rows

    def title(self) -> str:
        """The share of right answers with its interval, in a line."""
        if self.right is None or self.interval is None:
            return f"Judge {self.judge}: no answer was judged."
        low, high = self.interval
        share = f"{self.right:.3f} [{low:.3f}, {high:.3f}]"
        return f"Judge {self.judge}: {share} of {len(self.verdicts)} answers are right."


def agreements(verdicts: Mapping[str, float], rules: PerQuery) -> tuple[Agreement, ...]:
    """Each rule against the judge.

    >>> (found,) = agreements({"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}, {id_: {"em": 1.0} for id_ in "abcd"})
    >>> found.share, found.kappa, found.judge_only, found.rule_only
    (0.5, 0.0, 0, 2)
    """
    # Rule -> (judge says right, rule says right) of each answer that both judged.
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for id_, verdict in verdicts.items():
        for rule, value in rules.get(id_, {}).items():
            pairs.setdefault(rule, []).append((verdict >= RIGHT_FROM, value >= RIGHT_FROM))
    found: list[Agreement] = []
    for rule, of_rule in pairs.items():
        by_judge, by_rule = zip(*of_rule, strict=True)
        judge_only, rule_only = of_rule.count((True, False)), of_rule.count((False, True))
        share = 1 - (judge_only + rule_only) / len(of_rule)
        found.append(Agreement(rule, len(of_rule), share, cohen_kappa(by_judge, by_rule), judge_only, rule_only))
    return tuple(found)
