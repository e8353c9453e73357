"""``carbon backtest``: what policies would have saved, with no more than was known at the time.

::

    carbon backtest                                      the shipped fleet on a modelled grid
    carbon backtest --traces my-grid.parquet             your grid, one job every six hours
    carbon backtest my-jobs.csv --traces my-grid.csv     your jobs
    carbon backtest --runs 30 --traces my-grid.csv       what your Prefect runs of 30 days were
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators
from rich.markup import escape

from carbon import Hardware
from carbon._backtest_report import MEANING, Backtest, PolicyResult, Way
from carbon._decision import amount
from deployments._arguments import Picture, Table, write
from deployments._screen import out, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_Whole = validators.Number(gte=1)


def backtest(
    jobs: Path | None = None,
    /,
    *,
    every: str | None = None,
    hours: float | None = None,
    slack: str | None = None,
    kw: float | None = None,
    count: Annotated[int, Parameter(validator=_Whole)] | None = None,
    hardware: Hardware | None = None,
    data_class: Sequence[str] = (),
    days: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=3600))] | None = None,
    runs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=366))] | None = None,
    traces: Path | None = None,
    column: str = "g_per_kwh",
    forecasts: Path | None = None,
    forecast_column: str = "g_per_kwh",
    ahead: str = "24h",
    prices: Path | None = None,
    policy: Sequence[Way] = (),
    quantile: float = 0.3,
    replan: str = "3h",
    each: Table = None,
    picture: Picture = None,
    json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print JSON for machines.")
    ] = False,
) -> None:
    """Say what policies would have saved, with no more than was known at the time.

    Jobs arrive one after the other, each policy places them within the pools' capacity, and what
    they come to is settled with the intensities that came. Asks nobody, but for --runs.

    Parameters
    ----------
    jobs
        CSV or Parquet file, one job a row: release, hours, and maybe finish_by, p95_hours, kw or
        kwh, hardware, data_class, pools, data_in_gb, data_out_gb, count. Without it, jobs alike
        are made up.
    every
        Made-up jobs: time from one to the next. By default 6h.
    hours
        Made-up jobs: how long each runs. By default 2.
    slack
        Made-up jobs: how much later than at once each may start. By default 24h.
    kw
        Made-up jobs: power at the server. By default the watts of the pool.
    count
        Made-up jobs: how many at each time. By default 1.
    hardware
        Made-up jobs: cpu or gpu. By default gpu where home has it.
    data_class
        Made-up jobs: class of their data. By default they run only where every class may be.
    days
        Made-up jobs: for how many days. By default to the end of the trace, or 28 modelled days.
    runs
        Take the finished runs of the last so many days out of Prefect as the jobs.
    traces
        CSV or Parquet file of what came, like CARBON_REPLAY, which is the default; without either
        the grid is modelled.
    column
        Value column of a long trace file.
    forecasts
        File of what had been forecast of each hour. Without it, and beyond it, the statistical
        forecast serves, made from nothing but the hours before.
    forecast_column
        Value column of a long forecast file.
    ahead
        How long ahead of each hour its forecast was known.
    prices
        File of electricity prices, like CARBON_REPLAY_PRICES, which is the default.
    policy
        A policy to compare; may be given again. By default all of them.
    quantile
        threshold: the cleanest part of the last two weeks in which it starts a job.
    replan
        re-planned: how often waiting jobs are planned again. Each is anyway when it is to start.
    each
        Also write what became of each job by each policy to this CSV or Parquet file.
    picture
        Also draw it to this PNG.
    """
    # The compiled kernels take a second to load, which no other verb should pay for.
    from deployments._backtest_run import MadeUp, Wanted, replayed  # noqa: PLC0415

    found = replayed(
        Wanted(
            jobs=jobs,
            made_up=MadeUp(every, hours, slack, kw, count, hardware, tuple(data_class), days),
            runs=runs,
            traces=traces,
            column=column,
            forecasts=forecasts,
            forecast_column=forecast_column,
            ahead=ahead,
            prices=prices,
            ways=tuple(policy) or tuple(Way),
            quantile=quantile,
            replan=replan,
            each=each,
        )
    )
    if picture is not None:
        from deployments._backtest_picture import backtest_picture  # noqa: PLC0415

        write(picture, backtest_picture(found))
    if json:
        out.print_json(found.model_dump_json())
        return
    _show(found)


def _show(found: Backtest) -> None:
    modelled = " [yellow](modelled)[/]" if found.modelled else ""
    out.print(
        f"[bold]{found.jobs:,} jobs[/] from {escape(found.jobs_source)}, "
        f"{found.first:%d %b %Y} to {found.end:%d %b %Y}, home {escape(found.home)}"
    )
    if found.crowded:
        out.print(f"[bold red]too few slots[/] {escape(found.crowded)}")
    out.print(f"Grid: {escape(found.grid)}{modelled}, steps of {found.step // _MINUTE} min")
    out.print(f"Decided by: {escape(found.forecasts)}")
    out.print(table([_row(row, found) for row in found.results]))
    out.print(
        f"Saved against {amount(found.baseline_kg * _GRAMS)}: all jobs at once at home, as if it "
        "had no limit. Jobs at a time, at most, of the pool's capacity:"
    )
    out.print(table(_peaks(found)))
    out.print(
        "[dim]unsafe: started later than leaves time for p95 run time, start-up and one retry; "
        "queued: found no free slot when it wanted one[/]"
    )
    for row in found.results:
        moves = f" ({row.moves:,} moves)" if row.moves else ""
        out.print(f"[dim]{row.policy}: {MEANING[row.policy]}{moves}[/]")
    for note in _notes(found):
        out.print(f"[yellow]note[/] {escape(note)}")


_MINUTE = timedelta(minutes=1)
_GRAMS = 1000.0


def _row(row: PolicyResult, found: Backtest) -> dict[str, str]:
    saved = "-" if row.saved_percent is None else f"{row.saved_percent:.1f} %"
    if row.policy is Way.ORACLE and found.gap_percent is not None:
        saved += f" (within {max(found.gap_percent, 0.01):.2f} % of the best)"
    return {
        "policy": row.policy.value,
        **_emitted(row.kg, found),
        "saved": saved,
        "USD": "-" if row.usd is None else f"{row.usd:,.2f}",
        "delay, mean": f"{row.mean_delay_hours:.1f} h",
        "delay, p95": f"{row.p95_delay_hours:.1f} h",
        "too late": f"{row.misses:,}",
        "unsafe": f"{row.unsafe:,}",
        "queued": f"{row.queued:,}",
    }


def _emitted(kg: float | None, found: Backtest) -> dict[str, str]:
    """Return emissions under their unit, which is one for all rows."""
    small = found.baseline_kg < 1
    unit = "gCO2e" if small else "kgCO2e"
    return {unit: "-" if kg is None else _short(kg * _GRAMS if small else kg)}


def _short(value: float) -> str:
    """Return three figures, and never an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"  # noqa: PLR2004


def _peaks(found: Backtest) -> list[dict[str, str]]:
    """Return a row for each pool that any policy used."""
    pools = zip(*(row.peaks for row in found.results), strict=True)
    return [
        {"pool": peaks[0].pool, "grid zone": peaks[0].zone}
        | {
            row.policy.value: f"{peak.peak} of {peak.capacity}"
            for row, peak in zip(found.results, peaks, strict=True)
        }
        for peaks in pools
        if any(peak.peak for peak in peaks)
    ]


def _notes(found: Backtest) -> Iterator[str]:
    yield from found.notes
    for row in found.results:
        if row.unmeasured:
            yield (
                f"{row.policy}: {row.unmeasured:,} jobs queued until hours that the trace does not "
                "hold. What they emit is unknown, and so are the sum and the savings."
            )
        if row.blind:
            yield (
                f"{row.policy}: {row.blind:,} jobs started at once at home, for lack of two weeks "
                "of the past to forecast from."
            )
