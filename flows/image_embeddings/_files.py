"""Local files: where a URI points, digests, and writes that are either whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from carbon._errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator


def local_path(field: str, uri: str) -> Path:
    """Return the local path that a ``file://`` URI or a plain path stands for.

    Raises:
        BadInput: The URI has another scheme, names another host, or is no path.
    """
    if "://" in uri:
        parts = urlsplit(uri.replace("[", "%5B"))  # a bracket would be taken for an IPv6 host
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise BadInput(
                field, f"{uri!r} is not on this machine", "Give a local path or a file:/// URI."
            )
        uri = unquote(parts.path)
    if not uri.strip() or "\0" in uri:
        raise BadInput(field, f"{uri!r} is no path", "Give the path of a folder or file.")
    try:
        return Path(uri).expanduser()
    except RuntimeError as error:  # ~nobody
        raise BadInput(field, f"{uri!r} names an unknown user", "Give a full path.") from error


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to and move it onto the target when the block succeeds.

    Readers see the old file or the new one, never a part; concurrent writers do not mix. The
    temporary name starts with a dot and ends in ``.part``, so no reader's pattern matches it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        sync(part)
        part.chmod(0o644)  # mkstemp makes it private to one user; pools may run as several
        part.replace(target)
        sync(target.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk, so that a power cut cannot reorder it after a rename."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
