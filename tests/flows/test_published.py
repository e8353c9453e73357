"""Publishing: whatever happens, a complete version can be read."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from carbon import BadInput
from flows.image_embeddings._catalogue import Listing, Rejected, State
from flows.image_embeddings._publish import publish, switch
from flows.image_embeddings._published import NotPublished, Published, versions
from flows.image_embeddings._sheet import contact_sheet
from flows.image_embeddings._store import StoreError, VectorCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.image_embeddings._network import Model

    Lister = Callable[..., Listing]

ROOT = Path(__file__).parents[2]

# Ends its own process, as a power cut would, at the n-th time that it touches the file system.
CRASHING_PUBLISHER = """
import os, shutil, sys
from pathlib import Path
from flows.image_embeddings._catalogue import Listing
from flows.image_embeddings._network import Model
from flows.image_embeddings._publish import publish

base, out = Path(sys.argv[1]), Path(sys.argv[2])
model = Model(path=Path("toy.onnx"), digest="0" * 64, dimension=4)
touches = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")
for last in range(1, 500):
    store = out / str(last)
    shutil.copytree(base, store)
    child = os.fork()
    if child == 0:
        listing = Listing.read(base / "next.parquet")
        left = last

        def hook(event, _):
            global left
            if event in touches:
                left -= 1
                if left == 0:
                    os._exit(9)

        sys.addaudithook(hook)
        publish(store, listing, model)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        break
    assert code == 9, code
