"""A decision: where and when, at what cost, what else was considered, and which rule bound."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

from carbon._errors import BadInput
from carbon._outlook import Provenance
from carbon._segment import Segment

_KILO = 1000.0
_SMALL_USD = 0.1
_HOUR_AND_HALF, _TWO_DAYS = 90, 2880
_REVISED_PERCENT = 1
"""Published intensities are revised by some per cent: less is not told as a saving."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(StrEnum):
    """What a decision hung on, or why a pool was refused."""

    GRID = "grid"
    DEADLINE = "deadline"
    COST = "cost"
    INTENSITY = "intensity"
    SAVING = "saving"
    CAPACITY = "capacity"
    RESIDENCY = "residency"
    POLICY = "policy"
    SIGNAL = "signal"
    INTERACTIVE = "interactive"


class Reservation(_Frozen):
    """A slot of a pool that another run holds or will hold.

    Attributes:
        pool: Name of the pool.
        start: When the slot is taken.
        end: When it is free again, by the 95th percentile of the run time.
        stage: The stage that holds it; empty for the entry run, which holds its own to the end.
    """

    pool: str
    start: AwareDatetime
    end: AwareDatetime
    stage: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            raise BadInput("end", "a slot ends before it starts", "Give a later end.")
        return self


class Placement(_Frozen):
    """One stage in one pool.

    Attributes:
        stage: Name of the stage.
        pool: Name of the pool.
        region: Its cloud region.
        zone: Its grid zone.
        heavy: Whether the stage is dispatched.
        start: When the slot is taken; the stage's code begins after the pool's start-up time.
        end: Expected end (median run time).
        end_p95: End that 95 of 100 runs keep.
        kwh: Expected energy including PUE.
        usd: Expected cost: compute, energy where the pool is billed for it, transfer; ``None``
            where a price is needed and not known.
        g: Expected emissions in gCO2e, transfer and embodied share included; ``None`` without a
            signal.
        embodied_g: The share in it that does not hang on the time: from making the hardware, and
            what restarts emit at any hour.
        g_per_kwh: Mean intensity of the zone while it runs; ``None`` without a signal.
        segments: The parts between which it pauses; empty for a stage that runs whole.
    """

    stage: str
    pool: str
    region: str
    zone: str
    heavy: bool
    start: datetime
    end: datetime
    end_p95: datetime
    kwh: float
    usd: float | None
    g: float | None
    embodied_g: float = 0.0
    g_per_kwh: float | None
    segments: tuple[Segment, ...] = ()


class Option(_Frozen):
    """A whole chain placed: one placement per stage.

    Attributes:
        placements: In the order of the stages.
        start: When the run is due.
        end: Expected end.
        latest_safe_start: Latest start from which the deadline still holds for p95 run times,
            start-up and one retry.
        kwh: Expected energy including PUE.
        usd: Expected cost; ``None`` where a price is needed and not known.
        g: Expected emissions in gCO2e; ``None`` without a signal.
        g_per_kwh: Emissions over energy, without the embodied share; ``None`` without a signal.
        slots: The pool slots that it takes.
        family: What its emissions are judged by, e.g. ``forecast average lifecycle``; empty where
            that is not known. Options of unlike families are never compared.
    """

    placements: tuple[Placement, ...]
    start: datetime
    end: datetime
    latest_safe_start: datetime
    kwh: float
    usd: float | None
    g: float | None
    g_per_kwh: float | None
    slots: tuple[Reservation, ...]
    family: str = ""

    def placement(self, stage: str) -> Placement:
        """Return the placement of a stage."""
        return next(placement for placement in self.placements if placement.stage == stage)

    @property
    def main(self) -> Placement:
        """The placement that a person means by *where it runs*: the one with the most energy."""
        heavy = [placement for placement in self.placements if placement.heavy]
        return max(heavy or self.placements, key=lambda placement: placement.kwh)


class Refusal(_Frozen):
    """A pool that was not used, and why.

    Attributes:
        pool: Name of the pool.
        region: Its cloud region.
        rule: What refused it.
        reason: The same in words, with numbers.
    """

    pool: str
    region: str
    rule: Rule
    reason: str


