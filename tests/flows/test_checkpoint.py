"""The restricted reader: tensors come out, nothing is ever called."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.image_embeddings._checkpoint import CheckpointError, read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}X\r\x00\x00\x00little_endian\x88s."
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
NUMBERS = struct.pack("<q6f", 6, 0, 1, 2, 3, 4, 5)


def text(value: str) -> bytes:
    """The opcode for a string."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(*values: int) -> bytes:
    """The opcodes for a tuple of small numbers."""
    return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"


def tensor(
    shape: bytes = numbers(3, 2), strides: bytes = numbers(1, 3), offset: int = 0, count: int = 6
) -> bytes:
    """The opcodes for a tensor over six floats, by default a transposed one."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    storage += b"K" + bytes([count]) + b"NtQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        REBUILD
        + b"("
        + storage
        + b"K"
        + bytes([offset])
        + shape
        + strides
        + b"\x89"
        + hooks
        + b"tR"
    )


def checkpoint(value: bytes, head: bytes = MAGIC + PROTOCOL + SYSTEM) -> bytes:
    """A whole file that holds one entry named ``w``."""
    state = b"\x80\x02ccollections\nOrderedDict\n)R" + text("w") + value + b"s."
    return head + state + b"\x80\x02]" + text("0") + b"a." + NUMBERS


SOUND = checkpoint(tensor())


def read(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    """Read a file with these bytes."""
    path = folder / "weights.pth"
    path.write_bytes(data)
    return read_checkpoint(path)


def test_a_transposed_tensor_is_read(tmp_path: Path) -> None:
    """Strides are honoured, as the published weights need it."""
    (array,) = read(tmp_path, SOUND).values()
    np.testing.assert_array_equal(array, np.arange(6, dtype=np.float32).reshape(2, 3).T)
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    "call",
    [
        b"cposix\nsystem\n" + text("touch marker") + b"\x85R",
        b"cos\nsystem\n" + text("touch marker") + b"\x85R",
        b"cbuiltins\neval\n" + text("open('marker', 'w')") + b"\x85R",
        b"(" + text("touch marker") + b"ios\nsystem\n",
        text("os") + text("system") + b"\x93" + text("touch marker") + b"\x85R",
        b"cpathlib\nPosixPath\n" + text("marker") + b"\x85\x81",
        b"\x82\x01",
        b"ctorch._utils\n_rebuild_tensor_v3\n)R",
        b"ctorch\nFloatStorage\n)R",
        b"ccollections\nOrderedDict\n" + text("x") + b"\x85R",
    ],
)
def test_a_file_that_wants_to_call_something_is_refused(
    tmp_path: Path, call: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any callable but the two that build tensors is an error, and nothing was called."""
    monkeypatch.chdir(tmp_path)  # where the payloads would leave their mark
    with pytest.raises(CheckpointError, match=r"wants to call|not allowed"):
        read(tmp_path, checkpoint(call))
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("length", range(len(SOUND)))
def test_a_cut_off_file_is_refused(tmp_path: Path, length: int) -> None:
    """No shorter file passes for a whole one."""
    with pytest.raises(CheckpointError, match=r"weights\.pth is refused"):
        read(tmp_path, SOUND[:length])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"PK\x03\x04 a zip file", "zip format"),
        (SOUND + b"more", "after its end"),
        (checkpoint(tensor(), MAGIC + PROTOCOL + SYSTEM.replace(b"\x88", b"\x89")), "endian"),
        (checkpoint(tensor(), PROTOCOL + PROTOCOL + SYSTEM), "begin like"),
        (checkpoint(text("a string")), "do not match"),
        (checkpoint(tensor(offset=1)), "beyond its storage"),
        (checkpoint(tensor(shape=numbers(7), strides=numbers(1))), "beyond its storage"),
        (checkpoint(tensor(shape=numbers(200), strides=numbers(0))), "beyond its storage"),
        (checkpoint(tensor(shape=numbers(2), strides=numbers(1, 1))), "damaged"),
        (checkpoint(tensor(count=7)), "damaged"),
        (checkpoint(b"]" + text("x") + b"a" + b"}b"), "no list|no dict|state"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    """Views out of their storage, blown-up views and other lies are errors with a reason."""
    with pytest.raises(CheckpointError, match=problem):
        read(tmp_path, data)


# Python's own reader of pickles warns of some damage before it finds it.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@given(st.integers(0, len(SOUND) - 1), st.binary(min_size=1, max_size=4))
def test_damage_gives_an_answer_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, patch: bytes
) -> None:
    """Whatever bytes are overwritten, the reader returns arrays or raises ``CheckpointError``."""
    damaged = SOUND[:at] + patch + SOUND[at + len(patch) :]
    try:
        tensors = read(tmp_path_factory.getbasetemp(), damaged)
    except CheckpointError:
        return
    assert all(isinstance(value, np.ndarray) for value in tensors.values())
