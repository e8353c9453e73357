"""The three stages in a row, as the flow runs them."""

from __future__ import annotations

import functools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carbon import BadInput
from flows.image_embeddings import embed
from flows.image_embeddings._catalogue import Rejected
from flows.image_embeddings._published import Manifest, Published
from flows.image_embeddings._stages import (
    Embedded,
    embed_images,
    list_images,
    publish_images,
    result_path,
)
from flows.image_embeddings._store import StoreError


def run(shop: Path, store: Path) -> tuple[Embedded, Manifest]:
    """All three stages."""
    listed = list_images(str(shop), str(store), roots=[shop])
    embedded = embed_images(listed.listing, str(store), roots=[shop])
    return embedded, publish_images(embedded.listing, str(store))


def test_only_what_changed_is_embedded(shop: Path, tmp_path: Path) -> None:
    """A second run embeds nothing; a new file costs one, a renamed one none, a lost one is gone."""
    store = tmp_path / "store"
    first, version = run(shop, store)
    assert (first.embedded, version.count, first.device) == (8, 8, "cpu")
    again, same = run(shop, store)
    assert (again.embedded, again.shards, same) == (0, (), version)
    lost, renamed, changed, *_ = sorted(shop.iterdir())
    lost.unlink()
    renamed.rename(shop / "renamed.jpg")
    changed.write_bytes(changed.read_bytes() + b"\0")
    third, other = run(shop, store)
    assert (third.embedded, other.count) == (1, 7)
    paths = Published.open(store).paths
    assert "renamed.jpg" in paths
    assert lost.name not in paths


def test_a_corrupt_image_is_reported_and_the_rest_is_published(shop: Path, tmp_path: Path) -> None:
    """The report names path and reason; the version says how many were left out."""
    bad = min(shop.iterdir())
    bad.write_bytes(bad.read_bytes()[:500])
    (shop / "empty.png").touch()
    embedded, version = run(shop, tmp_path / "store")
    assert [fault.path for fault in embedded.examples] == [bad.name, "empty.png"]
    assert (embedded.embedded, embedded.rejected) == (7, 2)
    assert (version.count, version.rejected, version.folder) == (7, 2, str(shop))
    assert bad.name not in Published.open(tmp_path / "store").paths


def test_nothing_but_corrupt_images_is_an_error(tmp_path: Path) -> None:
    """A run that could publish nothing fails with the field and the first reason."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff and no more")
    with pytest.raises(BadInput, match=r"none of the 1 files is usable: a\.jpg cannot be") as error:
        run(tmp_path, tmp_path / "store")
    assert error.value.field == "images"


def test_a_stage_that_runs_again_after_a_crash_embeds_nothing_twice(
    shop: Path, tmp_path: Path
) -> None:
    """The same listing embedded twice leaves the same shards and the same result for the parent."""
    store = tmp_path / "store"
    listed = list_images(str(shop), str(store), roots=[shop])
    first = embed_images(listed.listing, str(store), roots=[shop])
    shards = sorted((store / "vectors").rglob("*.parquet"))
    second = embed_images(listed.listing, str(store), roots=[shop])
    assert (first.embedded, second.embedded) == (8, 0)
    assert sorted((store / "vectors").rglob("*.parquet")) == shards
    left = Embedded.model_validate_json(result_path(listed.listing, str(store)).read_bytes())
    assert left == second
    assert left.listing == first.listing


def test_a_stage_that_pauses_loses_nothing_and_does_nothing_twice(
    shop: Path, tmp_path: Path
) -> None:
    """It stops after the shard that is under way and says what is left; the next call goes on."""
    store = tmp_path / "store"
    listed = list_images(str(shop), str(store), roots=[shop])
    embed = functools.partial(embed_images, listed.listing, str(store), roots=[shop], shard=3)
    over = datetime.now(UTC)
    first, second = embed(until=over), embed(until=over)
    assert [(one.embedded, one.left) for one in (first, second)] == [(3, 5), (3, 2)]
    assert first.listing == listed.listing
    assert not result_path(listed.listing, str(store)).exists()
    last = embed(until=over + timedelta(days=1))
    assert (last.embedded, last.left) == (2, 0)
    assert (
        Embedded.model_validate_json(result_path(listed.listing, str(store)).read_bytes()) == last
    )
    whole = embed_images(listed.listing, str(store), roots=[shop])
    assert (whole.embedded, whole.listing) == (0, last.listing)


def test_progress_runs_to_the_total(shop: Path, tmp_path: Path) -> None:
    """Progress never falls and ends with all images."""
    store, calls = tmp_path / "store", list[tuple[int, int]]()
    listed = list_images(str(shop), str(store), roots=[shop])
    embed_images(
        listed.listing,
        str(store),
        roots=[shop],
        batch=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(3, 8), (6, 8), (8, 8)]


def test_publishing_before_embedding_is_refused(shop: Path, tmp_path: Path) -> None:
    """A version never silently lacks images that were listed."""
    listed = list_images(str(shop), str(tmp_path / "store"), roots=[shop])
    with pytest.raises(StoreError, match="8 of 8 images have no vector"):
        publish_images(listed.listing, str(tmp_path / "store"))


def test_all_of_the_store_can_be_deleted(shop: Path, tmp_path: Path) -> None:
    """After the store is gone, a run rebuilds the same version."""
    store = tmp_path / "store"
    _, before = run(shop, store)
    shutil.rmtree(store)
    _, after = run(shop, store)
    assert after.version == before.version


def test_the_heavy_stage_reads_only_inside_the_roots(shop: Path, tmp_path: Path) -> None:
    """A listing of another folder does not open it."""
    listed = list_images(str(shop), str(tmp_path / "store"), roots=[shop])
    with pytest.raises(BadInput, match="outside the folders"):
        embed_images(listed.listing, str(tmp_path / "store"), roots=[tmp_path / "else"])


def test_rejected_files_travel_in_the_results_json() -> None:
    """Results cross to the parent as JSON and come back equal."""
    result = Embedded(
        listing="file:///l",
        shards=(),
        embedded=0,
        rejected=1,
        examples=(Rejected("a.jpg", "is empty"),),
        device="",
        cpu_seconds=0.0,
    )
    assert Embedded.model_validate_json(result.model_dump_json()) == result


def test_a_listing_of_another_class_is_not_opened(shop: Path, tmp_path: Path) -> None:
    """Each class of data has a store of its own: naming a wrong class opens nothing."""
    personal, public = tmp_path / "personal" / "products", tmp_path / "public" / "products"
    listed = list_images(str(shop), str(personal), roots=[shop])
    for stage in (
        lambda: embed_images(listed.listing, str(public), roots=[shop]),
        lambda: publish_images(listed.listing, str(public)),
    ):
        with pytest.raises(BadInput, match="is not in the store"):
            stage()
    assert not public.exists()


def test_the_execution_flow_assumes_no_class() -> None:
    """Who starts it by hand must say what the data is: nothing is public by default."""
    assert set(embed.parameters.required or ()) == {"listing", "catalogue", "data_class"}
