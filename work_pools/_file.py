"""Read the fleet file, the one file a person edits to say which pools there are.

A mistake in it comes back as one line that names the file, the field and the fix::

    fleet.toml: pools[2].hardware: 'gpuu' is not one of 'cpu', 'gpu'. Did you mean 'gpu'?
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from carbon._errors import BadInput
from carbon._fleet import Fleet

SHIPPED = "fleet.toml"


def load_fleet(path: str | Path | None = None) -> Fleet:
    """Read and check a fleet file.

    Args:
        path: The file; without it, the one that ships beside this module.

    Returns:
        The fleet, with every region, jurisdiction and number checked.

    Raises:
        BadInput: The file is missing, is no TOML, or a value in it is wrong; the message names the
            file, the field and the fix.
    """
    path = None if path is None else Path(path)
    name = path.name if path else SHIPPED
    try:
        return Fleet.model_validate(_parse(name, _read(path)))
    except ValidationError as error:
        raise BadInput.from_validation(f"{name}:", error, model=Fleet) from None


def _read(path: Path | None) -> str:
    if path is None:
        return files("work_pools").joinpath(SHIPPED).read_text(encoding="utf-8")
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            str(path),
            "there is no such file",
            "Correct the path, or leave it out to use the fleet that ships with the package.",
        ) from None
    except UnicodeDecodeError:
        raise BadInput(str(path), "this is not a UTF-8 text file", "Save it as UTF-8.") from None
    except OSError as error:
        raise BadInput(
            str(path),
            f"it cannot be read ({error.strerror})",
            "Give a fleet file that may be read.",
        ) from None


def _parse(name: str, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).rstrip(")").rpartition(" (at ")
        if not problem:
            problem, place = str(error), ""
        place = re.sub(r"^end of document$", "the end", place)
        raise BadInput(
            f"{name}: {place}" if place else name,
            f"this is not valid TOML: {problem[0].lower()}{problem[1:]}",
            "Correct it there, or compare with the fleet file that ships with the package.",
        ) from None
