"""What a person types behind ``carbon``: checked before any work begins, and files to write to."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
from cyclopts import Parameter, Token

from carbon import BadInput

_TABLES: Final = (".csv", ".parquet")


def _whole(_: object, tokens: Sequence[Token]) -> int:
    """Read a whole number: int() of the library would make 1 of 1.5."""
    token = tokens[0]
    if not re.fullmatch(r"[0-9]{1,9}", token.value):
        raise BadInput(
            token.keyword or "number", f"{token.value!r} is no whole number", "Write e.g. 24."
        )
    return int(token.value)


def _png(_: object, path: Path | None) -> None:
    if path is not None and path.suffix.lower() != ".png":
        name = str(path) if path.name else ""
        fix = f"Write e.g. --picture {path.stem or 'mine'}.png."
        raise BadInput("--picture", f"{name!r} is no PNG file", fix)


def _tabular(_: object, path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in _TABLES:
        fix = f"Write e.g. --each {path.stem or 'mine'}.csv."
        raise BadInput("--each", f"{str(path)!r} is no {' or '.join(_TABLES)} file", fix)


Whole: Final = Parameter(converter=_whole)
"""Of an option that takes a whole number."""

Table = Annotated[Path | None, Parameter(validator=_tabular)]
Picture = Annotated[Path | None, Parameter(validator=_png)]


def parameters(given: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a flow that were given as NAME=VALUE; a value may be JSON."""
    found: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise BadInput(
                "--param", f"{text!r} is not NAME=VALUE", "Write e.g. --param images=/data/img."
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def write_table(path: Path, content: pl.DataFrame) -> None:
    """Write a table to a CSV or Parquet file that a person has named."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".csv":
        content.write_csv(buffer)
    else:
        content.write_parquet(buffer)
    write(path, buffer.getvalue())


def write(path: Path, content: bytes) -> None:
    """Write a file that a person has named."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(
            str(path), f"cannot be written ({error.strerror})", "Name another file."
        ) from error
