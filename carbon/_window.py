"""A stage in its pool, laid out on the clock of its chain; times are seconds from its start."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from carbon._decision import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from carbon._fleet import Pool
    from carbon._segment import Interruptible
    from carbon._workload import Stage

KWH_PER_GB: Final = 0.001
"""Network energy: cloud-carbon-footprint, NETWORKING_COEFFICIENT, kWh per GB (Apache-2.0)."""

_HOUR: Final = 3600.0


class Part(NamedTuple):
    """A time in which a stage draws power evenly.

    Attributes:
        begin: When it begins.
        seconds: How long it is.
        kwh: Energy, PUE included.
        network_kwh: Energy of carrying data that counts by this time.
    """

    begin: float
    seconds: float
    kwh: float
    network_kwh: float


class Piece(NamedTuple):
    """A run, or one segment of it.

    Attributes:
        due: When it takes its slot: for the pool's start-up or, after a pause, for the restart.
        begin: When the stage's code runs or goes on.
        end: When it stops.
        parts: When it draws power: in a restart, and while it runs.
    """

    due: float
    begin: float
    end: float
    parts: tuple[Part, ...]


class Slot(NamedTuple):
    """A slot that a chain takes; stage is empty for the entry run."""

    pool: Pool
    begin: float
    end: float
    stage: str

    def reserved(self, start: datetime) -> Reservation:
        """Return the slot for a start of the chain."""
        return Reservation(
            pool=self.pool.name,
            start=start + timedelta(seconds=self.begin),
            end=start + timedelta(seconds=self.end),
            stage=self.stage,
        )


class Window(NamedTuple):
    """A stage in its pool.

    Attributes:
        stage: The stage.
        pool: Its pool.
        zone: The pool's grid zone.
        pieces: When it runs, if those before it take their median time; one without pauses.
        late: By how much it starts later if those before it take their 95th percentile.
        seconds: Median run time, without restarts.
        spare: How much longer the 95th percentile of its run time is.
        parts: When it draws power.
        needed: Start-up and run time by the 95th percentile, without pauses.
        kwh: Energy of the run and its restarts, PUE included.
        network_kwh: Energy of carrying its data from home and back.
        flat_usd: Cost that does not hang on the time: compute and transfer.
        embodied_g: Emissions that do not hang on the time: the share from making the hardware, and
            what restarts emit whenever they happen.
    """

    stage: Stage
    pool: Pool
    zone: str
    pieces: tuple[Piece, ...]
    late: float
    seconds: float
    spare: float
    needed: float
    parts: tuple[Part, ...]
    kwh: float
    network_kwh: float
    flat_usd: float
    embodied_g: float

    @classmethod
    def after(
        cls, before: Window | None, home: Pool, stage: Stage, pool: Pool, lead: float
    ) -> Window:
        """Lay out a stage after another one, or after the start-up of the entry run."""
        need = stage.needs[pool.hardware]
        startup = pool.startup.total_seconds() if stage.heavy else 0.0
        due = before.end if before else lead
        seconds, longer = need.p50.total_seconds(), need.p95.total_seconds()
        at_server = need.kwh or pool.watts / 1000.0 * seconds / _HOUR
        there, carried, transfer = pool.place, 0.0, 0.0
        if pool.region != home.region:
            here, carried = home.place, stage.data_in_gb + stage.data_out_gb
            transfer = stage.data_in_gb * here.transfer_price(there)
            transfer += stage.data_out_gb * there.transfer_price(here)
        begin, kwh, network_kwh = due + startup, at_server * there.pue.value, carried * KWH_PER_GB
        whole = Part(begin, seconds, kwh, network_kwh)
        return cls(
            stage=stage,
            pool=pool,
            zone=there.zone,
            pieces=(Piece(due, begin, begin + seconds, (whole,)),),
            late=before.end_p95 - before.end if before else 0.0,
            seconds=seconds,
            spare=longer - seconds,
            needed=startup + longer,
            parts=(whole,),
            kwh=kwh,
            network_kwh=network_kwh,
            flat_usd=pool.usd_per_hour * seconds / _HOUR + transfer,
            embodied_g=pool.embodied_g_per_hour * seconds / _HOUR,
        )

    @property
    def due(self) -> float:
        """When it takes its first slot."""
        return self.pieces[0].due

    @property
    def begin(self) -> float:
        """When its code begins."""
        return self.pieces[0].begin

    @property
    def end(self) -> float:
        """When it ends, by median times."""
        return self.pieces[-1].end

    @property
    def end_p95(self) -> float:
        """When it ends if it and all before it take their 95th percentile.

        A segment stops when it was to stop; what is left then is done after the last one.
        """
        return self.end + self.late + self.spare

    @property
    def paused(self) -> float:
        """By how much pauses and restarts put its end off."""
        return self.end - self.begin - self.seconds

    @property
    def restart_kwh(self) -> float:
        """Energy of one restart, PUE included: that of the run in this time, unless it is known."""
        how = self.stage.interruptible
        if how is None:
            return 0.0
        if how.restart_kwh is None:
            return self.kwh * (how.restart.total_seconds() / self.seconds)
        return how.restart_kwh * self.pool.place.pue.value

    def split(self, how: Interruptible, runs: Sequence[tuple[float, float]]) -> Window:
        """Return this window, which is whole, in segments.

        Args:
            how: What a restart takes.
            runs: Begin and end of the run in each segment; together they are as long as it.
        """
        restart, again = how.restart.total_seconds(), len(runs) - 1
        pieces: list[Piece] = []
        for begin, end in runs:
            share = (end - begin) / self.seconds
            run = Part(begin, end - begin, self.kwh * share, self.network_kwh * share)
            if not pieces:
                pieces.append(Piece(begin - (self.begin - self.due), begin, end, (run,)))
                continue
            up = Part(begin - restart, restart, self.restart_kwh, 0.0)
            pieces.append(Piece(up.begin, begin, end, (up, run) if restart else (run,)))
        return self._replace(
            pieces=tuple(pieces),
            parts=tuple(part for piece in pieces for part in piece.parts),
            kwh=self.kwh + self.restart_kwh * again,
            flat_usd=self.flat_usd + self.pool.usd_per_hour * restart * again / _HOUR,
            embodied_g=self.embodied_g
            + (self.pool.embodied_g_per_hour * restart / _HOUR + how.restart_g) * again,
        )

    def slots(self) -> Iterator[Slot]:
        """Yield the slots that it takes, one for each segment."""
        *others, last = self.pieces
        for piece in others:
            yield Slot(self.pool, piece.due, piece.end, self.stage.name)
        yield Slot(self.pool, last.due, self.end_p95, self.stage.name)

    def weights(self, part: Part, home_zone: str) -> Iterator[tuple[str, float]]:
        """Yield by which zone's mean intensity which energy is weighed.

        The way is shared: half of the network's energy is drawn at each end.
        """
        yield self.zone, part.kwh + part.network_kwh / 2
        if part.network_kwh:
            yield home_zone, part.network_kwh / 2