"""


def test_a_crash_at_any_instant_leaves_a_complete_version(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """Killed at each touch of the file system in turn: the old version or the new one is whole."""
    base, out = tmp_path / "base", tmp_path / "out"
    before = publish(base, toy_listing(base, "a.jpg", "b.jpg"), toy_model)
    following = toy_listing(base, "b.jpg", "c.jpg", "d.jpg", minute=1)
    following.write(base / "next.parquet")
    command = [sys.executable, "-c", CRASHING_PUBLISHER, str(base), str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    crashes = sorted(out.iterdir(), key=lambda path: int(path.name))[:-1]
    seen = []
    for store in crashes:
        found = Published.open(store)
        assert found.paths in [("a.jpg", "b.jpg"), ("b.jpg", "c.jpg", "d.jpg")]
        seen.append(found.manifest.version == before.version)
        assert all(Published.open(store, each.version) for each in versions(store))
        after = publish(store, following, toy_model)
        assert Published.open(store).manifest == after
        assert not list((store / "versions").glob(".*"))
    assert len(seen) > 10
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {True, False}


def test_publishers_at_once_all_leave_whole_versions(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """Eight at a time: every version is whole and the one from the latest scan is current."""
    listings = [toy_listing(tmp_path, f"{n}.jpg", "x.jpg", minute=n) for n in range(8)]
    shuffled = [listings[n] for n in (3, 7, 1, 0, 6, 2, 5, 4)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda listing: publish(tmp_path, listing, toy_model), shuffled))
    assert Published.open(tmp_path).paths == ("7.jpg", "x.jpg")
    assert len(versions(tmp_path)) == len({manifest.version for manifest in made}) == 8
    for manifest in made:
        assert Published.open(tmp_path, manifest.version).manifest == manifest


def test_an_overtaken_run_does_not_turn_back_time(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """A run that scanned earlier but ends later keeps its version, not the current place."""
    late = publish(tmp_path, toy_listing(tmp_path, "new.jpg", minute=5), toy_model)
    early = publish(tmp_path, toy_listing(tmp_path, "old.jpg", minute=1), toy_model)
    assert Published.open(tmp_path).manifest == late
    assert Published.open(tmp_path, early.version).paths == ("old.jpg",)


def test_same_content_is_the_same_version(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """Publishing again what is current writes no version; another model makes another one."""
    first = publish(tmp_path, toy_listing(tmp_path, "a.jpg"), toy_model)
    folder = tmp_path / "versions" / first.version
    inodes = {path.name: path.stat().st_ino for path in folder.iterdir()}
    again = publish(tmp_path, toy_listing(tmp_path, "a.jpg", minute=9), toy_model)
    assert again == first
    assert {path.name: path.stat().st_ino for path in folder.iterdir()} == inodes
    with pytest.raises(StoreError, match="no vector"):
        publish(tmp_path, toy_listing(tmp_path, "a.jpg"), replace(toy_model, digest="1" * 64))


def test_roll_back_and_forward(tmp_path: Path, toy_model: Model, toy_listing: Lister) -> None:
    """An older version can be made current; a name that is not kept is refused."""
    first = publish(tmp_path, toy_listing(tmp_path, "a.jpg"), toy_model)
    second = publish(tmp_path, toy_listing(tmp_path, "b.jpg", minute=1), toy_model)
    assert versions(tmp_path) == (first, second)
    assert switch(tmp_path, first.version) == first
    assert Published.open(tmp_path).paths == ("a.jpg",)
    for name in ("nonsense", "../versions", ".lock"):
        with pytest.raises(BadInput, match="version"):
            switch(tmp_path, name)
    publish(tmp_path, toy_listing(tmp_path, "b.jpg", minute=1), toy_model)
    assert Published.open(tmp_path).manifest == second


@pytest.mark.parametrize("file", ["index.npy", "vectors.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", [None, b"", b"\x93NUMPY and nonsense"])
def test_a_damaged_version_is_refused_and_rebuilt(
    tmp_path: Path, toy_model: Model, toy_listing: Lister, file: str, damage: bytes | None
) -> None:
    """Checksums are verified on opening; publishing again repairs from the cache."""
    listing = toy_listing(tmp_path, "a.jpg", "b.jpg")
    manifest = publish(tmp_path, listing, toy_model)
    path = tmp_path / "versions" / manifest.version / file
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(StoreError, match="missing or damaged"):
        Published.open(tmp_path)
    publish(tmp_path, listing, toy_model)
    assert Published.open(tmp_path).paths == ("a.jpg", "b.jpg")


def test_nothing_published_says_so(tmp_path: Path) -> None:
    """An empty store, and one with a damaged pointer, are clear errors."""
    with pytest.raises(NotPublished, match="nothing is published"):
        Published.open(tmp_path)
    (tmp_path / "current.json").write_text("{")
    with pytest.raises(StoreError, match=r"current\.json is damaged"):
        Published.open(tmp_path)


def test_nothing_usable_is_not_published(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """A listing of rejected files alone never replaces a good version."""
    good = publish(tmp_path, toy_listing(tmp_path, "a.jpg"), toy_model)
    bad = toy_listing(tmp_path, "b.jpg", minute=1).rejecting([Rejected("b.jpg", "is broken")])
    with pytest.raises(BadInput, match=r"none of the 1 files is usable: b\.jpg is broken"):
        publish(tmp_path, bad, toy_model)
    assert Published.open(tmp_path).manifest == good


def test_nearest_is_exact_and_begins_with_itself(
    tmp_path: Path, toy_model: Model, toy_listing: Lister
) -> None:
    """Scores are cosines in falling order; of two equal images the one asked for comes first."""
    names = [f"{n:02d}.jpg" for n in range(20)]
    listing = toy_listing(tmp_path, *names)
    twin = replace(listing.entries[3], path="zz.jpg", state=State.DUPLICATE)
    publish(tmp_path, replace(listing, entries=(*listing.entries, twin)), toy_model)
    published = Published.open(tmp_path)
    assert len(published.paths) == 21
    for path, vector in zip(published.paths, published.vectors, strict=True):
        found = published.nearest(path, 21)
        assert (found[0].path, found[0].score) == (path, 1.0)
        expected = sorted(published.vectors @ vector, reverse=True)
        np.testing.assert_allclose([each.score for each in found], expected, atol=1e-6)
        by_vector = published.nearest(vector * 7, 3)
        np.testing.assert_allclose([e.score for e in by_vector], expected[:3], atol=1e-6)
    assert [each.path for each in published.nearest("zz.jpg", 2)] == ["zz.jpg", "03.jpg"]


@pytest.mark.parametrize("query", ["gone.jpg", np.zeros(4), np.ones(3), np.full(4, np.nan)])
def test_a_query_that_means_nothing_is_refused(
    tmp_path: Path, toy_model: Model, toy_listing: Lister, query: str | np.ndarray
) -> None:
    """An unknown path, a vector without direction or of another length name the field."""
    publish(tmp_path, toy_listing(tmp_path, "a.jpg"), toy_model)
    with pytest.raises(BadInput) as caught:
        Published.open(tmp_path).nearest(query)
    assert caught.value.field == "query"


def test_a_damaged_shard_counts_as_unknown(
    tmp_path: Path, toy_model: Model, toy_listing: Lister, caplog: pytest.LogCaptureFixture
) -> None:
    """A shard that cannot be read is ignored aloud, so its images are embedded again."""
    toy_listing(tmp_path, "a.jpg")
    toy_listing(tmp_path, "b.jpg")
    shard = min((tmp_path / "vectors" / toy_model.key).iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    assert len(VectorCache(tmp_path).known(toy_model)) == 1
    assert "damaged shard" in caplog.text


def test_contact_sheet_is_a_picture_even_where_images_are_gone(
    tmp_path: Path, toy_model: Model, toy_listing: Lister, drawn: tuple[Path, ...]
) -> None:
    """Rows and columns follow the arguments and the number of images; a missing file is blank."""
    names = [path.name for path in drawn[:3]]
    publish(tmp_path, toy_listing(tmp_path, "gone.jpg", *names), toy_model)
    sheet = contact_sheet(Published.open(tmp_path), drawn[0].parent, queries=2, k=9)
    with Image.open(io.BytesIO(sheet)) as image:
        assert image.format == "PNG"
        assert image.width == 4 * 140 + 24
        assert image.height == 2 * 174 + 12
