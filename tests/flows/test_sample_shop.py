"""The sample shop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from carbon import BadInput
from flows.sample_shop import draw_catalogue

if TYPE_CHECKING:
    from pathlib import Path


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    """Two folders drawn with the same seed hold the same names and bytes; another seed does not."""
    first = draw_catalogue(tmp_path / "a", count=5)
    second = draw_catalogue(tmp_path / "b", count=5)
    other = draw_catalogue(tmp_path / "c", count=5, seed=8)
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.read_bytes() for path in first] != [path.read_bytes() for path in other]


def test_second_call_rewrites_nothing(tmp_path: Path) -> None:
    """A file that holds the right bytes keeps its inode; one that was changed is drawn again."""
    paths = draw_catalogue(tmp_path, count=3)
    original = paths[1].read_bytes()
    paths[1].write_bytes(b"scribble")
    inodes = [path.stat().st_ino for path in paths]
    assert draw_catalogue(tmp_path, count=3) == paths
    assert paths[0].stat().st_ino == inodes[0]
    assert paths[2].stat().st_ino == inodes[2]
    assert paths[1].read_bytes() == original
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_larger_shop_begins_with_the_smaller(tmp_path: Path) -> None:
    """More pictures never change the ones before, so a demo can grow its catalogue."""
    few = draw_catalogue(tmp_path / "few", count=2)
    more = draw_catalogue(tmp_path / "more", count=4)
    assert [p.read_bytes() for p in few] == [p.read_bytes() for p in more[:2]]


def test_pictures_are_distinct_square_jpegs(drawn: tuple[Path, ...]) -> None:
    """Each picture has its own name and bytes and is a 320 pixel JPEG."""
    assert len({path.read_bytes() for path in drawn}) == len({p.name for p in drawn}) == 16
    with Image.open(drawn[0]) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (320, 320), "RGB")


def test_no_pictures_is_refused(tmp_path: Path) -> None:
    """A count of zero names the field."""
    with pytest.raises(BadInput, match="count"):
        draw_catalogue(tmp_path, count=0)
