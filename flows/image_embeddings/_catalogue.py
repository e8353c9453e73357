"""The light first stage: which image files there are, and which of them are new.

Bytes are hashed before anything is decoded: hashing a file costs a hundredth of embedding it, and
a file whose content is known costs nothing more.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from carbon._errors import BadInput
from flows.image_embeddings._files import local_path, replacing
from flows.image_embeddings._image import FORMATS, SUFFIXES, Unfit, read_bytes

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence


class State(StrEnum):
    """What became of an image file."""

    NEW = "new"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that was left out.

    Attributes:
        path: Path below the folder, with ``/``.
        reason: Why, in words for a person.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """An image to embed.

    Attributes:
        path: Path below the folder, with ``/``.
        sha256: Digest of the file's bytes, in hex.
        size_bytes: Size of the file.
    """

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the inventory; ``sha256`` is empty where a file was rejected unread."""

    path: str
    sha256: str
    size_bytes: int
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Listing:
    """The whole inventory of a folder at one moment.

    Attributes:
        folder: The folder, absolute.
        scanned_at: When the scan began, UTC.
        entries: All image files, sorted by path.
    """

    folder: str
    scanned_at: datetime
    entries: tuple[Entry, ...]

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Images with content that was not known, one per content."""
        return tuple(
            Item(entry.path, entry.sha256, entry.size_bytes)
            for entry in self.entries
            if entry.state is State.NEW
        )

    @cached_property
    def accepted(self) -> tuple[Entry, ...]:
        """All entries that were not rejected: what a published version holds."""
        return tuple(entry for entry in self.entries if entry.state is not State.REJECTED)

    @cached_property
    def rejected(self) -> tuple[Rejected, ...]:
        """Files that were left out, each with its reason."""
        return tuple(
            Rejected(entry.path, entry.reason)
            for entry in self.entries
            if entry.state is State.REJECTED
        )

    @cached_property
    def _counts(self) -> Counter[State]:
        return Counter(entry.state for entry in self.entries)

    @property
    def unchanged(self) -> int:
        """Number of images whose content was known before the scan."""
        return self._counts[State.UNCHANGED]

    @property
    def duplicates(self) -> int:
        """Number of images with the same bytes as one earlier in the listing."""
        return self._counts[State.DUPLICATE]

    def require_usable(self) -> None:
        """Refuse a listing of which nothing could be published.

        Raises:
            BadInput: Every file was rejected.
        """
        if not self.accepted:
            first = self.rejected[0]
            raise BadInput(
                "images",
                f"none of the {len(self.rejected)} files is usable: {first.path} {first.reason}",
                "Correct the files or give another folder.",
            )

    def rejecting(self, rejected: Sequence[Rejected]) -> Listing:
        """Return the listing with more files rejected, and their duplicates with them."""
        reasons = {fault.path: fault.reason for fault in rejected}
        faulty = {entry.sha256: entry.path for entry in self.entries if entry.path in reasons}

        def judge(entry: Entry) -> Entry:
            if not entry.sha256 or entry.sha256 not in faulty:
                return entry
            first = faulty[entry.sha256]
            reason = reasons.get(entry.path, f"same bytes as {first}: {reasons[first]}")
            return replace(entry, state=State.REJECTED, reason=reason)

        return replace(self, entries=tuple(map(judge, self.entries)))

    def write(self, path: Path) -> None:
        """Write the listing as Parquet, atomically."""
        frame = pl.DataFrame(
            {
                "path": [entry.path for entry in self.entries],
                "sha256": [entry.sha256 for entry in self.entries],
                "size_bytes": [entry.size_bytes for entry in self.entries],
                "state": [entry.state.value for entry in self.entries],
                "reason": [entry.reason for entry in self.entries],
            },
            schema_overrides={"size_bytes": pl.Int64},
        ).with_columns(folder=pl.lit(self.folder), scanned_at=pl.lit(self.scanned_at))
        with replacing(path) as part:
            frame.write_parquet(part)

    @classmethod
    def read(cls, path: Path) -> Listing:
        """Read a listing that ``write`` wrote.

        Raises:
            BadInput: There is no listing at the path.
        """
        try:
            frame = pl.read_parquet(path)
            entries = tuple(
                Entry(where, digest, size, State(state), reason)
                for where, digest, size, state, reason in frame.select(
                    "path", "sha256", "size_bytes", "state", "reason"
                ).iter_rows()
            )
            return cls(frame["folder"][0], frame["scanned_at"][0], entries)
        except (OSError, pl.exceptions.PolarsError, IndexError, ValueError) as error:
            raise BadInput(
                "listing", f"{path} is no listing of images", "Run the list stage again."
            ) from error


def resolve_folder(images: str, roots: Sequence[Path]) -> Path:
    """Return the images folder, absolute and free of symlinks.

    Args:
        images: Path or ``file://`` URI that a person or a request gave.
        roots: Folders that images may be read from.

    Raises:
        BadInput: It does not exist, is no folder, or lies outside the roots.
    """
    try:
        folder = local_path("images", images).resolve()
        allowed = [root.expanduser().resolve() for root in roots]
    except (OSError, RuntimeError) as error:  # a loop of symlinks, or a home that is unknown
        raise BadInput(
            "images", f"{images!r} cannot be resolved", "Give a plain folder."
        ) from error
    # Judged before existence, so that a request cannot probe what else is on the machine.
    if not any(folder.is_relative_to(root) for root in allowed):
        shown = " or ".join(map(str, roots)) or "an allowed root (none is configured)"
        raise BadInput(
            "images",
            f"{images!r} is outside the folders that flows may read",
            f"Use {shown}, or add its folder to CARBON_DATA_ROOTS, here and for the workers.",
        )
    if not folder.exists():
        raise BadInput("images", f"{images!r} does not exist", "Give a folder of product images.")
    if not folder.is_dir():
        raise BadInput("images", f"{images!r} is not a folder", "Give the folder that holds it.")
    return folder


def require_images(folder: Path) -> None:
    """Refuse a folder without any image file, good or bad.

    Raises:
        BadInput: There is none.
    """
    if next(_candidates(folder), None) is None:
        raise BadInput(
            "images", f"{str(folder)!r} holds no image", f"Put {', '.join(FORMATS)} files in it."
        )


def scan(folder: Path, known: Container[str]) -> Listing:
    """List the image files below a folder and say which are new. Faulty files never stop it.

    Args:
        folder: The folder, absolute.
        known: Digests of contents that need no embedding.

    Raises:
        BadInput: There is no image file at all, good or bad.
    """
    require_images(folder)
    scanned_at = datetime.now(UTC)
    seen: set[str] = set()
    entries: list[Entry] = []
    for path, fault in sorted(_candidates(folder)):
        entry = _judge(folder, path, fault, known, seen)
        seen.add(entry.sha256)
        entries.append(entry)
    return Listing(str(folder), scanned_at, tuple(entries))


def _candidates(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path below the folder of all that is named like an image, and what is wrong."""
    errors: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        here = Path(place).relative_to(folder)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (folder / here / name).is_symlink():
                yield (here / name).as_posix(), "is a linked folder: copy its files instead"
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield (here / name).as_posix(), ""
    for error in errors:
        path = Path(error.filename).relative_to(folder).as_posix()
        yield path, f"is a folder that cannot be read: {error.strerror}"


def _judge(folder: Path, path: str, fault: str, known: Container[str], seen: set[str]) -> Entry:
    # Names that are not UTF-8 come as lone surrogates, which no Parquet file can hold.
    printable = path.encode(errors="backslashreplace").decode()
    if printable != path:
        fault = fault or "its name is not UTF-8: rename it"
    if fault:
        return Entry(printable, "", 0, State.REJECTED, fault)
    try:
        data = read_bytes(folder / path, folder)
    except Unfit as error:
        return Entry(path, "", 0, State.REJECTED, str(error))
    digest = hashlib.sha256(data).hexdigest()
    state = State.UNCHANGED if digest in known else State.NEW
    return Entry(path, digest, len(data), State.DUPLICATE if digest in seen else state)
