"""What a comparison of groups gives: rates with intervals, groups, disparities; see `fairness` for what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["computed", "insufficient_data"]


@dataclass(frozen=True)
class Rate:
    """A share with its Wilson score interval.

    Attributes:
        value: The share (NaN where the denominator is 0).
        ci_low: Lower end of the interval.
        ci_high: Upper end.
        n: The denominator.
        status: ``insufficient_data`` where the denominator is below the minimum cell size.
    """

    value: float
    ci_low: float
    ci_high: float
    n: int
    status: Status


@dataclass(frozen=True)
class GroupResult:
    """One group of one sensitive attribute. The rates are None where the group is too small to show.

    Attributes:
        group: The group's label.
        n: Records in the group.
        positives: Records with the good outcome.
        status: ``insufficient_data`` where ``n`` is below the minimum cell size.
    """

    group: str
    n: int
    positives: int | None
    status: Status
    selection_rate: Rate | None = None
    tpr: Rate | None = None
    fpr: Rate | None = None
    ppv: Rate | None = None
    auc: float | None = None
    auc_ci_low: float | None = None
    auc_ci_high: float | None = None


@dataclass(frozen=True)
class Disparity:
    """One comparison over the groups of an attribute.

    Attributes:
        name: Such as ``adverse_impact_ratio``.
        value: The number, or None with status ``insufficient_data``.
        ci_low: Lower end of the bootstrap percentile interval (resampled within groups).
        ci_high: Upper end. Extremes over groups are biased under resampling: read the interval as a rough scale.
        unit: ``ratio`` or ``difference``.
        higher_is_better: The direction.
        groups: The groups that were compared.
        lowest_group: The group with the lowest rate, where one rate is compared.
        highest_group: The group with the highest rate, where one rate is compared.
        n: Records in the compared groups.
        status: Whether there were two usable groups.
    """

    name: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    unit: str
    higher_is_better: bool
    groups: tuple[str, ...]
    lowest_group: str | None
    highest_group: str | None
    n: int
    status: Status


@dataclass(frozen=True)
class FairnessResult:
    """The group results and disparities of one sensitive attribute.

    Attributes:
        attribute: Name of the sensitive attribute, such as ``SEX``.
        favourable: The favourable decision in words.
        purpose: Always ``screen``: a reason to look closer, not a test that can be passed.
        min_cell: The minimum cell size used.
        missing: Records whose group is not known; they are in no group.
        excluded_groups: Groups left out of every disparity.
        notes: What a reader has to know about the numbers, in sentences.
        source: Where the attribute comes from, in words: stated by the person, taken from a file, inferred from name and address.
    """

    attribute: str
    favourable: str
    purpose: Literal["screen"]
    min_cell: int
    n_boot: int
    confidence: float
    seed: int
    missing: int
    groups: tuple[GroupResult, ...]
    disparities: tuple[Disparity, ...]
    excluded_groups: tuple[str, ...]
    notes: tuple[str, ...]
    source: str = ""

    def __getitem__(self, name: str) -> Disparity:
        for disparity in self.disparities:
            if disparity.name == name:
                return disparity
        raise KeyError(name)
