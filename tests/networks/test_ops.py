import numpy as np
import pytest
import scipy.signal
import torch

from anomap.networks.ops import (
    Conv2d,
    Linear,
    fir_filter,
    modulated_conv2d,
    modulated_conv2d_reference,
    upsample,
)

TAPS = np.array([1, 3, 3, 1]) / 8


@pytest.mark.parametrize(("kernel", "up"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_scaled_activations_equal_one_kernel_per_image(kernel: int, demodulate: bool, up: bool) -> None:
    torch.manual_seed(0)
    x, weight, styles = torch.randn(3, 5, 8, 8), torch.randn(7, 5, kernel, kernel), torch.randn(3, 5)
    fast = modulated_conv2d(x, weight, styles, demodulate=demodulate, up=up)
    plain = modulated_conv2d_reference(x, weight, styles, demodulate=demodulate, up=up)
    assert fast.shape == (3, 7, 16, 16) if up else (3, 7, 8, 8)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_demodulated_output_has_unit_variance() -> None:
    torch.manual_seed(0)
    x, styles = torch.randn(4, 32, 32, 32), torch.rand(4, 32) * 5 + 0.1
    y = modulated_conv2d(x, torch.randn(16, 32, 3, 3), styles)[:, :, 1:-1, 1:-1]
    assert 0.9 < float(y.var()) < 1.1


def test_upsample_equals_scipy_upfirdn() -> None:
    x = np.random.default_rng(0).standard_normal((6, 7))
    rows = scipy.signal.upfirdn(TAPS * 2, x, up=2, axis=0)[1:13]
    expected = scipy.signal.upfirdn(TAPS * 2, rows, up=2, axis=1)[:, 1:15]
    got = upsample(torch.from_numpy(x)[None, None]).numpy()[0, 0]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_fir_filter_equals_scipy_correlation_and_strides() -> None:
    x = np.random.default_rng(0).standard_normal((8, 8))
    expected = scipy.signal.correlate2d(np.pad(x, 2), np.outer(TAPS, TAPS), mode="valid")
    tensor = torch.from_numpy(x)[None, None]
    np.testing.assert_allclose(fir_filter(tensor, 2).numpy()[0, 0], expected, atol=1e-12)
    np.testing.assert_allclose(fir_filter(tensor, 2, stride=2).numpy()[0, 0], expected[::2, ::2], atol=1e-12)


def test_a_doubling_convolution_keeps_a_constant_away_from_the_border() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1.0
    y = modulated_conv2d(torch.ones(1, 1, 8, 8), weight, torch.ones(1, 1), up=True)
    assert y.shape[-1] == 16
    torch.testing.assert_close(y[0, 0, 2:-2, 2:-2], torch.ones(12, 12), rtol=0, atol=1e-5)


def test_halving_convolution_halves() -> None:
    assert Conv2d(3, 4, 3, down=True)(torch.zeros(2, 3, 16, 16)).shape == (2, 4, 8, 8)
    assert Conv2d(3, 4, 1, down=True)(torch.zeros(2, 3, 16, 16)).shape == (2, 4, 8, 8)


def test_equalised_learning_rate_leaves_the_function_alone() -> None:
    torch.manual_seed(0)
    slow = Linear(64, 64, lr_multiplier=0.01, bias=1.0)
    y = slow(torch.randn(256, 64)).detach()
    assert 0.8 < float(y.std()) < 1.2
    assert 0.8 < float(y.mean()) < 1.2
