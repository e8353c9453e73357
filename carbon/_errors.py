"""Errors of the whole project: one tree, each message says what is wrong and what to do.

::

    CarbonAwareError
    ├── BadInput              a value given by a person or a file: names the field and the fix
    │   ├── UnknownZone       a grid zone nobody knows
    │   ├── UnknownRegion     a cloud region that is not in the catalogue
    │   └── DeadlinePassed    a finish-by that cannot be met because it is over
    ├── ResidencyError        data would have to leave where it may be; never worked around
    ├── NoSignal              a source has nothing for a zone and time
    │   └── NotAsked          because nobody is asked for it there
    ├── Unavailable           something outside (API, storage) did not answer
    └── ProviderError         a signal provider did not give what it was asked for
        ├── AuthError         it does not know the key or the user
        ├── PlanDenied        the key is good, but its plan does not hold this
        ├── RateLimited       asked too often (also Unavailable); says when to come back, if told
        ├── NoData            it has nothing for this zone and time (also NoSignal)
        ├── Transient         it failed in a way that passes (also Unavailable)
        └── BadResponse       it answered something that cannot be believed

``work_pools`` and ``deployments`` add their own leaves below these.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails


_SHOWN = 12


class CarbonAwareError(Exception):
    """Root of every error that this project raises on purpose."""


class BadInput(CarbonAwareError, ValueError):
    """A value that a person, a file or a request gave is wrong.

    Args:
        field: Where the value stands, e.g. ``fleet.toml: pools[2].hardware``.
        problem: What is wrong with it, in plain words.
        fix: What to write instead.
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        self.field = field
        self.problem = problem
        self.fix = fix
        super().__init__(f"{field}: {problem}. {fix}")

    @classmethod
    def unknown(cls, field: str, value: object, known: Iterable[str]) -> BadInput:
        """Build the error for a name that is not one of the known ones."""
        return cls(field, f"{value!r} is not known", suggest(str(value), known))

    @classmethod
    def from_validation(
        cls, where: str, error: ValidationError, *, model: type[BaseModel] | None = None
    ) -> BadInput:
        """Turn the first fault that pydantic found into one line for a person.

        Args:
            where: What stands before the field's path: a name (``policy``) or, with a colon at its
                end, a file (``fleet.toml:``).
            error: What pydantic raised.
            model: The model that was validated; with it, a misspelt setting is told its right name.
        """
        faults = error.errors(include_url=False)
        # A misspelt required setting is also reported as missing; the misspelling says more.
        fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
        path = ".".join(_path(fault["loc"]))
        raised = (fault.get("ctx") or {}).get("error")
        if isinstance(raised, BadInput):
            if not path.endswith(raised.field):
                path = f"{path}.{raised.field}".strip(".")
            return cls(_join(where, path), raised.problem, raised.fix)
        if fault["type"] == "extra_forbidden":
            known = _settings(model, fault["loc"][:-1]) if model else ()
            fix = suggest(str(fault["loc"][-1]), known) if known else "Correct or remove it."
            return cls(_join(where, path), "this setting does not exist", fix)
        return cls(_join(where, path), *_explain(fault))


class UnknownZone(BadInput):
    """A grid zone that no source and no catalogue knows."""

    def __init__(self, field: str, zone: str, known: Iterable[str]) -> None:
        self.zone = zone
        super().__init__(field, f"grid zone {zone!r} is not known", suggest(zone, known))


class UnknownRegion(BadInput):
    """A cloud region that the catalogue does not hold."""

    def __init__(self, field: str, region: str, known: Iterable[str]) -> None:
        self.region = region
        super().__init__(field, f"cloud region {region!r} is not known", suggest(region, known))


class DeadlinePassed(BadInput):
    """A finish-by that lies in the past."""


class ResidencyError(CarbonAwareError):
    """Data would have to be processed where it may not be. Never a fallback, always an error."""


class NoSignal(CarbonAwareError):
    """A source has no usable number for a zone over a time window."""


class NotAsked(NoSignal):
    """A source asks nobody for what a zone is like."""


class Unavailable(CarbonAwareError):
    """Something outside this process did not answer; trying again later may help."""


class ProviderError(CarbonAwareError):
    """A signal provider did not give what it was asked for.

    Args:
        provider: Name of the provider.
        problem: What is wrong, in our own words: a provider's text may repeat a key.
    """

    label: ClassVar[str] = "failed"
    """The kind of failure, as it stands in reports and in the store."""
    passes: ClassVar[bool] = False
    """Whether asking again at once may help."""
    fix: ClassVar[str] = ""

    def __init__(self, provider: str, problem: str) -> None:
        self.provider = provider
        self.problem = problem
        super().__init__(" ".join(filter(None, (f"{provider}: {problem}.", self.fix))))


