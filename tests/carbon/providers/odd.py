"""Good bodies with faults: values swapped, dropped, doubled and replaced by odd ones, bytes cut."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**20, -(10**20), 10**400, 1e308, 1780315200),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "x", "12", "NaN", "\x00", "a" * 10_000, "SANDBOX_MODE_DATA", "percentile", "DK-DK2"),
    *("hourly", "5_minutes", "weekly", "lifecycle", "direct"),
    *("2026-06-01", "2026-06-01T12:00:00", "2026-06-01T12:00:00+02:00"),
    *("9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2099-12-31T23:59:59.9999999Z"),
    *("-01:00:00", "00:00:00", "99.23:59:59", "24:61:61", "1.00:00:00", "PT1H"),
    *([], {}, [[]], [None], {"a": {"b": [1]}}),
]


def _places(
    body: dict[str, Any] | list[Any], at: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Yield the way to everything that stands inside a body."""
    for key, value in body.items() if isinstance(body, dict) else enumerate(body):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*at, key))


@st.composite
def mutated(draw: st.DrawFn, bodies: Sequence[Any]) -> str:
    """Draw the text of one of the bodies with one to three faults."""
    body = copy.deepcopy(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(body))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        inside = body
        for key in way:
            inside = inside[key]
        change = draw(st.sampled_from(["odd", "odd", "drop", "double", "wrap"]))
        if change == "odd":
            inside[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif change == "drop":
            del inside[last]
        elif change == "double" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[last]))
        else:
            inside[last] = [inside[last]]
    text = json.dumps(body)
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text
