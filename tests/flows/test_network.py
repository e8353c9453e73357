"""The network: built the same each time, kept soundly, and it knows clothes when it sees them."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from flows.image_embeddings._catalogue import scan
from flows.image_embeddings._extras import extra
from flows.image_embeddings._network import model_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flows.image_embeddings._encoder import Encoder
    from flows.image_embeddings._network import Model

CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"


def test_network_is_built_once_and_the_same_each_time(model: Model, tmp_path: Path) -> None:
    """Another folder gets the same bytes; a second call does not write them again."""
    first = model_file(tmp_path)
    inode = first.path.stat().st_ino
    again = model_file(tmp_path)
    assert first.digest == model.digest == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert (again, again.path.stat().st_ino) == (first, inode)


@pytest.mark.parametrize("damage", [b"", b"not a network"])
def test_a_damaged_network_is_built_again(tmp_path: Path, damage: bytes) -> None:
    """The digest is checked on reuse, so a cut-off file is never run."""
    sound = model_file(tmp_path)
    sound.path.write_bytes(damage)
    assert model_file(tmp_path) == sound
    assert hashlib.sha256(sound.path.read_bytes()).hexdigest() == sound.digest
    assert list(tmp_path.iterdir()) == [sound.path]


def test_padding_is_tensorflows(model: Model) -> None:
    """A stride of two pads less before than after; the weights were trained that way."""
    graph = onnx.load(model.path).graph
    pads = set()
    for node in graph.node:
        given = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        if node.op_type == "Conv":
            pads.add((given["strides"][0], given["kernel_shape"][0], tuple(given["pads"])))
    assert pads == {
        (1, 1, (0, 0, 0, 0)),
        (1, 3, (1, 1, 1, 1)),
        (1, 5, (2, 2, 2, 2)),
        (2, 3, (0, 0, 1, 1)),
        (2, 5, (1, 1, 2, 2)),
    }


def test_drawn_products_are_told_apart(encoder: Encoder, drawn: tuple[Path, ...]) -> None:
    """Drawn products of one kind are each other's nearest: shape weighs more than colour."""
    folder = drawn[0].parent
    result = encoder.embed(scan(folder, set()).items, folder)
    kinds = np.array([path.name.rsplit("-", 2)[0] for path in sorted(drawn)])
    likeness = result.vectors @ result.vectors.T
    np.fill_diagonal(likeness, -1.0)
    assert np.mean(kinds[likeness.argmax(axis=1)] == kinds) >= 0.9


@pytest.mark.slow
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the clothing photos are not on this machine")
def test_real_photos_are_told_apart(encoder: Encoder) -> None:
    """Five nearest training photos name the garment for 70 % of the test photos or more."""
    items = scan(CLOTHING, set()).items
    result = encoder.embed(items, CLOTHING)
    assert not result.rejected
    paths = [Path(item.path) for item in items]
    labels = np.array([path.parts[1] for path in paths])
    train = np.array([path.parts[0] == "train" for path in paths])
    ranked = np.argsort(-(result.vectors[~train] @ result.vectors[train].T), axis=1, kind="stable")
    votes = labels[train][ranked[:, :5]]
    assert np.mean(_majority(votes) == labels[~train]) >= 0.70


def _majority(votes: NDArray[np.str_]) -> NDArray[np.str_]:
    rows = [list(row) for row in votes]
    return np.array([max(row, key=row.count) for row in rows])


@pytest.mark.parametrize("name", ["PIL.Image", "onnxruntime", "onnx.helper"])
def test_a_missing_extra_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the optional packages the error holds the command."""
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'carbon-aware-flows\[images\]'"):
        extra(name)
