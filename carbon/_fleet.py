"""The fleet as the planner sees it: pools, the home region, and where each class of data may be."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from carbon._calendar import Blackout, Hours, Timezone
from carbon._errors import BadInput, ResidencyError, UnknownZone, suggest
from carbon._regions import Region, region, regions
from carbon._signals import Signals
from carbon._workload import Hardware, Stage, Workload

ANYWHERE = "*"

DataClass = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
"""Name of a class of data; it also names folders."""

Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class PoolType(StrEnum):
    """Type of the Prefect work pool."""

    PROCESS = "process"
    DOCKER = "docker"
    KUBERNETES = "kubernetes"


class CapacityHours(Hours):
    """Hours at which a pool takes fewer runs.

    Attributes:
        capacity: Runs at a time then.
    """

    capacity: Annotated[int, Field(ge=0)]


class TariffHours(Hours):
    """Hours at which electricity costs something else.

    Attributes:
        usd_per_kwh: Its price then.
    """

    usd_per_kwh: Annotated[float, Field(ge=0)]


class Pool(BaseModel):
    """A work pool: one region, one hardware class, one type, a capacity.

    Attributes:
        name: Name of the Prefect work pool.
        region: Cloud region from the catalogue, e.g. ``aws:eu-north-1``.
        hardware: Hardware class.
        type: Type of the Prefect work pool.
        capacity: Runs at a time.
        watts: Power of one run's share of a server while it runs, before PUE.
        usd_per_hour: Price of that share.
        startup: Time from the moment a run is due to its first line of code.
        billed_energy: Whether the electricity is paid on top at the zone's market price (own or
            colocated hardware); cloud prices include it.
        usd_per_kwh: Price of electricity that is paid on top by a contract, instead.
        tariff: Hours at which that price is another one; where two hold, the last one does.
        hours: Hours at which the pool takes fewer runs.
        timezone: Zone of the clock that ``tariff`` and ``hours`` go by.
        embodied_g_per_hour: Share of the emissions from making the hardware, gCO2e per hour of one
            run (the M of ISO/IEC 21031): emissions of the server x part of it / hours it is used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    region: str
    hardware: Hardware
    type: PoolType = PoolType.PROCESS
    capacity: Annotated[int, Field(ge=1)]
    watts: Annotated[float, Field(gt=0)]
    usd_per_hour: Annotated[float, Field(ge=0)]
    startup: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(minutes=2)
    billed_energy: bool = False
    usd_per_kwh: Annotated[float, Field(ge=0)] | None = None
    tariff: tuple[TariffHours, ...] = ()
    hours: tuple[CapacityHours, ...] = ()
    timezone: Timezone = "UTC"
    embodied_g_per_hour: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _one_price_of_energy(self) -> Self:
        if self.billed_energy and self.usd_per_kwh is not None:
            raise BadInput(
                "usd_per_kwh",
                "stands beside billed_energy: electricity is paid once",
                "Keep usd_per_kwh for a contract, or billed_energy for the market price.",
            )
        if self.tariff and self.usd_per_kwh is None:
            raise BadInput(
                "tariff",
                "says when electricity costs something else, but not what it costs otherwise",
                "Add usd_per_kwh to the pool.",
            )
        if any(band.capacity > self.capacity for band in self.hours):
            raise BadInput(
                "hours",
                f"a capacity is above the pool's, which is {self.capacity}",
                "Let capacity be the most at any time; hours say when it is less.",
            )
        return self

    @field_validator("startup", mode="before")
    @classmethod
    def _has_a_unit(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise BadInput(
                "startup", f"{value} has no unit", "Write an ISO 8601 duration, e.g. 'PT2M'."
            )
        return value

    @field_validator("region")
    @classmethod
    def _known_region(cls, value: str) -> str:
        return region(value).name

    @property
    def place(self) -> Region:
        """The pool's region, from the catalogue."""
        return region(self.region)

    def can_run(self, stage: Stage) -> bool:
        """Tell whether the stage has a need for this pool's hardware."""
        return self.hardware in stage.needs


class Fleet(BaseModel):
    """All pools, the home region and the residency rules.

    Attributes:
        home: Region where data lives and where the baseline runs.
        residency: Data class to the jurisdictions where it may be; ``["*"]`` means anywhere.
        pools: The work pools.
        usd_per: Exchange rates, e.g. ``EUR = 1.08``; needed only for pools with billed energy.
        signals: Which signal providers are asked for which zone.
        blackouts: Periods in which heavy stages keep out of pools.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    home: str
    residency: Annotated[dict[DataClass, tuple[str, ...]], Field(min_length=1)]
    pools: Annotated[tuple[Pool, ...], Field(min_length=1)]
    usd_per: dict[Currency, Annotated[float, Field(gt=0)]] = {}
    signals: Signals = Signals()
    blackouts: tuple[Blackout, ...] = ()

    @field_validator("home")
    @classmethod
    def _known_home(cls, value: str) -> str:
        return region(value, field="home").name

    @field_validator("residency")
    @classmethod
    def _known_jurisdictions(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        known = {place.jurisdiction for place in regions().values()} | {ANYWHERE}
        for data_class, allowed in value.items():
            for jurisdiction in allowed:
                if jurisdiction not in known:
                    raise BadInput.unknown(data_class, jurisdiction, known)
            if ANYWHERE in allowed and len(allowed) > 1:
                raise BadInput(data_class, "names '*' beside other jurisdictions", "Keep one.")
        return value

    @model_validator(mode="after")
    def _known_zones(self) -> Self:
        # Of the catalogue, not of the pools: a pool may be left out for a while.
        known = {place.zone for place in regions().values()}
        for table, zone in self.signals.zones_named():
            if zone not in known:
                raise UnknownZone(f"signals.{table}", zone, known)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [pool.name for pool in self.pools]
        for name in names:
            if names.count(name) > 1:
                raise BadInput("pools", f"two pools are named {name!r}", "Rename one of them.")
        for blackout in self.blackouts:
            for name in blackout.pools:
                if name not in names:
                    raise BadInput.unknown(f"blackouts.{blackout.name}", name, names)
        if not any(
            pool.region == self.home and pool.hardware is Hardware.CPU for pool in self.pools
        ):
            raise BadInput(
                "home",
                f"the home region {self.home!r} has no CPU pool",
                "Add a pool with that region and hardware = 'cpu': entry runs and light stages run "
                "there.",
            )
        return self

    @property
    def by_name(self) -> dict[str, Pool]:
        """Pools by name."""
        return {pool.name: pool for pool in self.pools}

    @property
    def home_cpu(self) -> Pool:
        """The pool for entry runs and light stages: the first CPU pool at home."""
        return next(
            pool
            for pool in self.pools
            if pool.region == self.home and pool.hardware is Hardware.CPU
        )

    def blackouts_of(self, pool: Pool) -> tuple[Blackout, ...]:
        """Return the blackouts of a pool: they are for heavy stages, so never of the home CPU pool.

        Entry runs and light stages alone run there.
        """
        if pool.name == self.home_cpu.name:
            return ()
        return tuple(blackout for blackout in self.blackouts if blackout.covers(pool.name))

    def pool(self, name: str, *, field: str = "pool") -> Pool:
        """Return a pool by name.

        Raises:
            BadInput: The fleet has no such pool.
        """
        if name not in self.by_name:
            raise BadInput.unknown(field, name, self.by_name)
        return self.by_name[name]

    def able(self, stage: Stage) -> tuple[Pool, ...]:
        """Return the pools whose hardware can run a stage.

        A light stage runs inside the entry run. A heavy one never runs in the entry runs' own pool:
        they wait for it there, and a pool full of waiting runs would never start it.
        """
        home = self.home_cpu
        if not stage.heavy:
            return (home,)
        return tuple(p for p in self.pools if p.can_run(stage) and p.name != home.name)

    def home_pool(self, stage: Stage) -> Pool:
        """Return the home region's pool for a stage; a light stage's is the home CPU pool.

        Raises:
            BadInput: The home region has no pool that can run the stage.
        """
        fitting = [pool for pool in self.able(stage) if pool.region == self.home]
        if not fitting:
            raise BadInput(
                "pools",
                f"the home region {self.home} has no pool for stage {stage.name!r}, which needs "
                f"{' or '.join(sorted(stage.needs))} beside the entry runs' pool",
                "Add such a pool at home: it is the baseline and the last resort.",
            )
        return min(fitting, key=lambda pool: stage.needs[pool.hardware].p95)

    def jurisdictions(self, *data_classes: str) -> frozenset[str] | None:
        """Return where data of all these classes may be; ``None`` means anywhere.

        Raises:
            BadInput: A data class has no residency rule.
        """
        allowed: frozenset[str] | None = None
        for data_class in data_classes:
            if data_class not in self.residency:
                raise BadInput(
                    "data_class",
                    f"{data_class!r} has no residency rule",
                    suggest(data_class, self.residency),
                )
            rule = frozenset(self.residency[data_class])
            if ANYWHERE not in rule:
                allowed = rule if allowed is None else allowed & rule
        return allowed

    def permits(self, pool: Pool, *data_classes: str) -> bool:
        """Tell whether data of all these classes may be processed in the pool."""
        allowed = self.jurisdictions(*data_classes)
        return allowed is None or pool.place.jurisdiction in allowed

    def require_permitted(self, pool: Pool, *data_classes: str) -> None:
        """Refuse a pool where data of these classes may not be.

        Raises:
            ResidencyError: The pool lies outside the permitted jurisdictions.
        """
        if not self.permits(pool, *data_classes):
            raise ResidencyError(residency_text(self, pool, *data_classes))

    def check(self, workload: Workload) -> None:
        """Refuse a workload that this fleet could not even run at home.

        Raises:
            BadInput: No residency rule for its data class, or no home pool for a stage.
            ResidencyError: Its data may not be processed in the home region.
        """
        for stage in workload.stages:
            self.require_permitted(self.home_pool(stage), workload.data_class)


def residency_text(fleet: Fleet, pool: Pool, *data_classes: str) -> str:
    """Say why a pool may not be used for data of these classes."""
    allowed = fleet.jurisdictions(*data_classes)
    where = ", ".join(sorted(allowed)) if allowed else "no jurisdiction at all"
    classes = " and ".join(repr(data_class) for data_class in dict.fromkeys(data_classes))
    return (
        f"{classes} data may only be processed in {where}; pool {pool.name!r} is in {pool.region} "
        f"({pool.place.jurisdiction}). Choose a pool there or change [residency] in the fleet file."
    )
