"""Starting from a model: a doubled one draws the same and judges nearly the same; what doesn't fit is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomap.bundle import BundleInfo, load_bundle, write_bundle
from anomap.errors import AnomapError
from anomap.networks.encoder import Encoder
from anomap.networks.ops import fir_filter, upsample
from anomap.networks.stylegan2 import Discriminator, Generator
from anomap.training.checkpoint import new_state
from anomap.training.config import TrainConfig
from anomap.training.grow import double_discriminator, double_encoder, double_generator, start_from
from anomap.training.steps import update_average
from anomap.training.train import train
from anomap.types import PreprocessSpec
from tests.toy import TOY, write_toy_bundle
from tests.training.test_train import CONFIG, assert_same, quiet

SPEC = PreprocessSpec(kind="radiograph", size=32)
LARGE = replace(TOY, resolution=64)


@pytest.fixture
def toy(tmp_path: Path) -> BundleInfo:
    return write_toy_bundle(tmp_path / "toy", SPEC, ("DX",), "CHEST")


def test_a_doubled_generator_draws_the_same_picture_enlarged() -> None:
    torch.manual_seed(0)
    small = Generator(TOY)
    large = double_generator(small)
    z = torch.randn(4, TOY.z_dim)
    with torch.no_grad():
        assert torch.equal(large(z, noise="const"), upsample(small(z, noise="const")))
    assert large.config == LARGE


def test_a_doubled_discriminator_judges_smooth_pictures_as_before() -> None:
    torch.manual_seed(0)
    small = Discriminator(TOY)
    with torch.no_grad():
        torch.nn.init.normal_(small.b32.fromrgb.bias, std=0.4)  # as training leaves it: kinks at different greys
        large = double_discriminator(small)
        pictures = upsample(upsample(upsample(torch.randn(64, 1, 8, 8)))).clamp(-1, 1)
        before, after = small(fir_filter(pictures, padding=1, stride=2)), large(pictures)
        other = Discriminator(LARGE)(pictures)
    assert np.corrcoef(before[:, 0], after[:, 0])[0, 1] > 0.95
    assert (before - after).std() < 0.3 * before.std()
    assert abs(np.corrcoef(before[:, 0], other[:, 0])[0, 1]) < 0.8  # any other network would not do


def test_a_doubled_encoder_finds_nearly_the_same_w() -> None:
    torch.manual_seed(0)
    small = Encoder(TOY)
    with torch.no_grad():
        torch.nn.init.normal_(small.out.weight)
        torch.nn.init.normal_(small.b32.fromrgb.bias, std=0.4)
        pictures = upsample(upsample(upsample(torch.randn(64, 1, 8, 8)))).clamp(-1, 1)
        before = small(fir_filter(pictures, padding=1, stride=2))
        after = double_encoder(small)(pictures)
    assert (before - after).square().mean() < 0.1 * before.var()


def test_what_was_added_learns(toy: BundleInfo, tmp_path: Path) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (16, 1, 64, 64)).astype(np.float32)
    start = start_from(toy.folder, LARGE, replace(SPEC, size=64))
    config = TrainConfig(network=LARGE, kimg=0.064, batch=8, snapshot_kimg=0.064, frechet_kimg=0)
    state = train(images, config, tmp_path / "run", quiet, start=start)
    for name, grown, begun in (
        ("torgb", state.generator.synthesis.b64.torgb.weight, start.generator.synthesis.b64.torgb.weight),
        ("conv0", state.generator.synthesis.b64.conv0.weight, start.generator.synthesis.b64.conv0.weight),
        ("conv1", state.discriminator.b64.conv1.weight, start.discriminator.b64.conv1.weight),
        ("conv0", state.discriminator.b64.conv0.weight, start.discriminator.b64.conv0.weight),
    ):
        assert not torch.equal(grown, begun), name


def test_the_same_side_begins_with_the_bundles_own_networks(toy: BundleInfo) -> None:
    start, bundle = start_from(toy.folder, TOY, SPEC), load_bundle(toy.folder)
    state = new_state(TrainConfig(network=TOY))
    replace(start, augment_p=0.3, kimg=100.0).enter(state)
    for ours, theirs in ((state.generator, bundle.generator), (state.average, bundle.generator)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert torch.equal(state.discriminator.b4.out.weight, bundle.discriminator.b4.out.weight)
    assert all(p.requires_grad for p in state.generator.parameters())
    assert state.augment_p == 0.3
    config, before = TrainConfig(network=TOY, ema_kimg=5.0, batch=50), state.average.mapping.fc0.bias.clone()
    with torch.no_grad():
        state.generator.mapping.fc0.bias.add_(1.0)
    update_average(state, config)
    moved = float((state.average.mapping.fc0.bias - before).mean())
    assert moved == pytest.approx(1 - 0.5 ** (50 / 5000))  # no short average: there is no noise to forget


def test_a_run_that_was_started_so_resumes_and_keeps_to_its_start(
    toy: BundleInfo, images: np.ndarray, tmp_path: Path
) -> None:
    start = start_from(toy.folder, TOY, SPEC)
    whole = train(images, CONFIG, tmp_path / "whole", quiet, start=start)
    train(images, replace(CONFIG, kimg=0.056), tmp_path / "parts", quiet, start=start)
    assert_same(whole, train(images, CONFIG, tmp_path / "parts", quiet, start=start))
    for other in (None, replace(start, sha256="0" * 64)):
        with pytest.raises(AnomapError, match=r"E311.*--init"):
            train(images, CONFIG, tmp_path / "parts", quiet, start=other)


@pytest.mark.parametrize(
    ("wanted", "spec"),
    [
        (replace(TOY, z_dim=32), SPEC),
        (replace(LARGE, channel_base=512), replace(SPEC, size=64)),
        (TOY, replace(SPEC, fit="squeeze")),
        (TOY, replace(SPEC, kind="ct")),
    ],
)
def test_what_does_not_fit_is_refused(toy: BundleInfo, wanted, spec) -> None:
    with pytest.raises(AnomapError, match="E200"):
        start_from(toy.folder, wanted, spec)


def test_a_larger_model_does_not_shrink(tmp_path: Path, toy: BundleInfo) -> None:
    bundle = load_bundle(toy.folder)
    write_bundle(
        tmp_path / "large",
        metadata={"name": "large", "version": "0.0.1"},
        section={"modalities": ["DX"], "body_part": "", "population": "", "window": 4, "levels": 256, "training": {}},
        spec=replace(SPEC, size=64),
        generator=double_generator(bundle.generator),
        encoder=None,
        discriminator=double_discriminator(bundle.discriminator),
        w_statistics=bundle.w_statistics,
    )
    assert start_from(tmp_path / "large", LARGE, replace(SPEC, size=64)).kimg == 0
    with pytest.raises(AnomapError, match="E200"):
        start_from(tmp_path / "large", TOY, SPEC)


def test_colour_is_refused() -> None:
    with pytest.raises(AnomapError, match="E200"):
        double_discriminator(Discriminator(replace(TOY, channels=3)))
