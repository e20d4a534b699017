"""Shape of the networks from their parameters, and what is refused by name."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomap.errors import AnomapError
from anomap.networks.stylegan2 import NetworkConfig
from anomap.weights.architecture import clamp_limit, network_shape, parameters
from anomap.weights.pickles import read_pickle
from anomap.weights.stylegan2_ada import NAMES, Network, flatten
from tests.weights.published import Shape, dump, snapshot


def generator(shape: Shape = Shape(), change=None) -> Network:  # noqa: B008
    made = snapshot(shape)["G_ema"]
    if change is not None:
        change(made)
    return flatten(read_pickle(io.BytesIO(dump(made)), NAMES))


def part(made, path: str):
    for name in filter(None, path.split(".")):
        made = made.state["_modules"][name]
    return made


@settings(max_examples=200)
@given(st.integers(5, 10), st.integers(64, 40_000), st.integers(1, 512))
def test_widths_are_found_again(log2_side, base, widest):
    """Of any base, also one that no width shows exactly."""
    sides = [2**i for i in range(2, log2_side + 1)]
    width = {side: max(min(base // side, widest), 1) for side in sides}
    if min(base // side for side in sides) < 1:
        return
    tensors = {f"synthesis.b{s}.conv1.weight": np.zeros((w, 0, 3, 3), np.float32) for s, w in width.items()}
    tensors[f"synthesis.b{sides[-1]}.torgb.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    tensors["mapping.fc0.weight"] = np.zeros((7, 5), np.float32)
    config = NetworkConfig(**network_shape(Network("Generator", tensors, {})))
    assert [config.width(side) for side in sides] == list(width.values())
    assert (config.z_dim, config.w_dim, config.mapping_layers) == (5, 7, 1)


CHANGES = {
    "conditional labels": ("", {"c_dim": 10}),
    "layers without noise": ("synthesis.b8.conv0", {"use_noise": False}),
    "'synthesis.b8' is not 'skip'": ("synthesis.b8", {"architecture": "orig"}),
    "activation other than": ("synthesis.b8.conv0", {"activation": "swish"}),
    "mapping network with another learning rate": ("mapping.fc0", {"bias_gain": 1.0}),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_settings_that_anomap_lacks_are_refused(reason):
    path, change = CHANGES[reason]
    with pytest.raises(AnomapError, match=f"E305 .*{reason}"):
        network_shape(generator(change=lambda made: part(made, path).state.update(change)))


def test_another_resampling_filter_is_refused():
    other = np.full((4, 4), 1 / 16, np.float32)
    with pytest.raises(AnomapError, match=r"E305 .*filter other than \[1, 3, 3, 1\] \(synthesis.b8.resample_filter"):
        network_shape(generator(change=lambda made: part(made, "synthesis.b8").buffer(resample_filter=other)))


@pytest.mark.parametrize("shape", [Shape(resolution=16), Shape(channels=4)])
def test_other_sizes_and_channels_are_refused(shape):
    with pytest.raises(AnomapError, match="E305"):
        network_shape(generator(shape))


def test_a_network_of_another_kind_is_refused():
    with pytest.raises(AnomapError, match=r"E305 .*resolutions \[\]"):
        network_shape(Network("Generator", {"synthesis.L0_36_512.weight": np.zeros((1, 1), np.float32)}, {}))


def test_a_missing_an_unknown_and_a_wrong_parameter_are_named():
    network = generator()
    shapes = {name: v.shape for name, v in network.tensors.items() if not name.endswith("resample_filter")}
    assert parameters(network, shapes).keys() == shapes.keys()
    with pytest.raises(AnomapError, match=r"E305 .*extra is missing"):
        parameters(network, {**shapes, "extra": (1,)})
    with pytest.raises(AnomapError, match=r"E305 .*mapping.w_avg is unknown"):
        parameters(network, {k: v for k, v in shapes.items() if k != "mapping.w_avg"})
    with pytest.raises(AnomapError, match=r"E305 .*mapping.w_avg has shape \(16,\), expected \(3,\)"):
        parameters(network, {**shapes, "mapping.w_avg": (3,)})


def test_the_lowest_clamp_counts_and_none_is_no_limit():
    assert clamp_limit(generator()) == np.inf
    assert clamp_limit(generator(replace(Shape(), clamp=256))) == 256
