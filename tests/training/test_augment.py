from dataclasses import replace

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


def jacobians(config: AugmentConfig, count: int = 1000) -> torch.Tensor:
    """``[count, 2, 2]``: where one step along rows and columns of the result leads in the image, at its centre."""
    coordinates = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    gradients = []
    for ramp in coordinates:  # the same draws for both: a picture of the rows, and one of the columns
        torch.manual_seed(0)
        moved = augment(ramp.expand(count, 1, 64, 64), 1.0, config)[:, 0, 30:34, 30:34]
        gradients.append(torch.stack([moved.diff(dim=1).mean(dim=(1, 2)), moved.diff(dim=2).mean(dim=(1, 2))], dim=1))
    return torch.stack(gradients, dim=1)


def test_no_image_is_ever_flipped_or_turned_by_a_right_angle() -> None:
    moves = jacobians(replace(CONFIG, brightness=0.0, log2_contrast=0.0))
    assert float(torch.linalg.det(moves).min()) > 0  # a flip would turn the sign
    angles = torch.atan2(moves[:, 1, 0], moves[:, 0, 0])
    assert float(angles.abs().max()) < 0.6  # a right angle is 1.57
    assert float(angles.std()) == pytest.approx(CONFIG.rotation_rad, rel=0.15)


def test_flips_come_only_when_asked_for() -> None:
    torch.manual_seed(0)
    image = torch.full((400, 1, 32, 32), -1.0)
    image[..., :16] = 1.0
    changed = augment(image, 1.0, replace(CONFIG, flip=True))
    flipped = (changed[..., :16].mean(dim=(1, 2, 3)) < changed[..., 16:].mean(dim=(1, 2, 3))).float().mean()
    assert 0.4 < float(flipped) < 0.6


def test_moved_pixels_stay_within_the_range_of_the_image() -> None:
    torch.manual_seed(0)
    images = torch.rand(100, 1, 32, 32) * 2 - 1
    changed = augment(images, 1.0, replace(CONFIG, brightness=0.0, log2_contrast=0.0))
    assert bool((changed.amax(dim=(1, 2, 3)) <= images.amax(dim=(1, 2, 3)) + 1e-5).all())
    assert bool((changed.amin(dim=(1, 2, 3)) >= images.amin(dim=(1, 2, 3)) - 1e-5).all())


def test_intensity_is_one_gain_and_one_offset_an_image() -> None:
    torch.manual_seed(0)
    images = torch.rand(20, 1, 32, 32) * 2 - 1
    still = AugmentConfig(blit=0.0, shift=0.0, rotation_rad=0.0, log2_scale=0.0, log2_aspect=0.0)
    for before, after in zip(images, augment(images, 1.0, still), strict=True):
        assert float(torch.corrcoef(torch.stack([before.flatten(), after.flatten()]))[0, 1]) > 0.9999


def test_blit_moves_by_whole_pixels() -> None:
    """Every row of the result that is clear of the border is a row of the image, not a mixture."""
    torch.manual_seed(0)
    images = torch.rand(50, 1, 32, 32)
    only = AugmentConfig(
        shift=0.0, rotation_rad=0.0, log2_scale=0.0, log2_aspect=0.0, brightness=0.0, log2_contrast=0.0
    )
    moved = augment(images, 1.0, only)
    inner = moved[:, :, 8:24, 8:24]
    steps = []
    for before, after in zip(images, inner, strict=True):
        found = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if torch.allclose(before[:, 8 + dy : 24 + dy, 8 + dx : 24 + dx], after, atol=1e-4)
        ]
        assert len(found) == 1
        steps += found
    assert len(set(steps)) > 10
    assert max(abs(value) for pair in steps for value in pair) <= round(0.08 * 32)
