from dataclasses import replace

import numpy as np
import pytest
import torch

from anomap import projection
from anomap.bundle import Bundle
from anomap.errors import AnomapError
from anomap.projection import measure_w, project
from anomap.projection.schedule import FAST, PAPER, ProjectionConfig
from anomap.types import Prepared, PreprocessSpec

SPEC = PreprocessSpec(kind="radiograph", size=32, fit="squeeze")
SHORT_PAPER = replace(PAPER, steps=12)


def prepared(images: np.ndarray, names: list[str]) -> Prepared:
    n = len(images)
    everywhere = np.ones(images.shape, bool)
    return Prepared(
        images=images.astype(np.float32),
        valid=everywhere,
        body=everywhere,
        frame=np.arange(n, dtype=np.int64),
        frame_ids=tuple(names),
        to_source=np.tile(np.eye(3), (n, 1, 1)),
        gain=np.ones(n),
        offset=np.zeros(n),
        spec=SPEC,
    )


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (5, 1, 32, 32))


@pytest.mark.parametrize("config", [FAST, SHORT_PAPER, replace(FAST, start="mean", loss="discriminator")])
def test_a_batch_equals_one_by_one_in_any_order(
    toy_bundle: Bundle, images: np.ndarray, config: ProjectionConfig
) -> None:
    names = [f"1.2.{i}" for i in range(5)]
    together = project(prepared(images, names), toy_bundle, config)
    order = [3, 0, 4, 1, 2]
    shuffled = project(prepared(images[order], [names[i] for i in order]), toy_bundle, replace(config, batch_size=2))
    alone = project(prepared(images[2:3], names[2:3]), toy_bundle, config)
    np.testing.assert_allclose(shuffled.images, together.images[order], atol=1e-4)
    np.testing.assert_allclose(alone.images[0], together.images[2], atol=1e-4)
    np.testing.assert_array_equal(shuffled.seeds, together.seeds[order])


