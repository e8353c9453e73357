"""What is shown to people must never stop the work, nor act on what stands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prefect.logging import get_logger


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Log any fault of what only shows something; the work matters more than its picture.

    Args:
        what: What is shown, e.g. ``The decision``.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above: any fault
        line = " ".join(str(error).split())
        get_logger("carbon").warning(
            "%s could not be shown (%s)", what, line or type(error).__name__
        )
        get_logger("carbon").debug("%s could not be shown", what, exc_info=True)


def table_cells(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return rows for Prefect's UI, which reads the cells of a table as Markdown."""
    return [{name: plain(cell) for name, cell in row.items()} for row in rows]


def plain(text: str) -> str:
    """Neutralise what Markdown or HTML would act on: names come from files and requests."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
