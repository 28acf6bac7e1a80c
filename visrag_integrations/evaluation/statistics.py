"""How sure a mean is, and whether two runs differ by more than chance. Seeded: the same values, the same result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval = tuple[float, float]

SAMPLES = 10_000
"""Resamples: enough that the ends of an interval stand in the second digit, and a p-value of 0.001 is 10 of them."""
# Values drawn for one interval. With very many questions fewer resamples do: an interval of 10,000 questions is narrow
# anyway, and a table should take about a second. Never below 1,000, or its ends would jump from seed to seed.
_DRAWN = 10_000_000
_FEWEST_SAMPLES = 1_000
# Numbers drawn at a time, 32 MB of them; with all at once, memory would grow with questions times samples.
_CELLS = 4_000_000
# Above this, 2 ** n does not fit into NumPy's int64.
_MOST_EXACT = 62


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs, over the queries they share.

    Attributes:
        metric: Its name.
        first: The first run's mean.
        second: The second run's mean.
        interval: Of the difference first - second, by paired bootstrap.
        p_value: How often chance alone makes a difference this large (paired randomisation test, two-sided).
        queries: How many were compared.
        wins: On how many the first run is better.
        losses: On how many the second one is.
    """

    metric: str
    first: float
    second: float
    interval: Interval
    p_value: float
    queries: int
    wins: int
    losses: int

    @property
    def difference(self) -> float:
        """First minus second."""
        return self.first - self.second

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "interval": list(self.interval), "difference": self.difference}


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """Where the mean of such values lies, by the percentiles of means of resampled values.

    >>> bootstrap_interval([1.0, 1.0, 1.0])
    (1.0, 1.0)
    """
    if not 0 < level < 1:
        raise SettingError(f"level is {level!r}; it is a share between 0 and 1, for example 0.95.")
    data = _checked(values, samples)
    generator = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    for rows in _chunks(samples, len(data)):
        # Each row: as many places as there are values, some twice and some not at all.
        drawn = generator.integers(0, len(data), (rows, len(data)))
        means.append(data[drawn].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float]) -> Interval:
    """The 95 % interval of the mean, with as many resamples as a table has time for."""
    samples = max(_FEWEST_SAMPLES, min(SAMPLES, _DRAWN // max(1, len(values))))
    return bootstrap_interval(values, samples=samples)


def mean(values: Sequence[float]) -> float:
    """Not depending on the order of the values.

    >>> mean([0.1] * 10)
    0.1
    """
    return math.fsum(values) / len(values)


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """How far two judges agree beyond chance: 1 fully, 0 as chance would; None where chance alone gives full agreement.

    >>> cohen_kappa([True, True, False, False], [True, False, False, False])  # 3 of 4 same; by chance 4 of 8
    0.5
    >>> cohen_kappa([True, True], [True, True])
    """
    if len(first) != len(second) or not first:
        raise SettingError(f"Agreement needs as many verdicts of both: {len(first)} and {len(second)} were given.")
    count = len(first)
    same = sum(one == other for one, other in zip(first, second, strict=True))
    # How often they would say the same if each kept its number of yes, and nothing else. In whole numbers: exact.
    by_chance = sum(first) * sum(second) + (count - sum(first)) * (count - sum(second))
    if by_chance == count * count:
        return None
    return (same * count - by_chance) / (count * count - by_chance)


def randomisation_test(
    first: Sequence[float], second: Sequence[float], *, samples: int = SAMPLES, seed: int = 0
) -> float:
    """The chance of a mean difference at least this large if, for each query, both runs' values could be swapped.

    Exact where there are no more ways to swap than `samples`; else from that many random ones.

    >>> randomisation_test([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])  # 2 of the 8 ways: none swapped, all swapped
    0.25
    """
    if len(first) != len(second):
        raise SettingError(f"A paired test needs as many values of both: {len(first)} and {len(second)} were given.")
    differences = _checked(first, samples) - _checked(second, samples)
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    least = float(abs(differences.sum())) * (1 - 1e-9)  # sums in another order differ in the last digit
    # To swap the two values of a query turns the sign of its difference.
    width = len(differences)
    if width <= _MOST_EXACT and 2**width <= samples:
        return _count_extreme(_every_sign(width), differences, least) / float(2**width)
    # The 1 stands for the observation itself, so that chance is never said to be impossible.
    return (_count_extreme(_random_signs(width, samples, seed), differences, least) + 1) / (samples + 1)


def _count_extreme(signs: Iterable[NDArray[np.int8]], differences: NDArray[np.float64], least: float) -> int:
    """In how many of the rows of signs the difference is at least this large."""
    extreme = 0
    for chunk in signs:
        extreme += int((abs(chunk @ differences) >= least).sum())
    return extreme


def compare(
    first: Mapping[str, Mapping[str, float]],
    second: Mapping[str, Mapping[str, float]],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> list[Comparison]:
    """Two runs' values per query (`evaluate_run`) compared, metric by metric, over the queries both have.

    Raises:
        SettingError: They share no query or no metric.
    """
    shared = [query for query in first if query in second]
    metrics: list[str] = []
    if shared:
        metrics = [metric for metric in first[shared[0]] if metric in second[shared[0]]]
    if not metrics:
        raise SettingError("The two runs share no query and metric. Evaluate both on the same questions and metrics.")
    comparisons: list[Comparison] = []
    for metric in metrics:
        values = [first[query][metric] for query in shared]
        others = [second[query][metric] for query in shared]
        comparisons.append(_compared(metric, values, others, samples, seed))
    return comparisons


def _compared(metric: str, first: Sequence[float], second: Sequence[float], samples: int, seed: int) -> Comparison:
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return Comparison(
        metric=metric,
        first=math.fsum(first) / len(first),
        second=math.fsum(second) / len(second),
        interval=bootstrap_interval(differences.tolist(), samples=samples, seed=seed),
        p_value=randomisation_test(first, second, samples=samples, seed=seed),
        queries=len(first),
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
    )


def _checked(values: Sequence[float], samples: int) -> NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if not len(data) or not np.isfinite(data).all():
        raise SettingError(f"Statistics need finite numbers, one or more; {len(data)} values were given.")
    if samples < 1:
        raise SettingError(f"samples is {samples}; it must be 1 or more.")
    return data


def _chunks(samples: int, width: int) -> Iterator[int]:
    size = max(1, _CELLS // width)
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _every_sign(width: int) -> Iterator[NDArray[np.int8]]:
    """All 2^width rows of -1 and 1: the bits of the numbers below that. Width 2: [-1 -1], [1 -1], [-1 1], [1 1]."""
    numbers = np.arange(2**width)[:, None]
    bits = (numbers >> np.arange(width)) & 1
    yield (bits * 2 - 1).astype(np.int8)


def _random_signs(width: int, samples: int, seed: int) -> Iterator[NDArray[np.int8]]:
    generator = np.random.default_rng(seed)
    for rows in _chunks(samples, width):
        yield generator.integers(0, 2, (rows, width), dtype=np.int8) * 2 - 1
