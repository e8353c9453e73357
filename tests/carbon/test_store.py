"""The store: what comes back, who may write at once, and what a damaged file does to nobody."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carbon import (
    Accounting,
    IntensitySeries,
    Kind,
    PriceSeries,
    Signal,
    Signals,
    Store,
    Unavailable,
    look,
)
from carbon._findings import Norm
from carbon._rows import VERSION, Failure
from carbon._score import Score
from carbon._series import regular
from carbon._statistical import Climate
from carbon.providers import Feed, Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR, MINUTE, DAY = timedelta(hours=1), timedelta(minutes=1), timedelta(days=1)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
UNKNOWN_OR = st.none() | st.floats(0, 1500)


def forecast(*values: float | None, zone: str = "DE", **others: object) -> IntensitySeries:
    """Return hourly values from now on."""
    starts, end = regular(NOW, HOUR, len(values))
    about: dict[str, object] = {"kind": Kind.FORECAST, **others}
    return IntensitySeries(zone, starts, end, values, "who says so", **about)  # type: ignore[arg-type]


def past(*values: float | None, kind: Kind = Kind.ACTUAL) -> IntensitySeries:
    """Return hourly values up to now."""
    starts, end = regular(NOW - HOUR * len(values), HOUR, len(values))
    return IntensitySeries("DE", starts, end, values, "who says so", kind=kind)


def newest(store: Store, now: datetime = NOW) -> tuple[float | None, ...]:
    """Return the values of the newest forecast."""
    issues = store.issues("a", "DE", now - DAY, now, most=1)
    return issues[0].series.values if issues else ()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a place for the store."""
    return tmp_path / "outlook.sqlite"


@st.composite
def series(draw: st.DrawFn) -> IntensitySeries:
    """Return a forecast on an uneven grid, with gaps, down to the microsecond."""
    steps = draw(st.lists(st.timedeltas(timedelta(seconds=1), DAY), min_size=1, max_size=12))
    moments = list(itertools.accumulate(steps, initial=NOW))
    return IntensitySeries(
        draw(st.sampled_from(["DE", "O'Hara; DROP TABLE series"])),
        moments[:-1],
        moments[-1],
        [draw(UNKNOWN_OR) for _ in steps],
        draw(st.text(min_size=1, max_size=9)),
        kind=Kind.FORECAST,
        signal=draw(st.sampled_from(Signal)),
        accounting=draw(st.sampled_from(Accounting)),
        issued_at=draw(st.none() | st.just(NOW - HOUR)),
    )


@given(series())
def test_a_forecast_comes_back_as_it_was(sent: IntensitySeries) -> None:
    """Times, values, unknown ones, meaning and origin are those that were kept."""
    store = Store(None)
    store.add("a", [sent], NOW)
    (issue,) = store.issues("a", sent.zone, NOW, NOW)
    for name in ("zone", "starts", "end", "values", "source", "family", "issued_at"):
        assert getattr(issue.series, name) == getattr(sent, name)
    assert issue.fetched_at == issue.confirmed_at == issue.series.fetched_at == NOW


@given(st.lists(st.none() | st.floats(-500, 4000), min_size=1, max_size=9))
def test_prices_come_back_as_they_were(values: list[float | None]) -> None:
    """Negative ones too, with their currency."""
    starts, end = regular(NOW, HOUR, len(values))
    store = Store(None)
    sent = PriceSeries("DE", starts, end, values, "p", kind=Kind.FORECAST, currency="EUR")
    store.add("a", [sent], NOW)
    kept = store.price("a", "DE", NOW)
    assert kept is not None
    assert (kept.starts, kept.end, kept.values) == (sent.starts, sent.end, sent.values)
    assert (kept.currency, kept.kind, kept.source) == ("EUR", Kind.FORECAST, "p")


