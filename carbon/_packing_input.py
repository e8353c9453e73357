"""What can be packed: jobs and capacity as arrays, checked before anything is planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carbon._errors import BadInput
from carbon._kernels import Flags, Floats, Integers, Problem, extremes, running_sums, tabulate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_PENALTY = 1e3
"""What a job without a place weighs, in units of the widest difference in cost."""
_LARGEST = 2**31 - 1
_ROUNDING = 1e-9
"""Difference in cost that counts as none, in the same unit."""


@dataclass(frozen=True, eq=False)
class Jobs:
    """Jobs that are to be placed; each runs whole, in one pool.

    Attributes:
        earliest: First step in which a job may start; one per job, or by job and pool.
        latest: Last step in which it may start, e.g. its latest safe start; likewise.
        duration: Steps that it runs, by job and pool.
        energy: kWh that it uses in each step, PUE included, by job and pool.
        fixed: What it costs in a pool whenever it runs, in gCO2e, by job and pool: transfer,
            embodied emissions, a penalty for the price.
        permitted: Whether it may run in a pool at all, by job and pool: residency and hardware.
            The other arrays are not read where it may not.
        drawing: Steps from the start on in which it uses energy, by job and pool; all in which it
            runs by default. A slot is often held for longer, so that a slow run has room.
    """

    earliest: ArrayLike
    latest: ArrayLike
    duration: ArrayLike
    energy: ArrayLike
    fixed: ArrayLike
    permitted: ArrayLike
    drawing: ArrayLike | None = None

    def first(self, count: int) -> Jobs:
        """Return the first of these jobs."""
        given = {name: rows for name, rows in vars(self).items() if rows is not None}
        return Jobs(**{name: np.asarray(rows)[:count] for name, rows in given.items()})


def problem(jobs: Jobs, intensity: ArrayLike, capacity: ArrayLike) -> Problem:
    """Return what the kernels need.

    Raises:
        BadInput: Something is not a number, does not fit the rest, or leaves a job no placement.
    """
    grams = _numbers("intensity", intensity, None)
    if grams.ndim != len(("pool", "step")) or not grams.size:
        raise BadInput(
            "intensity",
            f"its shape is {grams.shape}",
            "Give one row per pool, one column per step.",
        )
    pools, steps = grams.shape
    permitted = _permitted(jobs.permitted, pools)
    earliest = _by_pool("earliest", jobs.earliest, permitted)
    latest = _by_pool("latest", jobs.latest, permitted)
    duration = _whole("duration", jobs.duration, permitted.shape, permitted)
    drawing = duration
    if jobs.drawing is not None:
        drawing = _whole("drawing", jobs.drawing, permitted.shape, permitted)
    energy = np.where(permitted, _numbers("energy", jobs.energy, permitted.shape, permitted), 0.0)
    fixed = np.where(permitted, _numbers("fixed", jobs.fixed, permitted.shape, permitted), 0.0)
    limit = _whole("capacity", capacity, grams.shape)
    q = placements(earliest, latest, duration, permitted, limit)
    _refuse("energy", (energy < 0).any(axis=1), "job {} has a negative one", "Use 0 or more.")
    _refuse(
        "drawing",
        (permitted & ((drawing < 1) | (drawing > duration))).any(axis=1),
        "job {} uses energy in no step, or after its slot",
        "Use 1 to its duration.",
    )
    sums = np.zeros((pools, steps + 1))
    running_sums(grams, sums)
    tabulate(q, drawing, energy, fixed, sums)
    return weighed(q)


def placements(
    earliest: Integers, latest: Integers, duration: Integers, permitted: Flags, capacity: Integers
) -> Problem:
    """Return a problem whose costs are still to be written, and then :func:`weighed`.

    Args:
        earliest: First start, by job and pool.
        latest: Last start, by job and pool.
        duration: Steps for which a slot is held, by job and pool.
        permitted: By job and pool; the others are not read where it is not.
        capacity: By pool and step.

    Raises:
        BadInput: Something does not fit the rest, or leaves a job no placement.
    """
    _refuse_what_cannot_be(earliest, latest, duration, permitted, capacity)
    earliest, latest = np.where(permitted, earliest, 0), np.where(permitted, latest, -1)
    starts = latest - earliest + 1
    row = np.cumsum(starts).reshape(starts.shape) - starts
    return Problem(
        earliest=earliest,
        latest=latest,
        duration=np.where(permitted, duration, 1),
        row=row,
        grams=np.zeros(starts.sum()),
        permitted=permitted,
        opens=np.where(permitted, earliest, _LARGEST).min(axis=1, initial=_LARGEST),
        closes=latest.max(axis=1, initial=-1),
        capacity=np.minimum(capacity, len(earliest)),
        penalty=0.0,
        tiny=0.0,
        typical=1.0,
        ceiling=0.0,
    )


def only(q: Problem, some: Flags) -> Problem:
    """Return the problem of some of its jobs."""
    return q._replace(
        earliest=q.earliest[some],
        latest=q.latest[some],
        duration=q.duration[some],
        row=q.row[some],
        permitted=q.permitted[some],
        opens=q.opens[some],
        closes=q.closes[some],
    )


def still_allowed(q: Problem, pool: Integers, start: Integers) -> Flags:
    """Return which places of the first jobs are in their window and in a pool that they may use."""
    known = np.arange(len(pool))
    placed = (pool >= 0) & (pool < len(q.capacity))
    where = np.where(placed, pool, 0)
    first, last = q.earliest[known, where], q.latest[known, where]
    fits: Flags = placed & q.permitted[known, where] & (start >= first) & (start <= last)
    rows = q.row[known, where] + start - first
    fits[fits] &= np.isfinite(q.grams[rows[fits]])
    return fits


def _refuse_what_cannot_be(
    earliest: Integers, latest: Integers, duration: Integers, permitted: Flags, capacity: Integers
) -> None:
    steps = capacity.shape[1]
    _refuse("capacity", (capacity < 0).any(axis=1), "pool {} has a negative one", "Use 0 or more.")
    wrong = permitted & (duration < 1)
    _refuse("duration", wrong.any(axis=1), "job {} runs for no step", "Use 1 or more.")
    wrong = permitted & (earliest < 0)
    _refuse("earliest", wrong.any(axis=1), "job {} starts before step 0", "Use 0 or more.")
    _refuse(
        "latest",
        (permitted & (latest < earliest)).any(axis=1),
        "job {} has to start before it may",
        "Use its earliest start or a later step; a job without slack has both alike.",
    )
    _refuse(
        "permitted",
        ~permitted.any(axis=1),
        "job {} may run in no pool",
        "Permit a pool, or leave the job out: residency is never worked around.",
    )
    _refuse(
        "latest",
        (permitted & (latest + duration > steps)).any(axis=1),
        f"job {{}} would still run after the last of {steps} steps",
        "Let it start earlier, or give intensity and capacity for more steps.",
    )


def weighed(q: Problem) -> Problem:
    """Return a problem with what follows from the least and the highest cost of each job."""
    low, high = np.zeros(len(q.earliest)), np.zeros(len(q.earliest))
    extremes(q, low, high)
    widest = float(max((high - low).max(initial=0.0), np.abs(high).max(initial=0.0), 1e-12))
    by_step = (high - low) / q.duration.max(axis=1)
    tiny = _ROUNDING * widest
    return q._replace(
        penalty=_PENALTY * widest,
        tiny=tiny,
        typical=float(np.median(by_step[by_step > 0])) if (by_step > 0).any() else 1.0,
        ceiling=float(high.sum()) + tiny,
    )


def _refuse(field: str, wrong: Flags | np.bool_, what: str, fix: str) -> None:
    """Refuse the first job or pool that is wrong."""
    if wrong.any():
        raise BadInput(field, what.format(int(np.argmax(wrong))), fix)


def _permitted(flags: ArrayLike, pools: int) -> Flags:
    found = _array("permitted", flags, None)
    return _flags("permitted", found, (len(found) if found.ndim else 0, pools))


def _by_pool(field: str, values: ArrayLike, permitted: Flags) -> Integers:
    """Return whole numbers by job and pool, whether given so or one per job."""
    rows = _array(field, values, None)
    if rows.ndim == permitted.ndim:
        return _whole(field, rows, permitted.shape, permitted)
    found = _whole(field, rows, permitted.shape[:1])
    return np.broadcast_to(found[:, None], permitted.shape).copy()


def _array(field: str, values: ArrayLike, shape: tuple[int, ...] | None) -> np.ndarray:
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise BadInput(field, "its rows are not of one length", "Give a full table.") from error
    if shape is not None and found.shape != shape:
        wanted = "job" if len(shape) == 1 else "pool and step"
        wanted = "job and pool" if len(shape) > 1 and field != "capacity" else wanted
        raise BadInput(
            field, f"its shape is {found.shape}, not {shape}", f"Give one number per {wanted}."
        )
    return found


def _numbers(
    field: str,
    values: ArrayLike,
    shape: tuple[int, ...] | None,
    where: Flags | None = None,
) -> Floats:
    found = _array(field, values, shape)
    if found.dtype.kind not in "iuf":
        raise BadInput(field, f"it holds {found.dtype}", "Give numbers.")
    numbers = np.array(found, dtype=np.float64, order="C")
    bad = ~np.isfinite(numbers) if where is None else ~np.isfinite(numbers) & where
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise BadInput(
            field,
            f"{numbers[place]} stands at {place}",
            "Give a finite number, or leave the job out.",
        )
    return numbers


def _whole(
    field: str,
    values: ArrayLike,
    shape: tuple[int, ...] | None,
    where: Flags | None = None,
) -> Integers:
    numbers = _numbers(field, values, shape, where)
    numbers = numbers if where is None else np.where(where, numbers, 1.0)
    if (numbers != np.floor(numbers)).any():
        raise BadInput(field, "it holds fractions", "Give whole numbers.")
    if (np.abs(numbers) > _LARGEST).any():
        raise BadInput(field, "it holds a number beyond all use", f"Stay within {_LARGEST}.")
    return numbers.astype(np.int64)


def _flags(field: str, values: ArrayLike, shape: tuple[int, ...]) -> Flags:
    found = _array(field, values, shape)
    if found.dtype.kind != "b":
        raise BadInput(field, f"it holds {found.dtype}", "Give True or False.")
    return np.array(found, order="C")
