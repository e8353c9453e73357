"""Packages of the optional extra ``images``, imported only when they are needed."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def extra(name: str) -> ModuleType:
    """Import a module of the extra.

    Args:
        name: Full module name, e.g. ``PIL.Image``.

    Raises:
        ImportError: It is not installed; the message holds the command that installs it.
    """
    # ONNX Runtime sends usage data to Microsoft (on Linux since 1.29) unless it finds this set.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Image embeddings need the package {name.partition('.')[0]!r}. "
            "Run: pip install 'carbon-aware-flows[images]'",
            name=name,
        ) from error