class AuthError(ProviderError):
    """The provider does not know the key or the user."""

    label = "auth"
    fix = "Check its key in the environment or in its Prefect block."


class PlanDenied(ProviderError):
    """The key is good, but the plan that it belongs to does not hold what was asked for."""

    label = "plan-denied"
    fix = "Take another plan, or leave this provider out for this zone."


class RateLimited(ProviderError, Unavailable):
    """The provider was asked too often.

    Args:
        provider: Name of the provider.
        retry_after: How long it wants to be left alone, if it tells.
    """

    label = "rate-limited"
    passes = True

    def __init__(self, provider: str, retry_after: timedelta | None = None) -> None:
        self.retry_after = retry_after
        # How long stands not in the text: it is remembered, and read again much later.
        super().__init__(provider, "asked too often, wants to be left alone")


class NoData(ProviderError, NoSignal):
    """The provider has nothing for this zone and time."""

    label = "no-data"


class Transient(ProviderError, Unavailable):
    """The provider failed in a way that passes: a time-out, a broken connection, a 5xx."""

    label = "transient"
    passes = True


class BadResponse(ProviderError):
    """The provider answered something that cannot be believed."""

    label = "bad-response"


def suggest(value: str, known: Iterable[str]) -> str:
    """Return a sentence with the closest known names, or with all of them when none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"Known: {shown}." if names else "None is known."


def _path(location: tuple[int | str, ...]) -> list[str]:
    parts: list[str] = []
    for step in location:
        if isinstance(step, int) and parts:
            parts[-1] += f"[{step}]"
        else:
            parts.append(str(step))
    return parts


def _join(where: str, path: str) -> str:
    """Put a path behind what it belongs to: a dot after a name, a space after ``file:``."""
    if not where or not path:
        return where.removesuffix(":") or path
    return f"{where} {path}" if where.endswith(":") else f"{where}.{path}"


_FIXES = {
    "missing": "Add it.",
    "time_delta_parsing": "Write an ISO 8601 duration, e.g. 'PT2M' for two minutes.",
    "time_delta_type": "Write an ISO 8601 duration, e.g. 'PT2M' for two minutes.",
    "datetime_parsing": "Write a date and time with its zone, e.g. '2026-03-01T06:00:00+01:00'.",
    "datetime_from_date_parsing": (
        "Write a date and time with its zone, e.g. '2026-03-01T06:00:00+01:00'."
    ),
    "string_type": "Put it in quotes.",
    "float_parsing": "Write the number alone, without a unit.",
    "int_parsing": "Write the number alone, without a unit.",
}


def _explain(fault: ErrorDetails) -> tuple[str, str]:
    """Return the problem and the fix for a fault that pydantic found by itself."""
    kind, value = fault["type"], reprlib.repr(fault["input"])
    context: dict[str, Any] = fault.get("ctx") or {}
    if kind in {"enum", "literal_error"}:
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        names = ", ".join(repr(name) for name in allowed)
        close = suggest(str(fault["input"]), allowed)
        return (
            f"{value} is not one of {names}",
            close if close.startswith("Did you mean") else "Use one of these.",
        )
    if kind == "missing":
        return "this setting is missing", _FIXES[kind]
    if kind == "tuple_type":
        example = [fault["input"]] if isinstance(fault["input"], str) else ["a", "b"]
        return f"{value} should be a list", f"Write a list, e.g. {reprlib.repr(example)}."
    if kind == "string_pattern_mismatch" and str(context["pattern"]).endswith("[a-z0-9-]*$"):
        return (
            f"{value} is not a valid name",
            "Begin with a lower-case letter and use only lower-case letters, digits and hyphens.",
        )
    if kind == "greater_than_equal" and isinstance(fault["input"], timedelta):
        return "a length of time is never less than zero", _FIXES["time_delta_type"]
    problem = re.sub(r"^(Input|String|Value) |, unable to parse.*", "", fault["msg"])
    problem = problem.replace("a valid timedelta", "a duration")
    return f"{value} {problem[0].lower()}{problem[1:]}", _FIXES.get(kind, "Correct the value.")


def _settings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the names of the settings that exist at a place inside a model."""
    schema: dict[str, Any] = model.model_json_schema()
    node = schema
    for step in location:
        if isinstance(step, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(step) or node.get("additionalProperties") or {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node.get("properties", {}))
