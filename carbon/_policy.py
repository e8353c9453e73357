"""The policy of a job: three numbers and a strategy that the person on call can read."""

from __future__ import annotations

import math
import re
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from carbon._calendar import readings, utc
from carbon._errors import BadInput
from carbon._regions import region, regions
from carbon._series import require_utc

_DURATION = re.compile(r"^(?:(\d{1,6})d)?\s*(?:(\d{1,6})h)?\s*(?:(\d{1,6})m)?$")
_WALL_CLOCK = re.compile(r"^(\d{1,2}):(\d{2})\s+(\S+)$")
_LONGEST = timedelta(days=14)
_RegionName = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(regions())})]


class Strategy(StrEnum):
    """How a run is placed."""

    CLEANEST = "cleanest"
    CHEAPEST = "cheapest"
    RUN_NOW = "run_now"


class CarbonPolicy(BaseModel):
    """When, where and at what price a run may happen; the field texts are the form's help."""

    # The schema is what Prefect refuses a request by; the validators say it in better words.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra={
            "if": {"properties": {"strategy": {"const": "cheapest"}}, "required": ["strategy"]},
            "then": {
                "properties": {"max_g_per_kwh": {"type": "number"}},
                "required": ["max_g_per_kwh"],
            },
        },
    )

    strategy: Strategy = Field(
        default=Strategy.CLEANEST,
        description=(
            "cleanest: lowest emissions while the cost stays within the tolerance. cheapest: "
            "lowest cost unless the intensity exceeds the maximum. run_now: at once, at home."
        ),
    )
    finish_by: str = Field(
        default="24h",
        description=(
            "Latest acceptable finish: a duration from the scheduled time ('12h', '1d 6h', '90m') "
            "or the next wall-clock time in a zone ('06:30 Europe/Berlin')."
        ),
        json_schema_extra={"pattern": f"{_DURATION.pattern}|{_WALL_CLOCK.pattern}"},
    )
    cost_tolerance_percent: Annotated[float, Field(ge=0, le=1000)] = Field(
        default=10.0,
        description="Strategy cleanest: how much dearer than running at once at home it may be.",
    )
    max_cost_usd: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        title="Max cost (USD)",
        description="Highest cost of one run in USD, compute and transfer.",
    )
    max_g_per_kwh: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        title="Max intensity (gCO2e/kWh)",
        description="Highest mean intensity of the whole run; strategy cheapest needs it.",
    )
    min_saving_percent: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="Move or delay only for at least this saving of emissions; else run at once.",
    )
    freshness_g_per_hour: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        title="Freshness (gCO2e per hour)",
        description="What an hour of delay is worth in gCO2e; it waits only where that is saved.",
    )
    freshness_usd_per_hour: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        title="Freshness (USD per hour)",
        description="Strategy cheapest: what an hour of delay is worth in USD.",
    )
    only_regions: tuple[_RegionName, ...] | None = Field(
        default=None,
        description="Regions that may be used, e.g. aws:eu-north-1; empty: all permitted ones.",
    )

    @field_validator("strategy", mode="before")
    @classmethod
    def _either_dash(cls, value: object) -> object:
        return value.replace("-", "_") if isinstance(value, str) else value  # as --help writes it

    @field_validator("finish_by")
    @classmethod
    def _readable(cls, value: str) -> str:
        _parse_finish_by(value)
        return value.strip()

    @field_validator("only_regions")
    @classmethod
    def _known_regions(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return tuple(region(name, field="only_regions").name for name in value or ()) or None

    @model_validator(mode="after")
    def _cheapest_needs_ceiling(self) -> Self:
        if self.strategy is Strategy.CHEAPEST and self.max_g_per_kwh is None:
            raise BadInput(
                "max_g_per_kwh",
                "strategy 'cheapest' needs a ceiling",
                "Set the intensity in gCO2e/kWh that must not be exceeded, e.g. 200.",
            )
        return self

    def over(self, base: CarbonPolicy) -> CarbonPolicy:
        """Return another policy with what this one states put over it.

        Args:
            base: Its fields hold where this policy was made without them.

        Raises:
            BadInput: The two do not go together.
        """
        stated = {name: getattr(self, name) for name in self.model_fields_set}
        try:
            return CarbonPolicy.model_validate({**base.model_dump(), **stated})
        except ValidationError as error:
            raise BadInput.from_validation("policy", error, model=CarbonPolicy) from error

    def deadline(self, release: datetime) -> datetime:
        """Return the latest acceptable finish of a run that was released at this moment.

        Args:
            release: When the run was wanted, aware.
        """
        release = require_utc("release", release)
        parsed = _parse_finish_by(self.finish_by)
        if isinstance(parsed, timedelta):
            return release + parsed
        wall, zone = parsed
        today = release.astimezone(zone).date()
        # In autumn it may come twice, and in spring the clock may have jumped over it today.
        moments = (
            utc(moment)
            for day in range(3)
            for moment in readings(zone, today + timedelta(days=day), wall)
        )
        return min(moment for moment in moments if moment > release)

    @property
    def longest(self) -> timedelta:
        """The longest time that there can be from release to deadline."""
        parsed = _parse_finish_by(self.finish_by)
        # From just after a time of the day to the same on a day that has 25 hours.
        return parsed if isinstance(parsed, timedelta) else timedelta(hours=25)

    def cost_limit(self, home_usd: float) -> float:
        """Return the highest cost of a run in USD; endless without a limit.

        Args:
            home_usd: What it costs at once at home.
        """
        limits = [self.max_cost_usd] if self.max_cost_usd else []
        if self.strategy is Strategy.CLEANEST:
            # Of the amount: where prices are negative, home costs less than nothing.
            limits.append(home_usd + abs(home_usd) * self.cost_tolerance_percent / 100)
        return min(limits, default=math.inf)

    def describe(self) -> str:
        """Say the policy in one plain sentence."""
        end = f"finish {_finish_text(self.finish_by)}"
        cost = f"cost at most {self.max_cost_usd:g} USD" if self.max_cost_usd else ""
        where = f"use only {', '.join(self.only_regions)}" if self.only_regions else ""
        worth = (
            f"run at once at home unless that saves {self.min_saving_percent:g} % of emissions"
            if self.min_saving_percent
            else ""
        )
        fresh = self._freshness()
        if self.strategy is Strategy.RUN_NOW:
            return _sentence("Run at once" if where else "Run at once at home", end, cost, where)
        if self.strategy is Strategy.CHEAPEST:
            lead = (
                "Run where and when it is cheapest unless the grid exceeds "
                f"{self.max_g_per_kwh:g} gCO2e/kWh"
            )
            return _sentence(lead, end, cost, where, worth, fresh)
        lead = (
            "Run where and when the grid is cleanest while the cost stays within "
            f"{self.cost_tolerance_percent:g} % of running at once at home"
        )
        ceiling = (
            f"keep the grid at or below {self.max_g_per_kwh:g} gCO2e/kWh"
            if self.max_g_per_kwh
            else ""
        )
        return _sentence(lead, end, cost, ceiling, where, worth, fresh)

    def _freshness(self) -> str:
        by_cost = self.strategy is Strategy.CHEAPEST
        worth = self.freshness_usd_per_hour if by_cost else self.freshness_g_per_hour
        unit = "USD" if by_cost else "gCO2e"
        return f"wait an hour only where that saves {worth:g} {unit}" if worth else ""


def _sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part) + "."