@given(st.lists(UNKNOWN_OR, min_size=1, max_size=24))
def test_actual_values_come_back_hour_by_hour(values: list[float | None]) -> None:
    """What was not known stays unknown, and no hour gets the value of another."""
    store = Store(None)
    sent = past(*values)
    store.add("a", [sent], NOW)
    kept = store.actual("a", "DE", sent.start, NOW)
    for start, value in zip(sent.starts, values, strict=True):
        known = kept is not None and kept.covers(start, start + HOUR)
        assert known is (value is not None)
        if kept is not None and value is not None:
            assert kept.mean(start, start + HOUR) == pytest.approx(value)


@settings(max_examples=60)
@given(st.permutations(range(6)), st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_the_order_of_adding_does_not_matter(order: list[int], says: list[int]) -> None:
    """Whichever process comes first: what was said last by then is what is read."""
    told = [100.0 + value for value in says]
    store = Store(None)
    for minute in order:
        store.add("a", [forecast(told[minute])], NOW + minute * MINUTE)
    for minute in range(6):
        then = NOW + minute * MINUTE
        assert store.confirmed("a", "DE", "intensity", NOW + 9 * MINUTE) == NOW + 5 * MINUTE
        if order == sorted(order):
            assert newest(store, then) == (told[minute],)
    assert newest(store, NOW + 9 * MINUTE) == (told[5],)


def test_identical_answers_are_stored_once(path: Path) -> None:
    """They are confirmed; other values, or the same ones with another meaning, are new."""
    store = Store(path)
    for minute in range(3):
        store.add("a", [forecast(1, 2)], NOW + minute * MINUTE)
    (issue,) = store.issues("a", "DE", NOW, NOW + HOUR)
    assert (issue.fetched_at, issue.confirmed_at) == (NOW, NOW + 2 * MINUTE)
    store.add("a", [forecast(1, 2, accounting=Accounting.DIRECT)], NOW + 3 * MINUTE)
    first, second = store.issues("a", "DE", NOW, NOW + HOUR)
    assert first.series.family != second.series.family


def test_a_clock_that_was_wrong_hides_nothing() -> None:
    """What was kept or confirmed in the future is ignored until then, and asked for again."""
    store = Store(None)
    store.add("a", [forecast(1, 2)], NOW + 400 * DAY)
    assert newest(store) == ()
    assert store.confirmed("a", "DE", "intensity", NOW) is None
    store.add("a", [forecast(1, 2)], NOW)
    assert newest(store) == (1, 2)
    store.add("a", [forecast(1, 2)], NOW + 400 * DAY)
    later = NOW + 10 * MINUTE
    assert store.confirmed("a", "DE", "intensity", later) == NOW
    store.add("a", [forecast(1, 2)], later)
    assert store.confirmed("a", "DE", "intensity", later) == later
    assert newest(store, later) == (1, 2)


def test_unlike_forecasts_are_never_joined() -> None:
    """Of an average and a marginal forecast in one answer the first is kept, whole and alone."""
    store = Store(None)
    marginal = forecast(900, 900, 900, signal=Signal.MARGINAL)
    store.add("a", [forecast(100), marginal], NOW)
    assert newest(store) == (100,)


def test_an_estimate_never_replaces_a_measured_value() -> None:
    """In whichever order they come; a measured value replaces either."""
    measured, estimated = past(100), past(300, kind=Kind.ESTIMATED)
    for answer in ([measured, estimated], [estimated, measured]):
        store = Store(None)
        store.add("a", answer, NOW)
        store.add("a", [estimated], NOW)
        kept = store.actual("a", "DE", NOW - DAY, NOW)
        assert kept is not None
        assert kept.values == (100,)
        store.add("a", [past(120)], NOW)
        revised = store.actual("a", "DE", NOW - DAY, NOW)
        assert revised is not None
        assert revised.values == (120,)
        assert store.known_until("a", "DE", NOW) == NOW
        assert store.known_until("a", "DE", NOW - HOUR) is None


def test_an_answer_clears_the_failure_of_its_own_question() -> None:
    """And no other's."""
    store = Store(None)
    failure = Failure("auth", "a: bad key.", NOW + HOUR)
    for zone, what in (("DE", "intensity"), ("DE", "price"), ("FR", "intensity")):
        store.fail("a", zone, what, failure)
    store.add("a", [forecast(1)], NOW)
    assert store.failure("a", "DE", "intensity") is None
    assert store.failure("a", "DE", "price") == failure
    assert store.failure("a", "FR", "intensity") == failure
    store.add("a", [], NOW)


def test_a_restart_finds_all_of_it(path: Path) -> None:
    """Values, failures, scores, norm and trust are those of the process before."""
    score = Score(issued_at=NOW, errors=(1.0, None))
    store = Store(path)
    store.add("a", [forecast(1, None), past(3)], NOW)
    store.fail("a", "DE", "price", Failure("auth", "a: bad key.", NOW))
    store.add_scores("a", "DE", [score])
    usual = Climate(
        until=NOW, signal=Signal.AVERAGE, accounting=Accounting.DIRECT, lows=(1.0,), highs=(2.0,)
    )
    store.set_climate("a", "DE", usual, NOW)
    store.close()
    with closing(Store(path)) as again:
        assert newest(again) == (1, None)
        assert again.scores("a", "DE", NOW) == [score]
        assert again.scored("a", "DE", NOW) == {NOW}
        assert again.climate("a", "DE") == usual
        assert again.norm("a", "DE") == Norm(1, 2, 1)
        assert again.learned_at("a", "DE") == NOW
        assert again.failure("a", "DE", "price") == Failure("auth", "a: bad key.", NOW)


def test_what_fails_in_the_middle_leaves_nothing_behind(path: Path) -> None:
    """All that is kept together is kept at once, or not at all, and the store goes on."""
    store = Store(path)

    def half() -> None:
        with store.together():
            store.add("a", [forecast(1)], NOW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert newest(store) == ()
    store.add("a", [forecast(2)], NOW)
    assert newest(Store(path)) == (2,)


def test_terms_are_kept_and_scores_stay(path: Path) -> None:
    """What is too old goes from the file; what was learned from it has a time of its own."""
    store = Store(path)
    store.add("a", [past(*range(1, 49)), forecast(1)], NOW - 2 * DAY)
    store.add("b", [past(*range(1, 49))], NOW)
    store.add_scores("a", "DE", [Score(issued_at=NOW - 9 * DAY, errors=(1.0,))])
    store.prune("a", forecasts=NOW - DAY, actual=NOW - DAY, scores=NOW - 10 * DAY)
    assert newest(store) == ()
    kept = store.actual("a", "DE", NOW - 9 * DAY, NOW)
    assert kept is not None
    assert kept.start == NOW - 25 * HOUR  # it ends no earlier than a day ago
    other = store.actual("b", "DE", NOW - 9 * DAY, NOW)
    assert other is not None
    assert other.start == NOW - 2 * DAY
    assert store.scores("a", "DE", NOW - 10 * DAY)


WRITER = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
from carbon import IntensitySeries, Kind, Store
path, zone, now = Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
for step in range(25):
    store, at = Store(path), now + timedelta(minutes=step)
    series = IntensitySeries(zone, [now], now + timedelta(hours=1), [step], "s", kind=Kind.FORECAST)
    store.add("a", [series], at)
    assert store.issues("a", zone, at, at)[0].series.values == (step,)
    store.close()
"""


def test_several_processes_make_and_fill_one_store(path: Path) -> None:
    """Whoever comes first makes the tables; nobody's rows are lost."""
    zones = ["DE", "FR", "ES"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, zone, NOW.isoformat()], cwd=ROOT)
        for zone in zones
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with closing(Store(path)) as store:
        for zone in zones:
            assert len(store.issues("a", zone, NOW, NOW + HOUR)) == 25


def test_a_busy_file_is_told_within_seconds(path: Path) -> None:
    """Who holds the file for long stops neither a reader nor a writer for ever."""
    store = Store(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for do in (lambda: newest(store), lambda: store.add("a", [forecast(1)], NOW)):
            with pytest.raises(Unavailable, match="busy"):
                do()
    store.add("a", [forecast(1)], NOW)
    assert newest(store) == (1,)


def test_an_older_version_is_made_anew(path: Path) -> None:
    """All of it can be fetched again."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE series (a); CREATE TABLE score (b); PRAGMA user_version = 1")
    store = Store(path)
    store.add("a", [forecast(1)], NOW)
    assert newest(Store(path)) == (1,)


@pytest.mark.parametrize(
    "script", [f"PRAGMA user_version = {VERSION + 1}", "CREATE TABLE customers (name)"]
)
def test_what_is_not_ours_is_left_alone(path: Path, script: str) -> None:
    """Neither a newer store nor somebody else's database is emptied."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    before = path.read_bytes()
    with pytest.raises(Unavailable, match="left alone"):
        Store(path)
    assert path.read_bytes() == before


@contextmanager
def somebody_else() -> Iterator[Path]:
    """Be a user to whom a root's file is read-only, in a folder that all can read."""
    folder = Path(tempfile.mkdtemp(prefix="carbon-store-"))
    root = os.geteuid() == 0
    store = Store(folder / "outlook.sqlite")
    store.add("a", [forecast(1, 2)], NOW)
    store.close()
    (folder / "outlook.sqlite").chmod(0o444)
    folder.chmod(0o555)
    try:
        if root:
            os.seteuid(65534)
        yield folder / "outlook.sqlite"
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def test_a_store_of_another_user_is_read_and_said_to_be_so() -> None:
    """What is in it is believed, what comes is kept in memory, and the notes say why."""
    with somebody_else() as path:
        with pytest.raises(Unavailable, match="writable"):
            Store(path)
        feed = Feed(Signals(), Keys(), path)
        assert newest(feed.store) == (1, 2)
        feed.store.add("a", [forecast(3)], NOW + MINUTE)
        assert newest(feed.store, NOW + HOUR) == (3,)
        assert any("nothing is remembered" in note for note in feed.notes)
        feed.close()


def test_a_folder_that_cannot_be_made_stops_nobody(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    feed = Feed(Signals(), Keys(), tmp_path / "file" / "outlook.sqlite")
    feed.store.add("a", [forecast(3)], NOW)
    assert newest(feed.store) == (3,)
    assert feed.notes
    feed.close()


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_is_one_clear_error(path: Path, cut: float) -> None:
    """At the latest when the missing part is read; a look says so and takes the next source."""
    store = Store(path)
    for step in range(40):
        values = [float(step + hour) for hour in range(48)]
        store.add("a", [forecast(*values)], NOW - step * MINUTE)
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    feed = Feed(Signals(), Keys(), path)
    with suppress(Unavailable):
        newest(feed.store)
        feed.store.add("a", [forecast(1)], NOW)
    assert not look(feed.sources(["DE"], NOW), ["DE"], "DE", NOW, NOW + HOUR).intensity
    feed.close()


@pytest.mark.parametrize(
    "row", ["edges = x'0102'", "amounts = 'text'", "kind = 'forecast', signal = 'x'"]
)
def test_a_row_that_was_tampered_with_is_told(path: Path, row: str) -> None:
    """It is never half believed."""
    store = Store(path)
    store.add("a", [forecast(1, 2)], NOW)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"UPDATE series SET {row}")  # noqa: S608 - the test's own words
        db.commit()
    with pytest.raises(Unavailable, match="damaged"):
        newest(store)


def test_a_store_that_is_deleted_under_our_feet_is_made_again(path: Path) -> None:
    """The process that has it open goes on or is told; the next one begins anew."""
    store = Store(path)
    store.add("a", [forecast(1)], NOW)
    path.unlink()
    with suppress(Unavailable):
        store.add("a", [forecast(2)], NOW + MINUTE)
        newest(store)
    again = Store(path)
    assert newest(again) == ()
    again.add("a", [forecast(3)], NOW)
    with suppress(Unavailable):
        store.add("a", [forecast(4)], NOW + 2 * MINUTE)
    assert newest(Store(path)) == (3,)
