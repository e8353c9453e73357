"""Writes are whole or absent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows.image_embeddings._files import local_path, replacing

if TYPE_CHECKING:
    from pathlib import Path


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    """Replacing never touches the old bytes: who has the file open reads it to its end."""
    target = tmp_path / "current.json"
    target.write_text("old")
    with target.open() as reader:
        with replacing(target) as part:
            part.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new"
        assert reader.read() == "old"


def test_a_write_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    """An error before the move keeps the old file and leaves no part."""
    target = tmp_path / "current.json"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(target) as part:
        part.unlink()  # as a clean-up job might; the flush then finds nothing
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_escapes_in_a_uri_are_undone(tmp_path: Path) -> None:
    """A path with spaces and percent signs survives the way through a URI."""
    odd = tmp_path / "summer 50% [sale] #1"
    assert local_path("images", odd.as_uri()) == local_path("images", str(odd)) == odd
