"""From the parameters of a StyleGAN2-ADA file to those of `anomap.networks`: the shape, what fits, one channel.

The names are the same on both sides; what differs is checked or computed here, and anything else is refused, because
a network that is almost right renders pictures that are almost right.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from anomap.errors import AnomapError
from anomap.types import Float32
from anomap.weights.stylegan2_ada import Network

FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64  # the resampling filter of `anomap.networks.ops`
MAPPING_RATE = 0.01  # learning rate multiplier of the mapping network, folded into its weights
# Settings of the published modules that anomap's networks have one value for; where a file has them, they must agree.
FIXED: Mapping[str, tuple[str, Any]] = {
    "c_dim": ("conditional labels", 0),
    "use_noise": ("layers without noise", True),
}


def unsupported(what: str) -> AnomapError:
    """E305."""
    return AnomapError("E305", f"the file's network is not one that anomap has: {what}")


def network_shape(generator: Network) -> dict[str, int]:
    """Arguments of `anomap.networks.stylegan2.NetworkConfig`, read from the parameters.

    Raises:
        AnomapError: E305 when it is not an unconditional skip generator of 32 to 1024 pixels.
    """
    check_settings(generator)
    tensors = generator.tensors
    found = [re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", name) for name in tensors]
    widths = {int(match[1]): tensors[match[0]].shape[0] for match in found if match}
    sides = sorted(widths)
    if not sides or sides != [4 << i for i in range(len(sides))] or not 32 <= sides[-1] <= 1024:
        raise unsupported(f"resolutions {sides}, expected powers of two from 4 to 32..1024")
    depth = sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", name)) for name in tensors)
    first, rgb = tensors.get("mapping.fc0.weight"), tensors.get(f"synthesis.b{sides[-1]}.torgb.weight")
    if first is None or first.ndim != 2 or rgb is None or rgb.ndim != 4:
        raise unsupported("no mapping network, or no image output at its resolution")
    if rgb.shape[0] not in (1, 3):
        raise unsupported(f"{rgb.shape[0]} image channels, expected 1, or 3 that show grey")
    widest = max(widths.values())
    return {
        "resolution": sides[-1],
        "channels": rgb.shape[0],
        "z_dim": first.shape[1],
        "w_dim": first.shape[0],
        "mapping_layers": depth,
        # width(r) = base // r: the largest product is the smallest base that gives every width.
        "channel_base": max(width * side for side, width in widths.items()),
        "channel_max": widest,
    }


def check_settings(network: Network) -> None:
    """Compare the attributes of all modules with what anomap's networks do.

    Raises:
        AnomapError: E305 names the first that differs.
    """
    for path, state in network.modules.items():
        for name, (what, wanted) in FIXED.items():
            if state.get(name, wanted) != wanted:
                raise unsupported(f"{what} ({name} of {path or network.kind!r})")
        wanted = "resnet" if re.fullmatch(r"b\d+", path) else "skip"
        if state.get("architecture", wanted) != wanted:
            raise unsupported(f"architecture of {path or network.kind!r} is not {wanted!r}")
        activation = state.get("activation", "lrelu")
        if activation not in ("lrelu", "linear"):
            raise unsupported(f"an activation other than leaky ReLU ({path!r})")
        gain = state.get("bias_gain") if re.fullmatch(r"mapping\.fc\d+", path) else None
        if gain is not None and not (isinstance(gain, float) and math.isclose(gain, MAPPING_RATE, rel_tol=1e-5)):
            raise unsupported(f"a mapping network with another learning rate than {MAPPING_RATE} of the rest")
    for name, values in network.tensors.items():
        if name.rpartition(".")[2] == "resample_filter" and not (
            values.shape == FIR.shape and np.allclose(values, FIR, atol=1e-6)
        ):
            raise unsupported(f"a resampling filter other than [1, 3, 3, 1] ({name})")


def parameters(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Float32]:
    """The parameters by the names and in the shapes that our network has.

    Args:
        network: From the file.
        shapes: Of every entry of our network's state.

    Raises:
        AnomapError: E305 when one is missing, left over or of another shape.
    """
    given = {name: value for name, value in network.tensors.items() if name.rpartition(".")[2] != "resample_filter"}
    for name in sorted(shapes.keys() ^ given.keys()):
        raise unsupported(f"{name} is {'missing' if name in shapes else 'unknown'}")
    for name, value in given.items():
        if value.shape != tuple(shapes[name]):
            raise unsupported(f"{name} has shape {value.shape}, expected {tuple(shapes[name])}")
    return given


def clamp_limit(network: Network) -> float:
    """Where the published layers cut off their outputs; infinity when they don't (training without float16)."""
    limits = [state.get("conv_clamp") for state in network.modules.values()]
    return min((float(limit) for limit in limits if isinstance(limit, int | float)), default=math.inf)


def grey_generator(state: Mapping[str, Float32]) -> dict[str, Float32]:
    """A generator of one channel that renders the mean of the three: image outputs are linear, so this is exact."""
    return {
        name: value.mean(axis=0, keepdims=True, dtype=np.float64).astype(np.float32)
        if re.fullmatch(r"synthesis\.b\d+\.torgb\.(weight|bias)", name)
        else value
        for name, value in state.items()
    }


def grey_discriminator(state: Mapping[str, Float32]) -> dict[str, Float32]:
    """A discriminator of one channel that answers as the given one does to a grey picture in three channels.

    Weights are scaled by 1 / sqrt(channels in) at run time, hence the root.
    """
    return {
        name: (value.sum(axis=1, keepdims=True, dtype=np.float64) / math.sqrt(3)).astype(np.float32)
        if re.fullmatch(r"b\d+\.fromrgb\.weight", name)
        else value
        for name, value in state.items()
    }
