"""What is believed of a zone: the stored forecasts after quality gate, correction and trust.

Step by step, and each step is said in the notes of the series:

1. The provider's newest forecast that passes the quality gate, at most 36 hours old; where it is
   not known, what the provider said a little earlier.
2. Less its usual error by hour of the day, once that is proven; and of what it tells beyond the
   typical day, the part that has proved true.
3. Beyond its horizon, and where there is none: a statistical forecast from the zone's own
   actual values, if that has beaten starting at once in this zone.
4. A forecast that has *not* beaten starting at once in this zone tells places apart, not hours: its
   mean stands for all of its hours.
5. Nothing. Then the next provider of the zone is looked at; after the last one, the run starts at
   once, at home.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from carbon._findings import Finding, spoken
from carbon._quality import inspect
from carbon._series import joined
from carbon._statistical import statistical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carbon._findings import Inspected
    from carbon._rows import Issue
    from carbon._series import IntensitySeries
    from carbon._store import Store
    from carbon._trust import Trust

_EARLIER: Final = timedelta(hours=6)
"""What a provider said this much earlier stands in where its newest forecast says nothing."""

_FILLED_FROM: Final = 2
_LOOKED_AT: Final = (1, 8, 300)
_LATEST: Final = timedelta(hours=36)
"""What was sent before this is not believed any more."""

_LONGEST_STEP: Final = timedelta(hours=1)
_MOMENT: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Belief:
    """What is believed of one zone's intensity.

    Attributes:
        series: The intensity; ``None`` where nothing is believed.
        trust: What the forecasts that it is made of have been worth here, if that is known.
        findings: What the quality gate found in forecasts that were looked at.
        reasons: Why there is nothing, or why a better source was passed over.
        issued_at: When the numbers were issued, or else fetched.
        further: What the forecasts that carry it on have been worth, and from when on they do.
    """

    series: IntensitySeries | None
    trust: Trust | None = None
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()
    issued_at: datetime | None = None
    further: tuple[datetime, Trust] | None = None

    def interval(self, start: datetime, end: datetime) -> tuple[float, float, float] | None:
        """Return the 5 %, 50 % and 95 % quantile of the mean over a window.

        Returns:
            ``None`` where too little is known to say.
        """
        own = self.further[1] if self.further and end > self.further[0] else self.trust
        if self.series is None or own is None or not own.proven:
            return None
        if not self.series.covers(start, end) or self.issued_at is None:
            return None
        return own.interval(self.series, self.issued_at, start, end)


@dataclass
class Believing:
    """The belief of one zone in the making."""

    store: Store
    provider: str
    others: Mapping[str, str]
    heard: dict[str, list[Issue]]
    zone: str
    now: datetime
    start: datetime
    end: datetime
    findings: list[Finding] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def belief(self) -> Belief:
        own = self.store.trust(self.provider, self.zone)
        series = self._sent()
        if series is not None and (own is None or not own.judged or own.earned):
            return self._extended(_corrected(series, own, self.findings))
        passed = tuple(self.reasons) or (_not_earned(self.zone, own) if own and series else ())
        earned = self._statistical()
        if earned is not None and earned.series is not None:
            return replace(earned, series=earned.series.told(notes=earned.series.notes + passed))
        if series is not None and own is not None:
            return _level_only(series, own, self.findings)
        return Belief(None)

    def _sent(self) -> IntensitySeries | None:
        """Return what the provider sent last that passes the quality gate."""
        failure = self.store.failure(self.provider, self.zone, "intensity")
        if not self._newest(self.zone):
            unheard = f"{self.provider} has sent no forecast for {self.zone} yet"
            self.reasons.append(failure.told(self.now) if failure else unheard)
            return None
        place, issue, believed = self._last_believed()
        if issue is None or believed is None:
            return None
        whole, filled = self._filled(issue, believed)
        series = self._from_start(whole)
        if series is None:
            self.reasons.append(f"{self.provider} says nothing about now for {self.zone}")
            return None
        notes = [f"{self.zone} {note}" for note in spoken(self.findings)]
        if place:
            lied = "answer of {} is" if place == 1 else f"{place} answers of {{}} are"
            lied = lied.format(self.provider)
            notes.append(f"{self.zone}: the last {lied} not believed; an earlier one is used")
        elif failure and failure.silent:
            heard = f"its answer of {issue.confirmed_at:%a %d %b %H:%M} UTC is used"
            notes.append(f"{self.zone}: {failure.told(self.now)}; {heard}")
        if filled and not believed.covers(series.start, min(series.end, believed.end)):
            notes.append(f"{self.zone}: some hours are from an earlier answer of {self.provider}")
        return series.told(notes=tuple(notes))

    def _last_believed(self) -> tuple[int, Issue | None, IntensitySeries | None]:
        """Return the newest issue that passes the quality gate, with its place and what is left."""
        seen = 0
        for most in _LOOKED_AT:
            # Usually the newest will do; when the last few are all lies, all that is kept is read.
            issues = self._issues(most)
            for place, issue in enumerate(issues[seen:], seen):
                looked = self._inspected(issue)
                if place == 0 or looked.series is not None:
                    self.findings += looked.findings
                if looked.series is not None:
                    return place, issue, looked.series
                if place == 0:
                    told = f"{self.provider} is not believed for {self.zone}: {looked.refusal}"
                    self.reasons.append(told)
            if len(issues) < most:
                break
            seen = most
        return 0, None, None

    def _filled(self, issue: Issue, believed: IntensitySeries) -> tuple[IntensitySeries, bool]:
        """Fill what is not known from a few earlier issues, and tell whether there were any."""
        whole = believed.covers(self.start, believed.end)
        if whole and believed.end >= self.end:
            return believed, False
        earlier = [
            found
            for other in self.store.issues(
                self.provider,
                self.zone,
                issue.fetched_at - _EARLIER,
                issue.fetched_at - _MOMENT,
                beyond=believed.end if whole else None,
                most=_FILLED_FROM,
            )
            if (found := self._inspected(other).series) and found.family == believed.family
        ]
        return (joined([believed, *earlier]), True) if earlier else (believed, False)

    def _inspected(self, issue: Issue) -> Inspected[IntensitySeries]:
        others = (
            found[0].series
            for zone in self.others
            if zone != self.zone and (found := self._newest(zone))
        )
        norm = self.store.norm(self.provider, self.zone)
        return inspect(issue.series, now=self.now, asked=self.end, norm=norm, others=others)

    def _newest(self, zone: str) -> list[Issue]:
        if zone not in self.heard:
            self.heard[zone] = self._read(zone, 1)
        return self.heard[zone]

    def _issues(self, most: int) -> list[Issue]:
        return self._newest(self.zone) if most == 1 else self._read(self.zone, most)

    def _read(self, zone: str, most: int) -> list[Issue]:
        kept = self.others.get(zone, self.provider)
        return self.store.issues(kept, zone, self.now - _LATEST, self.now, most=most)

    def _from_start(self, series: IntensitySeries) -> IntensitySeries | None:
        """Return a series from the start of the window on; ``None`` if it says nothing then."""
        if series.end <= self.start:
            return None
        if series.start <= self.start:
            present = series.within(self.start, series.end)
            return present if present.values[0] is not None else None
        late, step = series.start - self.start, _first_step(series)
        if late > min(step, _LONGEST_STEP) or series.values[0] is None:
            return None
        # A forecast often begins with the next step. Its first value stands for the minutes before:
        # the actual value would not do, for the two differ in level.
        return replace(
            series, starts=[self.start, *series.starts], values=[series.values[0], *series.values]
        )

    def _statistical(self) -> Belief | None:
        """Return the statistical forecast, if it has earned its place."""
        method = statistical(self.provider)
        own = self.store.trust(method, self.zone)
        issues = self.store.issues(method, self.zone, self.now - _LATEST, self.now, most=1)
        if own is None or not issues:
            return None
        if not own.earned:
            what = "has not beaten" if own.proven else "has not had the time to beat"
            self.reasons.append(
                f"a statistical forecast {what} starting at once in {self.zone} "
                f"({own.saved_percent:+.1f} % over {own.days} days)"
            )
            return None
        age = self.now - issues[0].fetched_at
        series = self._from_start(own.corrected(issues[0].series)) if age < _LATEST else None
        if series is None:
            return None
        hours = f", {age / timedelta(hours=1):.0f} h old" if age > timedelta(hours=2) else ""
        return _belief(series.told(notes=(f"{self.zone}: {series.source}{hours}",)), own)

    def _extended(self, belief: Belief) -> Belief:
        """Carry a belief on beyond its horizon, if what carries it on has earned its place."""
        assert belief.series is not None
        own = belief.trust
        if belief.series.end >= self.end or own is None or not own.earned:
            # Only to a forecast that was corrected: else the seam would look like a cleaner hour.
            return belief
        kept = list(self.reasons)
        further = self._statistical()
        self.reasons[:] = kept
        if further is None or further.series is None or further.series.end <= belief.series.end:
            return belief
        if further.series.family != belief.series.family:
            return belief
        note = f"{self.zone}: from {belief.series.end:%a %d %b %H:%M} UTC on a statistical forecast"
        rest = further.series.within(belief.series.end, further.series.end)
        whole = joined([belief.series, rest])
        whole = whole.told(notes=(*belief.series.notes, note))
        assert further.trust is not None
        return replace(belief, series=whole, further=(belief.series.end, further.trust))


def _first_step(series: IntensitySeries) -> timedelta:
    return (*series.starts, series.end)[1] - series.start


def _corrected(series: IntensitySeries, own: Trust | None, findings: Sequence[Finding]) -> Belief:
    """Return a forecast less its usual error, once that is proven."""
    if own is None or not own.proven:
        return _belief(series, own, findings)
    return _belief(own.corrected(series), own, findings)


def _level_only(series: IntensitySeries, own: Trust, findings: Sequence[Finding]) -> Belief:
    """Return a forecast whose hours are not told apart, for they have been told wrongly here."""
    lengths = np.diff(series.edges)[[value is not None for value in series.values]]
    mean = float(np.average(series.known, weights=lengths))
    (note,) = _not_earned(series.zone, own)
    values = [None if value is None else mean for value in series.values]
    flat = replace(
        series, values=values, notes=(*series.notes, f"{note}, so only its mean is used")
    )
    return _belief(flat, own, findings)


def _not_earned(zone: str, own: Trust) -> tuple[str]:
    saved = f"{own.saved_percent:+.1f} % over {own.days} days"
    return (f"{zone}: its forecast has not beaten starting at once here ({saved})",)


def _belief(series: IntensitySeries, own: Trust | None, findings: Sequence[Finding] = ()) -> Belief:
    """Put series and trust together; what was found in the series lowers the trust."""
    kept = math.prod(finding.weight for finding in findings if not finding.rejects)
    weight = own.captured * kept if own is not None and own.judged else None
    issued_at = series.issued_at or series.fetched_at
    return Belief(series.told(trust=weight), own, issued_at=issued_at)
