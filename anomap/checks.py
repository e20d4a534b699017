"""What arrays must be, said the same way everywhere. Neither torch nor pydicom."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from anomap.errors import AnomapError


def check_array(name: str, array: np.ndarray, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> None:
    """Raise E501 unless `array` has `dtype` and `shape` (None is any size)."""
    fits = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype != np.dtype(dtype) or not fits:
        msg = f"{name}: expected {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}"
        raise AnomapError("E501", msg)


def check_finite(name: str, array: np.ndarray, code: str = "E501") -> None:
    """Raise `code` when `array` holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise AnomapError(code, f"{name}: {np.count_nonzero(~np.isfinite(array))} values are not finite")
