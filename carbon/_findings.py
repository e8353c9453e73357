"""Findings: what can be wrong with a series, by name, and what it leaves of the trust in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from carbon._series import IntensitySeries, PriceSeries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_S = TypeVar("_S", bound=IntensitySeries | PriceSeries)


class Fault(StrEnum):
    """What can be wrong with a series."""

    ZEROS = "zeros"
    FROZEN = "frozen"
    GLITCH = "glitch"
    OUT_OF_RANGE = "out-of-range"
    COPIED_DAY = "copied-day"
    OTHER_ZONE = "other-zone"
    LEVEL = "level"
    GAPS = "gaps"
    SHORT = "short"
    STALE = "stale"
    TOO_LITTLE = "too-little"


_WEIGHTS: Final = {
    Fault.GAPS: 0.9,
    Fault.SHORT: 1.0,  # what is there is as good as ever
    Fault.STALE: 0.7,
    Fault.GLITCH: 0.8,
    Fault.COPIED_DAY: 0.8,
}
"""What is left of the trust in a series with this finding; a half where nothing stands here."""


class Finding(BaseModel):
    """Something that is wrong with a series.

    Attributes:
        fault: Its name.
        text: The same in words, with numbers.
        rejects: Whether the whole series is not believed for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: Fault
    text: str
    rejects: bool = False

    @property
    def named(self) -> str:
        """Return its name and the words, as one note."""
        return f"{self.fault.value}: {self.text}"

    @property
    def weight(self) -> float:
        """Return what it leaves of the trust in the series, 0 to 1."""
        return 0.0 if self.rejects else _WEIGHTS.get(self.fault, 0.5)


@dataclass(frozen=True)
class Norm:
    """What a zone's intensity has been in this signal and accounting, from stored actual values.

    Attributes:
        least: Lowest value, gCO2e/kWh.
        most: Highest value.
        days: Days that this is known of.
    """

    least: float
    most: float
    days: float


@dataclass(frozen=True)
class Inspected(Generic[_S]):
    """A series after the quality gate.

    Attributes:
        series: Without the values that are not believed; ``None`` when nothing useful is left.
        findings: What was found.
    """

    series: _S | None
    findings: tuple[Finding, ...]

    @property
    def refusal(self) -> str:
        """Why the whole of it is not believed; empty where it is."""
        return "; ".join(finding.text for finding in self.findings if finding.rejects)


def spoken(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield what must be said of a series that is believed all the same."""
    for finding in findings:
        # Where it ends is said of each zone anyway.
        if not finding.rejects and finding.fault is not Fault.SHORT:
            yield finding.named
