"""What registration reports: outcomes, differences, and the pool that is not ours."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from carbon._errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

_MISSING = object()


class Outcome(StrEnum):
    """What registration does, or did, with one pool or with the planner lock."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    PRUNED = "pruned"
    FOREIGN = "foreign"
    """Someone else's pool has this name."""
    CONFLICT = "conflict"
    """Our pool, but of another type, and Prefect cannot change a pool's type."""


class Registration(BaseModel):
    """How Prefect and the fleet file compare.

    Attributes:
        pools: Name of each pool to what was done with it; from ``inspect``, what would be done.
        planner_lock: The same for the lock that planners take turns by.
        drift: What differed before, one readable line per difference.
        orphans: Pools that we made, that the fleet file no longer holds, and that are still there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pools: dict[str, Outcome]
    planner_lock: Outcome
    drift: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()


class ForeignPool(BadInput):
    """A work pool of this name exists and was not made by this package."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"pools.{name}",
            "a work pool of this name exists in Prefect and was not made by this package, so it "
            "is left alone",
            "Rename the pool in the fleet file. If a worker made it by being started before the "
            f"pools were registered, delete it with: prefect work-pool delete {name}",
        )


def diff_lines(path: str, found: Any, wanted: Any) -> Iterator[str]:  # noqa: ANN401  any JSON
    """Yield one line per leaf that differs between two JSON values.

    Args:
        path: Name of the value, for the lines.
        found: What Prefect has.
        wanted: What it should have.
    """
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            yield from diff_lines(
                f"{path}.{key}", found.get(key, _MISSING), wanted.get(key, _MISSING)
            )
    elif found is _MISSING:
        yield f"{path} is missing, should be {wanted!r}"
    elif wanted is _MISSING:
        yield f"{path} is {found!r}, should not be there"
    else:
        yield f"{path} is {found!r}, should be {wanted!r}"
