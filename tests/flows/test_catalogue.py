"""Finding the images: which folder may be read, what is new, what is left out and why."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carbon import BadInput
from flows.image_embeddings._catalogue import Listing, Rejected, State, resolve_folder, scan
from flows.image_embeddings._image import MAX_BYTES

MAGICS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP")


def reasons(listing: Listing) -> dict[str, str]:
    """Rejected paths and why."""
    return {fault.path: fault.reason for fault in listing.rejected}


@pytest.mark.parametrize("form", ["plain", "uri", "trailing"])
def test_folder_is_taken_as_path_or_uri(shop: Path, form: str) -> None:
    """A plain path, a file URI and a path with a slash at its end mean the same folder."""
    text = {"plain": str(shop), "uri": shop.as_uri(), "trailing": f"{shop}/"}[form]
    assert resolve_folder(text, [shop.parent]) == shop.resolve()


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ("nowhere", "does not exist"),
        ("shop/../../..", "outside the folders"),
        ("away", "outside the folders"),
        ("s3://bucket/shop", "not on this machine"),
        ("file://other-host/shop", "not on this machine"),
        ("", "no path"),
        ("~no-such-user/shop", "unknown user"),
        ("http://[", "not on this machine"),
        ("a\0b", "no path"),
        ("loop", "images"),
        ("file.jpg", "is not a folder"),
    ],
)
def test_bad_folder_names_the_field(
    shop: Path, images: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not exist, is no folder, or leads out of the roots is refused as ``images``."""
    root = shop.parent
    (root / "away").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    (root / "file.jpg").write_bytes(b"x")
    monkeypatch.chdir(root)
    with pytest.raises(BadInput, match=problem) as caught:
        resolve_folder(images, [root])
    assert caught.value.field == "images"


def test_a_folder_outside_is_not_probed(tmp_path: Path) -> None:
    """Outside the roots, a folder that exists and one that does not get the same answer."""
    messages = set()
    for name in ("/etc", "/no-such-folder"):
        with pytest.raises(BadInput) as caught:
            resolve_folder(name, [tmp_path])
        messages.add(caught.value.problem.replace(repr(name), "it"))
    assert len(messages) == 1


def test_scan_tells_new_from_known_and_duplicate(shop: Path) -> None:
    """Content decides, not the name: known bytes are unchanged, repeated bytes are duplicates."""
    first, second, *_ = sorted(shop.iterdir())
    (shop / "sub").mkdir()
    (shop / "sub" / "copy.JPG").write_bytes(first.read_bytes())
    before = scan(shop, set())
    assert (len(before.items), before.unchanged, before.duplicates) == (8, 0, 1)
    renamed = second.rename(shop / "renamed.jpg")
    after = scan(shop, {item.sha256 for item in before.items})
    assert (len(after.items), after.unchanged, after.duplicates) == (0, 8, 1)
    assert renamed.name in {entry.path for entry in after.accepted}


def test_scan_rejects_with_reason_and_goes_on(shop: Path, tmp_path: Path) -> None:
    """Each kind of bad file is reported by path and reason; the good ones are still listed."""
    (tmp_path / "secret.jpg").write_bytes(b"\xff\xd8\xffsecret")
    (shop / "a-empty.jpg").touch()
    (shop / "a-text.png").write_text("hello")
    (shop / "a-phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with (shop / "a-huge.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(MAX_BYTES + 1)
    (shop / "a-link.jpg").symlink_to(tmp_path / "secret.jpg")
    (shop / "a-dangling.jpg").symlink_to("gone.jpg")
    (shop / "a-folder").symlink_to(tmp_path)
    os.mkfifo(shop / "a-pipe.jpg")
    (Path(os.fsdecode(os.fsencode(shop) + b"/a-\xff.jpg"))).write_bytes(b"\xff\xd8\xff")
    (shop / "notes.txt").write_text("no image")
    (shop / ".hidden.jpg").write_text("no image")
    listing = scan(shop, set())
    found = reasons(listing)
    assert len(listing.items) == 8
    assert found.pop("a-empty.jpg") == "is empty"
    assert "is not a JPEG" in found.pop("a-text.png")
    assert "is not a JPEG" in found.pop("a-phone.heic")
    assert "larger than 50 MB" in found.pop("a-huge.jpg")
    assert "link out of the folder" in found.pop("a-link.jpg")
    assert "cannot be read" in found.pop("a-dangling.jpg")
    assert "linked folder" in found.pop("a-folder")
    assert "not a regular file" in found.pop("a-pipe.jpg")
    assert "not UTF-8" in found.pop("a-\\udcff.jpg")
    assert not found


def test_a_link_within_the_folder_is_a_duplicate(shop: Path) -> None:
    """A link to another image of the folder is read like a copy of it."""
    target = min(shop.iterdir())
    (shop / "z-link.jpg").symlink_to(target.name)
    assert scan(shop, set()).entries[-1].state is State.DUPLICATE


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    """Nothing to do is an error that names the field, not an empty success."""
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(BadInput, match="holds no image") as caught:
        scan(tmp_path, set())
    assert caught.value.field == "images"


@given(
    st.dictionaries(
        st.text("abcdé 😀", min_size=1, max_size=6),
        st.builds(bytes.__add__, st.sampled_from(MAGICS), st.binary(max_size=40)),
        min_size=1,
        max_size=6,
    )
)
def test_any_bytes_are_listed_once_and_survive_parquet(files: dict[str, bytes]) -> None:
    """Each file is one entry, each content is new once, and Parquet keeps it all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for stem, data in files.items():
            (folder / f"{stem}.jpg").write_bytes(data)
        listing = scan(folder, set())
        assert [entry.path for entry in listing.entries] == sorted(f"{stem}.jpg" for stem in files)
        contents = [item.sha256 for item in listing.items]
        assert len(contents) == len(set(contents))
        assert len(contents) + listing.duplicates + len(listing.rejected) == len(files)
        listing.write(folder / "listing.parquet")
        assert Listing.read(folder / "listing.parquet") == listing


def test_rejecting_takes_the_duplicates_along(shop: Path) -> None:
    """What cannot be decoded under one name cannot be under another; the reason says which."""
    first = min(shop.iterdir())
    (shop / "zz.jpg").write_bytes(first.read_bytes())
    listing = scan(shop, set()).rejecting([Rejected(first.name, "is broken")])
    assert reasons(listing) == {
        first.name: "is broken",
        "zz.jpg": f"same bytes as {first.name}: is broken",
    }
    assert len(listing.accepted) == 7


@pytest.mark.parametrize("data", [None, b"", b"PAR1 and then nothing"])
def test_what_is_no_listing_is_refused(tmp_path: Path, data: bytes | None) -> None:
    """A missing or damaged listing is one clear error."""
    path = tmp_path / "listing.parquet"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput, match="is no listing"):
        Listing.read(path)
