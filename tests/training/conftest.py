import numpy as np
import pytest


@pytest.fixture
def images() -> np.ndarray:
    """20 pictures of 32 pixels: a ramp from top to bottom, each with a brightness of its own."""
    rows = np.linspace(-1, 1, 32, dtype=np.float32)[:, None]
    shifts = np.random.default_rng(0).uniform(-0.3, 0.3, (20, 1, 1, 1)).astype(np.float32)
    return np.clip(np.broadcast_to(rows, (20, 1, 32, 32)) + shifts, -1, 1).astype(np.float32)