@pytest.mark.parametrize("config", [FAST, SHORT_PAPER])
def test_the_prepared_and_the_ordinary_synthesis_fit_alike(
    toy_bundle: Bundle, images: np.ndarray, config: ProjectionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = prepared(images, list("abcde"))
    fast = project(inputs, toy_bundle, config)
    monkeypatch.setattr(projection, "FastSynthesis", lambda synthesis: lambda w, noise: synthesis(w, noise or "const"))
    ordinary = project(inputs, toy_bundle, config)
    np.testing.assert_allclose(fast.images, ordinary.images, atol=1e-4)
    np.testing.assert_allclose(fast.w, ordinary.w, atol=1e-4)
    np.testing.assert_allclose(fast.loss, ordinary.loss, rtol=1e-4)


def test_the_scored_image_is_a_function_of_w_alone(toy_bundle: Bundle, images: np.ndarray) -> None:
    before = {k: v.clone() for k, v in toy_bundle.generator.state_dict().items()}
    for layer in ("b8", "b16", "b32"):
        getattr(toy_bundle.generator.synthesis, layer).conv1.noise_strength.fill_(0.3)
    try:
        result = project(prepared(images[:2], ["a", "b"]), toy_bundle, SHORT_PAPER)
        with torch.no_grad():
            again = toy_bundle.generator.synthesis(torch.from_numpy(result.w), "const").clamp(-1, 1)
        np.testing.assert_allclose(result.images, again.numpy(), atol=1e-5)  # another path of the same function
    finally:
        toy_bundle.generator.load_state_dict(before)


def test_fitting_brings_the_image_closer(toy_bundle: Bundle) -> None:
    w = torch.randn(3, 16) * 0.5
    with torch.no_grad():
        targets = toy_bundle.generator.synthesis(w).clamp(-1, 1).numpy()
    start = project(prepared(targets, list("abc")), toy_bundle, replace(FAST, steps=0))
    fitted = project(prepared(targets, list("abc")), toy_bundle, replace(FAST, steps=60, learning_rate=0.1))
    assert (fitted.loss < 0.3 * start.loss).all()


def test_the_first_paper_step_moves_nothing(toy_bundle: Bundle, images: np.ndarray) -> None:
    config = replace(PAPER, steps=1)
    result = project(prepared(images[:1], ["a"]), toy_bundle, config)
    np.testing.assert_allclose(result.w[0], toy_bundle.w_statistics.mean.numpy(), atol=1e-7)


def test_library_start_finds_its_own_sample(toy_bundle: Bundle) -> None:
    generator = toy_bundle.generator
    z = np.random.RandomState(123).randn(4096, 16)[1234:1235]
    with torch.no_grad():
        w = generator.mapping(torch.from_numpy(z).float())
        target = generator.synthesis(w, "const").clamp(-1, 1).numpy()
    result = project(prepared(target, ["a"]), toy_bundle, replace(FAST, start="library", steps=0))
    np.testing.assert_allclose(result.w, w.numpy(), atol=1e-5)


def test_the_prior_keeps_w_near_the_training_cloud(toy_bundle: Bundle, images: np.ndarray) -> None:
    free = project(prepared(images, list("abcde")), toy_bundle, replace(FAST, prior_weight=0.0, learning_rate=0.2))
    held = project(prepared(images, list("abcde")), toy_bundle, replace(FAST, prior_weight=1.0, learning_rate=0.2))
    assert (held.prior_distance < free.prior_distance).all()


def test_distance_of_samples_is_one_on_average(toy_bundle: Bundle) -> None:
    cloud = measure_w(toy_bundle.generator, samples=4000)
    with torch.no_grad():
        w = toy_bundle.generator.mapping(torch.randn(4000, 16))
    assert float(cloud.distance(w).square().mean()) == pytest.approx(1.0, rel=0.1)
    spread = float((w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt())
    assert cloud.spread == pytest.approx(spread, rel=0.1)


def test_padding_does_not_change_the_fit(toy_bundle: Bundle, images: np.ndarray) -> None:
    whole = prepared(images[:1], ["a"])
    valid = whole.valid.copy()
    valid[..., 20:] = False
    other = images[:1].copy()
    other[..., 20:] = 1.0
    fits = [
        project(replace(prepared(pixels, ["a"]), valid=valid, body=valid), toy_bundle, replace(FAST, start="mean"))
        for pixels in (images[:1], other)
    ]
    np.testing.assert_allclose(fits[0].w, fits[1].w, atol=1e-5)


def test_progress_counts_to_its_end(toy_bundle: Bundle, images: np.ndarray) -> None:
    seen: list[tuple[int, int]] = []
    project(
        prepared(images, list("abcde")),
        toy_bundle,
        replace(FAST, steps=3, batch_size=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 15) for i in (2, 4, 6, 8, 10, 12, 13, 14, 15)]


def test_without_an_encoder_the_start_is_the_mean_of_w(toy_bundle: Bundle, images: np.ndarray) -> None:
    given = prepared(images[:2], ["a", "b"])
    without = project(given, replace(toy_bundle, encoder=None), replace(FAST, steps=0))
    np.testing.assert_allclose(without.w, np.tile(toy_bundle.w_statistics.mean.numpy(), (2, 1)))


def test_a_bundle_without_discriminator_says_so(toy_bundle: Bundle, images: np.ndarray) -> None:
    with pytest.raises(AnomapError, match="E302 this bundle has no discriminator"):
        project(prepared(images[:1], ["a"]), replace(toy_bundle, discriminator=None), SHORT_PAPER)


@pytest.mark.gpu
def test_cpu_equals_gpu_within_tolerance(toy_models, images: np.ndarray) -> None:
    from anomap.bundle import load_bundle

    folder = toy_models / "toy-radiograph"
    on_cpu, on_gpu = (
        project(prepared(images, list("abcde")), load_bundle(folder, device), FAST, device)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_cpu.images, on_gpu.images, atol=0.02)
