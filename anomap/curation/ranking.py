"""Which images come first, and which of them are outliers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from anomap.curation.results import numbers, words
from anomap.types import Bool, Int64

_THEN = ("combined", "wd_patch", "cheap")  # after the p-value; all of them: higher is odder


def ranking(images: pa.Table) -> Int64:
    """Row numbers, oddest first.

    Images are ordered by p-value, equal ones by the combined score. Those without a cohort come after those with
    one, those that were only triaged after those, by their cheap score; files that could not be read come last.

    Args:
        images: N rows.

    Returns:
        ``(N,)``
    """
    unread = np.array([bool(code) for code in words(images, "error")], bool)
    falling = [np.nan_to_num(-numbers(images, name), nan=np.inf) for name in reversed(_THEN)]
    p_values = np.nan_to_num(numbers(images, "p_value"), nan=np.inf)
    return np.lexsort((np.arange(images.num_rows), *falling, p_values, unread)).astype(np.int64)


def outliers(images: pa.Table, alpha: float) -> Bool:
    """Images whose p-value is at most `alpha`. ``(N,)``; without a cohort there are none."""
    return numbers(images, "p_value") <= np.float32(alpha)
