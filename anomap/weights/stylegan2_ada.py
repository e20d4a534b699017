"""NVlabs StyleGAN2-ADA pickles: from the file to parameters by name and the shape of the networks.

Such a file is a pickled dict with the modules "G", "D" and "G_ema". Each module was reduced to a record: a class
name, **the source text of its class**, and the module's ``__dict__``. The original reader executes that text. Here
the record keeps the class name and the state, and the text is dropped.

Facts on the format are from reading the public repository; no line of its code is used (its licence is
non-commercial).
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from anomap.errors import AnomapError
from anomap.types import Float32
from anomap.weights.pickles import MAX_NAME, Builder, DataType, Ignored, printable, read_pickle, refuse
from anomap.weights.storages import read_storage, rebuild_tensor

MAX_BYTES = 4 << 30  # a 1024-pixel file with G, D and G_ema has under 400 MB
MAX_MODULES = 2000
MAX_DEPTH = 8
MAX_PARTS = 200  # parameters, buffers or children of one module
MAX_TENSOR_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Module:
    """A module as the file describes it: class name and attributes."""

    kind: str
    state: Mapping[str, Any]

    def part(self, name: str) -> Mapping[str, Any]:
        """``_parameters``, ``_buffers`` or ``_modules``."""
        values = self.state.get(name, {})
        if not isinstance(values, dict) or len(values) > MAX_PARTS:
            refuse(f"a module {self.kind!r} with unusual {name}")
        if not all(isinstance(key, str) and len(key) <= MAX_NAME for key in values):
            refuse(f"a module {self.kind!r} with unusual names in {name}")
        return values


@dataclass(frozen=True, slots=True)
class Network:
    """A module tree flattened.

    Attributes:
        kind: Class name of the root.
        tensors: Parameters and buffers by their path, e.g. ``synthesis.b8.conv0.weight``.
        modules: Attributes of all modules by their path ("" is the root).
    """

    kind: str
    tensors: Mapping[str, Float32]
    modules: Mapping[str, Mapping[str, Any]]


def read_networks(path: Path) -> dict[str, Network]:
    """The networks "G_ema" and, when it is there, "D" of a file.

    Raises:
        AnomapError: E100 when the file is missing or empty; E304 when something in it is not permitted or damaged;
            E305 when it holds no generator.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
        if not size:
            raise AnomapError("E100", "the weight file is missing or empty", "Check the path.")
        if size > MAX_BYTES:
            refuse(f"it is larger than {MAX_BYTES >> 30} GiB")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            top = read_pickle(cast(IO[bytes], content), NAMES)
    except OSError as error:
        raise AnomapError("E100", f"the weight file can't be read: {error.strerror}", "Check the path.") from error
    if not isinstance(top, dict) or not isinstance(top.get("G_ema"), Module):
        raise AnomapError("E305", "the file holds no generator G_ema of the PyTorch StyleGAN2-ADA format")
    return {name: flatten(top[name]) for name in ("G_ema", "D") if isinstance(top.get(name), Module)}


def flatten(root: Module) -> Network:
    """All parameters and buffers of a module tree by path.

    Raises:
        AnomapError: E304 when the tree is too deep or too large, or holds what is no finite tensor.
    """
    tensors: dict[str, Float32] = {}
    modules: dict[str, Mapping[str, Any]] = {}
    waiting, total = [("", root, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        if len(modules) >= MAX_MODULES or depth > MAX_DEPTH:
            refuse("modules nested too deep, or too many")
        modules[prefix.removesuffix(".")] = module.state
        for name, value in {**module.part("_parameters"), **module.part("_buffers")}.items():
            if value is not None:  # a bias that is switched off
                tensors[prefix + name] = _tensor(prefix + name, value, MAX_TENSOR_BYTES - total)
                total += tensors[prefix + name].nbytes
        for name, child in module.part("_modules").items():
            if not isinstance(child, Module):
                refuse(f"{printable(prefix + name)!r} is no module")
            waiting.append((f"{prefix}{name}.", child, depth + 1))
    return Network(root.kind, tensors, modules)


def _tensor(name: str, value: Any, room: int) -> Float32:
    """A copy in float32 with all strides in order, within `room` bytes."""
    if not isinstance(value, np.ndarray):
        refuse(f"{printable(name)!r} is no tensor")
    if value.size * 4 > room:
        refuse(f"its tensors have more than {MAX_TENSOR_BYTES >> 30} GiB")
    tensor = np.array(value, np.float32, order="C")
    if not np.isfinite(tensor).all():
        refuse(f"{printable(name)!r} has values that are not finite")
    return tensor


def _module(meta: Any) -> Module:
    """The record that ``torch_utils.persistence`` writes; its ``module_src`` is looked at by nobody."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        refuse("a module record of unknown form")
    name = meta.get("class_name")
    if not isinstance(name, str):
        refuse("a module record without a class name")
    return Module(printable(name), meta["state"])


def _number(kind: Any, content: bytes) -> float | int | bool:
    """A numpy scalar."""
    if not isinstance(kind, DataType) or kind.code not in ("f2", "f4", "f8", "i4", "i8", "b1"):
        refuse("a numpy number of unusual type")
    number: float | int | bool = np.frombuffer(content, f"<{kind.code}", 1)[0].item()
    return number


def _dict() -> dict[str, Any]:
    """Empty: the items follow as instructions. Copying a given list again and again could fill the memory."""
    return {}


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _data_type(code: Any, *_: Any) -> DataType:
    if not isinstance(code, str):
        refuse("a numpy data type without code")
    return DataType(code)


def _ignored(*_: Any) -> Ignored:
    return Ignored()


# The whole list of what a file may name, and what each name does here. Modules are those of the authors' training
# (PyTorch 1.7, numpy 1) and of later versions that write the same objects.
NAMES: Mapping[str, Builder] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _module,
    "torch._utils._rebuild_tensor_v2": rebuild_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": read_storage,
    "collections.OrderedDict": _dict,
    "dnnlib.util.EasyDict": _dict,
    "builtins.set": _ignored,
    "__builtin__.set": _ignored,
    "numpy.dtype": _data_type,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.ndarray": _ignored,
    "numpy.core.multiarray._reconstruct": _ignored,
    "numpy._core.multiarray._reconstruct": _ignored,
    "torch.device": _ignored,
    "torch.Size": _ignored,
}