class Relaxation(_Frozen):
    """What one limit costs: what would be saved if it were wider.

    Attributes:
        rule: The limit.
        saves_g: Emissions that would be saved; ``None`` where cost is compared.
        saves_usd: Cost that would be saved; ``None`` where emissions are compared.
        text: The same in a sentence.
    """

    rule: Rule
    saves_g: float | None = None
    saves_usd: float | None = None
    text: str


class Decision(_Frozen):
    """What was decided for one run, and everything needed to explain it.

    Attributes:
        workload: Name of the workload.
        policy: The policy in one sentence.
        decided_at: When, in grid time.
        deadline: Latest acceptable finish.
        chosen: The placement.
        baseline: Running at once in the home region.
        alternatives: The choice without its wait, if it waits, and the best option of each other
            permitted set of pools, best first.
        refusals: Pools that were not used and why.
        rule: What the decision hung on.
        reason: The same in a sentence.
        relaxations: What single limits cost, the dearest first.
        breaches: Limits that had to give way, in words; empty on a good day.
        degraded: What was worse than it should be, in words; empty on a good day.
        provenance: Where the intensities came from, by zone.
        clock: How grid time relates to life, when it is replayed; empty otherwise.
    """

    workload: str
    policy: str
    decided_at: datetime
    deadline: datetime
    chosen: Option
    baseline: Option
    alternatives: tuple[Option, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    rule: Rule
    reason: str
    relaxations: tuple[Relaxation, ...] = ()
    breaches: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    clock: str = ""

    @property
    def delay(self) -> timedelta:
        """How long the run waits."""
        return self.chosen.start - self.decided_at

    @property
    def modelled(self) -> bool:
        """Whether the intensities are modelled rather than forecast or measured."""
        return any(row.kind == "modelled" for row in self.provenance)

    @property
    def saving_percent(self) -> float | None:
        """Expected saving of emissions against the baseline, in per cent."""
        if self.chosen.g is None or not self.baseline.g:
            return None
        return 100.0 * (1.0 - self.chosen.g / self.baseline.g)

    @property
    def headline(self) -> str:
        """Say the decision in one sentence."""
        main = self.chosen.main
        when = "now" if self.delay <= timedelta(0) else f"at {self.chosen.start:%a %d %b %H:%M} UTC"
        pools = {one.pool: None for one in self.chosen.placements if one.heavy and one is not main}
        names = ", ".join({main.pool: None} | pools)
        word = "pools" if "," in names else "pool"
        text = f"{self.workload}: run {when} in {main.region} ({word} {names})"
        if main.segments:
            text += f" in {len(main.segments)} segments until {main.end:%a %d %b %H:%M} UTC"
        if self.saving_percent is not None and self.chosen.g is not None:
            text += f", {_change(self.saving_percent)}{amount(self.chosen.g)} expected"
        return text + (" (modelled grid)." if self.modelled else ".")


def _change(saving_percent: float) -> str:
    percent = round(saving_percent)
    if abs(percent) <= _REVISED_PERCENT:
        return ""
    return f"{percent} % less emissions, " if percent > 0 else f"{-percent} % more emissions, "


def amount(grams: float) -> str:
    """Return emissions for people."""
    # By what would be shown: 999.7 is a kilogram.
    kilos = float(f"{grams:.3g}") >= _KILO
    return f"{grams / _KILO:.1f} kgCO2e" if kilos else f"{grams:.3g} gCO2e"


def span(time: timedelta) -> str:
    """Return a length of time for people."""
    minutes = time.total_seconds() / 60
    if minutes < _HOUR_AND_HALF:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.1f} h" if minutes < _TWO_DAYS else f"{minutes / 1440:.1f} days"


def money(usd: float) -> str:
    """Return a cost for people; a small one is not rounded away."""
    return f"{usd:.2f} USD" if abs(usd) >= _SMALL_USD or not usd else f"{usd:.2g} USD"
