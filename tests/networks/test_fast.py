import pytest
import torch
from torch import Tensor

from anomap.networks.fast import FastSynthesis
from anomap.networks.ops import modulated_conv2d_reference
from anomap.networks.plain import grouped_modulated_conv2d, plain_synthesis
from anomap.networks.stylegan2 import NetworkConfig, Synthesis, SynthesisLayer


def frozen(resolution: int, base: int, channels: int = 1) -> Synthesis:
    """Random weights with noise and biases that count."""
    torch.manual_seed(resolution + base)
    config = NetworkConfig(
        resolution=resolution, channels=channels, w_dim=32, channel_base=base, channel_max=base // 16
    )
    synthesis = Synthesis(config).requires_grad_(False)
    for layer in synthesis.modules():
        if isinstance(layer, SynthesisLayer):
            layer.noise_strength.fill_(0.3)
            layer.bias.normal_(0, 0.2)
    return synthesis


def with_gradient(render, w: Tensor) -> tuple[Tensor, Tensor]:
    w = w.clone().requires_grad_(True)
    image = render(w)
    (image.sin() * torch.linspace(0.5, 1.5, image.shape[-1])).sum().backward()
    assert w.grad is not None
    return image.detach(), w.grad


def gap(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize(("kernel", "up"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("demodulate", [True, False])
def test_grouped_convolution_equals_one_kernel_after_the_other(kernel: int, demodulate: bool, up: bool) -> None:
    torch.manual_seed(0)
    x, weight, styles = torch.randn(3, 5, 8, 8), torch.randn(7, 5, kernel, kernel), torch.randn(3, 5)
    torch.testing.assert_close(
        grouped_modulated_conv2d(x, weight, styles, demodulate=demodulate, up=up),
        modulated_conv2d_reference(x, weight, styles, demodulate=demodulate, up=up),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("resolution", "base", "channels", "batch"),
    [(32, 256, 1, 1), (32, 512, 3, 5), (64, 1024, 1, 8), (128, 1024, 3, 2), (256, 1024, 1, 2)],
)
def test_fast_and_plain_are_one_function(resolution: int, base: int, channels: int, batch: int) -> None:
    synthesis = frozen(resolution, base, channels)
    w = torch.randn(batch, 32)
    plain, plain_gradient = with_gradient(lambda w: plain_synthesis(synthesis, w), w)
    image, gradient = with_gradient(FastSynthesis(synthesis), w)
    assert image.shape == (batch, channels, resolution, resolution)
    assert gap(image, plain) < 1e-5
    assert gap(gradient, plain_gradient) < 1e-4
    assert gap(synthesis(w), plain) < 1e-5


def test_given_noise_and_its_gradient_equal_the_synthesis() -> None:
    synthesis, w = frozen(32, 256), torch.randn(2, 32)
    results = []
    for render in (synthesis, FastSynthesis(synthesis)):
        torch.manual_seed(1)
        maps = [torch.randn(2, 1, *shape).requires_grad_(True) for shape in synthesis.noise_shapes()]
        results.append([*with_gradient(lambda w, r=render, m=maps: r(w, m), w), *(m.grad for m in maps)])
    for got, expected in zip(results[1], results[0], strict=True):
        assert gap(got, expected) < 1e-4


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    render, w = FastSynthesis(frozen(32, 512)), torch.randn(6, 32)
    together, alone = with_gradient(render, w), with_gradient(render, w[2:3])
    assert gap(together[0][2:3], alone[0]) < 1e-5
    assert gap(together[1][2:3], alone[1]) < 1e-4


def test_weights_get_no_gradient_and_are_left_as_they_are() -> None:
    synthesis = frozen(32, 256).requires_grad_(True)
    before = {name: value.clone() for name, value in synthesis.state_dict().items()}
    with_gradient(FastSynthesis(synthesis), torch.randn(1, 32))
    assert all(parameter.grad is None for parameter in synthesis.parameters())
    assert all(torch.equal(value, before[name]) for name, value in synthesis.state_dict().items())
