import torch

from anomap.networks.encoder import Encoder
from anomap.networks.stylegan2 import NetworkConfig

TOY = NetworkConfig(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)


def test_an_untrained_encoder_answers_with_the_mean() -> None:
    encoder = Encoder(TOY)
    encoder.w_avg.fill_(0.5)
    torch.testing.assert_close(encoder(torch.randn(3, 1, 32, 32)), torch.full((3, TOY.w_dim), 0.5))


def test_an_image_is_encoded_alike_in_any_batch() -> None:
    torch.manual_seed(0)
    encoder, images = Encoder(TOY), torch.randn(5, 1, 32, 32)
    with torch.no_grad():
        encoder.out.weight.normal_()
    torch.testing.assert_close(encoder(images)[3:4], encoder(images[3:4]), rtol=1e-5, atol=1e-5)