def _finish_text(value: str) -> str:
    parsed = _parse_finish_by(value)
    if isinstance(parsed, timedelta):
        return f"within {value} of the scheduled time"
    wall, zone = parsed
    return f"by {wall:%H:%M} {zone.key}"


def _parse_finish_by(value: str) -> timedelta | tuple[time, ZoneInfo]:
    text = value.strip()
    fix = (
        "Write a duration like '12h' or '1d 6h', or a time with a zone like '06:30 Europe/Berlin'."
    )
    if match := _DURATION.match(text):
        days, hours, minutes = (int(part or 0) for part in match.groups())
        length = timedelta(days=days, hours=hours, minutes=minutes)
        if not timedelta(0) < length <= _LONGEST:
            raise BadInput("finish_by", f"{value!r} is not between 1 minute and 14 days", fix)
        return length
    if match := _WALL_CLOCK.match(text):
        try:
            wall = time(int(match[1]), int(match[2]))
        except ValueError as error:
            raise BadInput("finish_by", f"{value!r} is no time of day", fix) from error
        zone = match[3]
        try:
            return wall, ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:  # 'Europe' is a folder
            raise BadInput("finish_by", f"time zone {zone!r} is not known", fix) from error
    raise BadInput("finish_by", f"{value!r} is neither a duration nor a time of day", fix)
