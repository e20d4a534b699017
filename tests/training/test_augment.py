import pytest
import torch

from anomap.training.augment import AugmentConfig, adapt, augment

CONFIG = AugmentConfig()


def test_probability_zero_is_the_identity() -> None:
    images = torch.rand(4, 1, 32, 32)
    assert augment(images, 0.0, CONFIG) is images


def test_every_image_changes_on_its_own_at_probability_one() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 1, 32, 32).repeat(6, 1, 1, 1)
    changed = augment(images, 1.0, CONFIG)
    assert changed.shape == images.shape
    gaps = torch.cdist(changed.flatten(1), changed.flatten(1)) + torch.eye(6)
    assert float(gaps.min()) > 0.1


def test_left_and_right_are_never_exchanged() -> None:
    torch.manual_seed(0)
    images = torch.full((200, 1, 32, 32), -1.0)
    images[:, :, :, :16] = 1.0
    changed = augment(images, 1.0, CONFIG)
    assert (changed[..., :16].mean(dim=(1, 2, 3)) > changed[..., 16:].mean(dim=(1, 2, 3))).all()


def test_gradients_flow_to_the_images() -> None:
    images = torch.rand(2, 1, 32, 32, requires_grad=True)
    augment(images, 1.0, CONFIG).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("sign", "before", "after"), [(0.9, 0.1, 0.2), (0.1, 0.1, 0.0), (0.9, 0.8, 0.8), (0.1, 0.0, 0.0)]
)
def test_probability_follows_the_discriminator(sign: float, before: float, after: float) -> None:
    assert adapt(before, sign, 10_000, CONFIG) == pytest.approx(after)
