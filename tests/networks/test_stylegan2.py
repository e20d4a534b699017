import pytest
import torch

from anomap.networks.stylegan2 import Discriminator, Generator, NetworkConfig, minibatch_stddev

TOY = NetworkConfig(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)


def published_names(resolution: int, mapping_layers: int) -> tuple[set[str], set[str]]:
    """Parameter and buffer names of the public PyTorch StyleGAN2 networks, from their papers' code layout."""
    generator = {f"mapping.fc{i}.{p}" for i in range(mapping_layers) for p in ("weight", "bias")} | {"mapping.w_avg"}
    discriminator = {f"b4.{layer}.{p}" for layer in ("conv", "fc", "out") for p in ("weight", "bias")}
    r = 4
    while r <= resolution:
        layers = ["conv1"] if r == 4 else ["conv0", "conv1"]
        for layer in layers:
            for p in ("weight", "bias", "noise_strength", "noise_const", "affine.weight", "affine.bias"):
                generator.add(f"synthesis.b{r}.{layer}.{p}")
        for p in ("weight", "bias", "affine.weight", "affine.bias"):
            generator.add(f"synthesis.b{r}.torgb.{p}")
        if r > 4:
            names = ["conv0.weight", "conv0.bias", "conv1.weight", "conv1.bias", "skip.weight"]
            names += ["fromrgb.weight", "fromrgb.bias"] if r == resolution else []
            discriminator |= {f"b{r}.{name}" for name in names}
        r *= 2
    return generator | {"synthesis.b4.const"}, discriminator


def test_state_dict_names_are_the_published_ones() -> None:
    generator, discriminator = published_names(32, TOY.mapping_layers)
    assert set(Generator(TOY).state_dict()) == generator
    assert set(Discriminator(TOY).state_dict()) == discriminator


@pytest.mark.parametrize("resolution", [32, 64, 256, 1024])
def test_every_resolution_gives_its_image(resolution: int) -> None:
    config = NetworkConfig(
        resolution=resolution, z_dim=8, w_dim=8, mapping_layers=1, channel_base=resolution * 2, channel_max=4
    )
    with torch.no_grad():
        image = Generator(config)(torch.randn(1, 8))
        logit = Discriminator(config)(image)
    assert image.shape == (1, 1, resolution, resolution)
    assert logit.shape == (1, 1)


def test_full_size_parameter_count_is_the_published_one() -> None:
    """Configuration F at 512 pixels and 3 channels: 30.0 M for G and 28.9 M for D (public network summaries)."""
    config = NetworkConfig(resolution=512, channels=3)
    with torch.device("meta"):
        generator, discriminator = Generator(config), Discriminator(config)
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(30.0e6, rel=0.015)
    assert sum(p.numel() for p in discriminator.parameters()) == pytest.approx(28.9e6, rel=0.015)


def test_resolution_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        NetworkConfig(resolution=48)


def test_one_w_for_all_layers_equals_the_repeated_w() -> None:
    generator = Generator(TOY)
    w = torch.randn(2, TOY.w_dim)
    repeated = w[:, None].repeat(1, TOY.style_layers, 1)
    torch.testing.assert_close(generator.synthesis(w), generator.synthesis(repeated))


def test_noise_changes_the_image_only_through_its_strength() -> None:
    generator, w = Generator(TOY), torch.randn(1, TOY.w_dim)
    torch.testing.assert_close(generator.synthesis(w, "const"), generator.synthesis(w, "none"))
    with torch.no_grad():
        generator.synthesis.b32.conv1.noise_strength.fill_(0.5)
    assert not torch.allclose(generator.synthesis(w, "const"), generator.synthesis(w, "none"))
    maps = [torch.zeros(1, 1, *shape) for shape in generator.synthesis.noise_shapes()]
    assert len(maps) == TOY.style_layers - 1
    torch.testing.assert_close(generator.synthesis(w, maps), generator.synthesis(w, "none"))


def test_truncation_zero_is_the_mean() -> None:
    generator = Generator(TOY)
    with torch.no_grad():
        generator.mapping.w_avg.fill_(0.25)
    torch.testing.assert_close(generator.mapping(torch.randn(3, TOY.z_dim), 0.0), torch.full((3, TOY.w_dim), 0.25))


def test_minibatch_stddev_of_equal_images_is_nearly_zero_and_grows_with_spread() -> None:
    same = minibatch_stddev(torch.ones(4, 2, 4, 4))
    assert same.shape == (4, 3, 4, 4)
    assert float(same[:, 2].max()) < 1e-3
    spread = minibatch_stddev(torch.tensor([0.0, 2.0, 0.0, 2.0])[:, None, None, None].expand(4, 2, 4, 4))
    torch.testing.assert_close(spread[:, 2], torch.ones(4, 4, 4))


def test_minibatch_stddev_takes_any_batch_size() -> None:
    for n in (1, 3, 5, 6):
        assert minibatch_stddev(torch.randn(n, 2, 4, 4)).shape == (n, 3, 4, 4)


def test_features_do_not_depend_on_neighbours() -> None:
    discriminator, images = Discriminator(TOY), torch.randn(4, 1, 32, 32)
    together = discriminator.features(images)
    alone = discriminator.features(images[2:3])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[2:3], b, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_close_to_float32() -> None:
    generator, w = Generator(TOY), torch.randn(4, TOY.w_dim)
    with torch.no_grad():
        exact, short = generator.synthesis(w), generator.synthesis(w, dtype=torch.bfloat16)
    assert float((exact - short).abs().max()) < 0.05 * float(exact.abs().max())
