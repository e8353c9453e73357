"""What the kernels of the back-test work on: plain arrays of whole steps, and nothing compiled."""

from __future__ import annotations

from typing import NamedTuple

from carbon._kernels import Flags, Floats, Integers


class Case(NamedTuple):
    """What is replayed.

    Attributes:
        earliest: First step in which a job may start, ascending; by job.
        latest: Its latest safe start; before ``earliest`` where the deadline leaves no slack, and
            then it starts at once at home; by job.
        length: Steps that it runs; by job.
        kwh: Energy at the server, ``nan`` for that of the pool's watts; by job.
        hours: How long it runs; by job.
        network_kwh: Energy of carrying its data to another region and back; by job.
        group: By job.
        permitted: Whether a pool may be used; by group and pool.
        home: Pool in which it runs when nothing is chosen; by group.
        pue: By pool.
        kw: Power of one run, before PUE; by pool.
        embodied: Grams for each hour of one run; by pool.
        zone: Index of its grid zone; by pool.
        away: Whether it lies in another region than home; by pool.
        home_zone: Index of home's zone.
        capacity: Jobs at a time, reservations taken off; by pool and step.
    """

    earliest: Integers
    latest: Integers
    length: Integers
    kwh: Floats
    hours: Floats
    network_kwh: Floats
    group: Integers
    permitted: Flags
    home: Integers
    pue: Floats
    kw: Floats
    embodied: Floats
    zone: Integers
    away: Flags
    home_zone: int
    capacity: Integers


class Known(NamedTuple):
    """What was known of the grid at each step; nothing in it looks ahead of its own step.

    Attributes:
        forecast: A provider's forecast of each step, ``nan`` where there is none; by zone and step.
        ahead: How many steps ahead of it that forecast was known.
        typical: Usual intensity of the hour of the day, out of the days before; ``nan`` for too
            little history; by zone, day and hour.
        persistence: What is left of an anomaly after an hour; by zone and day.
        anomaly: Departure of the last known hour from the usual; by zone and hour.
        back: Hours from that hour to the present one; by zone and hour.
        per_hour: Steps in an hour.
    """

    forecast: Floats
    ahead: int
    typical: Floats
    persistence: Floats
    anomaly: Floats
    back: Integers
    per_hour: int


class Placed(NamedTuple):
    """What became of the jobs; the kernels fill it in.

    Attributes:
        pool: By job; -1 for one that found no slot before the trace ends.
        start: Step; by job; -1 likewise.
        queued: Whether it found no free slot when it wanted one; by job.
        blind: Whether nothing was known to decide by; by job.
        moves: How often it was moved while it waited; by job.
        used: Jobs at a time; by pool and step.
    """

    pool: Integers
    start: Integers
    queued: Flags
    blind: Flags
    moves: Integers
    used: Integers
