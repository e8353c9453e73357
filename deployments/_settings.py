"""Settings of the trigger, all from ``CARBON_*`` environment variables; none is needed to begin.

Keys of signal providers may stand in Prefect ``Secret`` blocks instead, named like the variable:
``carbon-entsoe-token`` for ``CARBON_ENTSOE_TOKEN``.

``CARBON_HOME``         folder for the store and the decision pictures (default ``~/.carbon-aware``)
``CARBON_FLEET``        your own fleet file (default: the shipped ``work_pools/fleet.toml``)
``CARBON_REPLAY``       CSV or Parquet with intensities to replay as the outlook; they are what
                        ``CARBON_REPLAY_KIND`` (forecast, actual, estimated),
                        ``CARBON_REPLAY_SIGNAL`` (average, marginal) and
                        ``CARBON_REPLAY_ACCOUNTING`` (lifecycle, direct) say
``CARBON_REPLAY_PRICES``  CSV or Parquet with electricity prices, columns like ``DE_eur_mwh``
``CARBON_DATA_ROOTS``   folders that flows may read, separated by ``:`` (default: ``CARBON_HOME``)
``CARBON_CLOCK``        replayed time, ``GRID_START,WALL_START,SPEED``, or ``@FILE`` that holds this
                        (default: real time)
``CARBON_LEASE``        how long a stage's process works on without an answer from Prefect, in ISO
                        8601 (default ``PT10M``); the same for all pools
``CARBON_OFFLINE``      ask no signal provider; believe what is in store
``CARBON_ELECTRICITY_MAPS_TOKEN``, ``CARBON_WATTTIME_USERNAME``, ``CARBON_WATTTIME_PASSWORD``,
``CARBON_ENTSOE_TOKEN``  keys of signal providers; one without its key is not asked
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Never

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from carbon import (
    Accounting,
    BadInput,
    Clock,
    Kind,
    NoSignal,
    ReplayClock,
    ReplaySource,
    Signal,
    Signals,
    SignalSource,
    SystemClock,
    TypicalDay,
)


class Settings(BaseSettings):
    """Settings of the trigger; see the module's text for their names and meaning."""

    model_config = SettingsConfigDict(
        env_prefix="CARBON_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    home: Path = Path("~/.carbon-aware")
    fleet: Path | None = None
    replay: Path | None = None
    replay_kind: Kind = Kind.FORECAST
    replay_signal: Signal = Signal.AVERAGE
    replay_accounting: Accounting = Accounting.LIFECYCLE
    replay_prices: Path | None = None
    data_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    clock: str = ""
    lease: Annotated[timedelta, Field(ge=timedelta(seconds=30))] = timedelta(minutes=10)
    offline: bool = False
    electricity_maps_token: SecretStr | None = None
    watttime_username: str | None = None
    watttime_password: SecretStr | None = None
    entsoe_token: SecretStr | None = None

    @field_validator("data_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("home", "fleet", "replay", "replay_prices")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else None

    @field_validator("data_roots")
    @classmethod
    def _all_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(path.expanduser().absolute() for path in value)

    @classmethod
    def load(cls) -> Settings:
        """Read the environment.

        Raises:
            BadInput: A variable does not parse.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = BadInput.from_validation("", error)
            raise BadInput(f"CARBON_{wrong.field.upper()}", wrong.problem, wrong.fix) from error

    @property
    def store(self) -> Path:
        """Folder for artefacts that pass between stages and for what is published."""
        return self.home / "store"

    @property
    def pictures(self) -> Path:
        """Folder for decision pictures."""
        return self.home / "decisions"

    @property
    def outlook(self) -> Path:
        """File of the outlook store."""
        return self.home / "outlook.sqlite"

    @property
    def live(self) -> bool:
        """Whether the grid is the real one, of now: no file is replayed, and no time."""
        return self.replay is None and not self.clock

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders that flows may read."""
        return (self.home, *self.data_roots)

    def make_clock(self) -> Clock:
        """Return the clock that decisions are made by.

        Raises:
            BadInput: ``CARBON_CLOCK`` does not parse.
        """
        if not self.clock:
            return SystemClock()
        try:
            text = Path(self.clock[1:]).read_text() if self.clock[0] == "@" else self.clock
            grid, wall, speed = text.split(",")
            return ReplayClock(
                datetime.fromisoformat(grid), datetime.fromisoformat(wall), float(speed)
            )
        except (OSError, ValueError) as error:
            raise BadInput(
                "CARBON_CLOCK",
                f"{self.clock!r} is not GRID_START,WALL_START,SPEED, nor a file that holds it",
                "Write e.g. '2022-06-01T00:00+00:00,2026-01-01T12:00+00:00,600', or unset it.",
            ) from error

    def make_sources(
        self, signals: Signals | None = None, *, strict: bool = True
    ) -> tuple[SignalSource, ...]:
        """Return the sources beside the signal providers, in order of preference.

        Replayed time has the modelled typical day at the end; real time has it only where the
        fleet file's ``signals.order`` names it.

        Args:
            signals: The fleet's table of signals.
            strict: Refuse a file to replay that is missing or wrong. Otherwise it counts as a
                source without numbers, and the decision says so.

        Raises:
            BadInput: The file to replay is missing or wrong.
        """
        modelled = bool(self.clock) or (signals is not None and signals.modelled)
        typical = (TypicalDay(),) if modelled else ()
        if self.replay is None:
            if self.replay_prices is not None and strict:
                raise BadInput(
                    "CARBON_REPLAY_PRICES",
                    "is set without CARBON_REPLAY, so nothing would be replayed",
                    "Set CARBON_REPLAY to the intensities of the same time, or unset it.",
                )
            return typical
        try:
            return (self._replay(self.replay), *typical)
        except BadInput as error:
            if strict:
                raise
            return (_Unreadable(self.replay.name, str(error)), *typical)

    def _replay(self, path: Path) -> ReplaySource:
        return ReplaySource(
            path,
            kind=self.replay_kind,
            signal=self.replay_signal,
            accounting=self.replay_accounting,
            prices=self.replay_prices,
        )


@dataclass(frozen=True)
class _Unreadable:
    """A file to replay that could not be read."""

    file: str
    reason: str

    @property
    def name(self) -> str:
        return f"replay of {self.file}"

    def intensity(self, zone: str, start: datetime, end: datetime) -> Never:
        raise NoSignal(
            f"{self.name} has nothing for {zone} {start:%H:%M}-{end:%H:%M}: {self.reason}"
        )

    def price(self, zone: str, start: datetime, end: datetime) -> Never:
        self.intensity(zone, start, end)
