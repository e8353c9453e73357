"""Errors: each says where, what and what to do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from carbon import _errors
from carbon._errors import BadInput, CarbonAwareError, UnknownRegion, UnknownZone, suggest


class Inner(BaseModel):
    """A pool of the example file."""

    model_config = ConfigDict(extra="forbid")
    watts: float = Field(gt=0)
    name: str = "a"

    @field_validator("name")
    @classmethod
    def _lower(cls, value: str) -> str:
        if value != value.lower():
            raise BadInput("name", f"{value!r} has capitals", "Write it in small letters.")
        return value


class Outer(BaseModel):
    """The example file."""

    model_config = ConfigDict(extra="forbid")
    pools: list[Inner]


def fault(value: object) -> BadInput:
    """Return the one-line error for an input."""
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return BadInput.from_validation("fleet.toml", caught.value)


@pytest.mark.parametrize(
    ("value", "field", "problem"),
    [
        ({"pools": [{"watts": 1}, {"watts": -5}]}, "fleet.toml.pools[1].watts", "-5"),
        ({"pools": [{}]}, "fleet.toml.pools[0].watts", "missing"),
        ({"pools": [], "polls": 1}, "fleet.toml.polls", "does not exist"),
        ({"pools": [{"watts": 1, "name": "A"}]}, "fleet.toml.pools[0].name", "has capitals"),
    ],
)
def test_validation_names_the_field(value: object, field: str, problem: str) -> None:
    """A fault that pydantic found becomes one line with path, problem and fix."""
    error = fault(value)
    assert error.field == field
    assert problem in error.problem
    assert error.fix
    assert "\n" not in str(error)


def test_the_message_is_field_problem_fix() -> None:
    """The text of a BadInput holds its three parts in order."""
    assert (
        str(BadInput("speed", "-1 is no speed", "Give one.")) == "speed: -1 is no speed. Give one."
    )


def test_unknown_names_get_a_suggestion() -> None:
    """A misspelt zone or region is answered with the closest known name."""
    assert "'SE-SE3'" in UnknownZone("zones", "SE-SE", ["SE-SE3", "DE"]).fix
    assert "'aws:eu-north-1'" in UnknownRegion("home", "aws:eu-north1", ["aws:eu-north-1"]).fix
    assert UnknownZone("zones", "SE-SE", []).zone == "SE-SE"


@given(value=st.text(), known=st.lists(st.text(min_size=1)))
def test_a_suggestion_is_always_one_of_the_known(value: str, known: list[str]) -> None:
    """Whatever is typed, the answer is a sentence, and names known things only."""
    said = suggest(value, known)
    assert said.endswith((".", "?"))
    if said.startswith("Did you mean "):
        assert any(repr(name) in said for name in known)


def test_there_is_one_tree() -> None:
    """Every public error of the module descends from the one root."""
    errors = [
        item
        for name, item in vars(_errors).items()
        if isinstance(item, type) and issubclass(item, Exception) and not name.startswith("_")
    ]
    ours = [error for error in errors if error.__module__ == _errors.__name__]
    assert len(ours) > 5
    assert all(issubclass(error, CarbonAwareError) for error in ours)
