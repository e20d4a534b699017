"""Files as StyleGAN2-ADA's training writes them, and a plain rendering of what they hold.

The writer builds module trees with the published attribute names and pickles them under the true global names, by
standing in for the two foreign modules while it pickles. Tensors are pickled by PyTorch itself.

The renderer is the oracle of the import: numpy and scipy in float64, one picture and one pair of channels at a time,
convolutions spelt out as zero-stuffing and full convolution. It shares nothing with `anomap.networks`.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.signal import convolve2d, correlate2d

FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


class EasyDict(dict):
    __module__, __qualname__ = "dnnlib.util", "EasyDict"


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the reader must not call this")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class Persistent:
    """A module with the published reduction."""

    def __init__(self, kind, **attributes):
        self.kind = kind
        self.state = {
            "training": False,
            "_parameters": OrderedDict(),
            "_buffers": OrderedDict(),
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_is_full_backward_hook": None,
            "_modules": OrderedDict(),
            **attributes,
            "_init_args": (),
            "_init_kwargs": EasyDict(block_kwargs=EasyDict(), epilogue_kwargs=EasyDict(mbstd_group_size=4)),
        }

    def __reduce__(self):
        source = "raise SystemExit('the source text was executed')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.kind, "state": self.state}
        return _reconstruct_persistent_obj, (meta,)

    def add(self, **values):
        for name, value in values.items():
            if isinstance(value, Persistent):
                self.state["_modules"][name] = value
            else:
                self.state["_parameters"][name] = torch.nn.Parameter(torch.as_tensor(value), requires_grad=False)
        return self

    def buffer(self, **values):
        self.state["_buffers"].update({name: torch.as_tensor(value) for name, value in values.items()})
        return self

    def flat(self, prefix=""):
        """Tensors by path as float64 arrays."""
        own = {**self.state["_parameters"], **self.state["_buffers"]}
        found = {prefix + k: v.detach().numpy().astype(float) for k, v in own.items() if v is not None}
        for name, child in self.state["_modules"].items():
            found |= child.flat(f"{prefix}{name}.")
        return found


@dataclass(frozen=True, kw_only=True)
class Shape:
    resolution: int = 32
    channels: int = 1
    z_dim: int = 16
    w_dim: int = 16
    layers: int = 2
    base: int = 128
    widest: int = 8
    clamp: float | None = None
    seed: int = 0
    colour: float = 0.0
    sides: list[int] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "sides", [2**i for i in range(2, self.resolution.bit_length())])

    def width(self, side):
        return min(self.base // side, self.widest)


class _Maker:
    def __init__(self, shape):
        self.shape, self.rng = shape, np.random.default_rng(shape.seed)

    def draw(self, *size, scale=1.0):
        return (self.rng.standard_normal(size) * scale).astype(np.float32)

    def dense(self, given, out, activation="linear", bias=0.0, rate=1.0):
        layer = Persistent(
            "FullyConnectedLayer",
            activation=activation,
            weight_gain=rate / np.sqrt(given),  # a numpy number, as in the original
            bias_gain=rate,
        )
        return layer.add(weight=self.draw(out, given) / np.float32(rate), bias=self.draw(out, scale=0.1 / rate) + bias)

    def generator(self):
        s = self.shape
        mapping = Persistent("MappingNetwork", z_dim=s.z_dim, c_dim=0, w_dim=s.w_dim, num_layers=s.layers)
        for i in range(s.layers):
            given = s.z_dim if i == 0 else s.w_dim
            mapping.add(**{f"fc{i}": self.dense(given, s.w_dim, "lrelu", rate=0.01)})
        mapping.buffer(w_avg=self.draw(s.w_dim))
        synthesis = Persistent(
            "SynthesisNetwork", w_dim=s.w_dim, img_resolution=s.resolution, block_resolutions=s.sides
        )
        for side in s.sides:
            synthesis.add(**{f"b{side}": self.synthesis_block(side)})
        root = Persistent("Generator", z_dim=s.z_dim, c_dim=0, w_dim=s.w_dim, img_channels=s.channels)
        return root.add(synthesis=synthesis, mapping=mapping)

    def synthesis_block(self, side):
        s, width = self.shape, self.shape.width(side)
        block = Persistent("SynthesisBlock", resolution=side, architecture="skip", use_fp16=False, conv_clamp=s.clamp)
        block.buffer(resample_filter=FIR.astype(np.float32))
        if side == 4:
            block.add(const=self.draw(width, 4, 4))
        else:
            block.add(conv0=self.synthesis_layer(s.width(side // 2), width, side, up=2))
        block.add(conv1=self.synthesis_layer(width, width, side, up=1))
        rgb = Persistent("ToRGBLayer", conv_clamp=s.clamp, weight_gain=1 / np.sqrt(width))
        grey, greyer = self.draw(1, width, 1, 1, scale=0.3), self.draw(1, scale=0.1)
        tint = self.draw(s.channels, width, 1, 1, scale=s.colour)
        rgb.add(affine=self.dense(s.w_dim, width, bias=1.0), weight=grey + tint, bias=np.repeat(greyer, s.channels))
        return block.add(torgb=rgb)

    def synthesis_layer(self, given, out, side, up):
        s = self.shape
        layer = Persistent(
            "SynthesisLayer", resolution=side, up=up, use_noise=True, activation="lrelu", conv_clamp=s.clamp
        )
        layer.buffer(resample_filter=FIR.astype(np.float32), noise_const=self.draw(side, side))
        layer.add(affine=self.dense(s.w_dim, given, bias=1.0), weight=self.draw(out, given, 3, 3))
        return layer.add(noise_strength=np.float32(0.1 * self.rng.standard_normal()), bias=self.draw(out, scale=0.1))

    def conv(self, given, out, kernel, bias=True, **attributes):
        layer = Persistent("Conv2dLayer", weight_gain=1 / np.sqrt(given * kernel**2), conv_clamp=None, **attributes)
        layer.buffer(resample_filter=FIR.astype(np.float32)).add(weight=self.draw(out, given, kernel, kernel))
        if bias:
            return layer.add(bias=self.draw(out, scale=0.1))
        layer.state["bias"] = None
        return layer

    def discriminator(self):
        s = self.shape
        root = Persistent("Discriminator", c_dim=0, img_resolution=s.resolution, img_channels=s.channels)
        for side in reversed(s.sides[1:]):
            width, below = s.width(side), s.width(side // 2)
            block = Persistent("DiscriminatorBlock", resolution=side, architecture="resnet")
            block.buffer(resample_filter=FIR.astype(np.float32))
            if side == s.resolution:
                block.add(fromrgb=self.conv(s.channels, width, 1, activation="lrelu"))
            block.add(conv0=self.conv(width, width, 3, activation="lrelu"))
            block.add(conv1=self.conv(width, below, 3, activation="lrelu", down=2))
            block.add(skip=self.conv(width, below, 1, bias=False, activation="linear", down=2))
            root.add(**{f"b{side}": block})
        width = s.width(4)
        end = Persistent("DiscriminatorEpilogue", resolution=4, architecture="resnet")
        end.add(mbstd=Persistent("MinibatchStdLayer", group_size=4, num_channels=1))
        end.add(conv=self.conv(width + 1, width, 3, activation="lrelu"))
        end.add(fc=self.dense(width * 16, width, "lrelu"), out=self.dense(width, 1))
        return root.add(b4=end)


def snapshot(shape):
    """The dict that the training pickles; ``G`` is left as the mere name it has for us."""
    maker = _Maker(shape)
    augment = Persistent("AugmentPipe", xflip=1.0, brightness_std=np.float64(0.2)).buffer(p=torch.tensor(0.5))
    generator = maker.generator()
    return {
        "G": generator,
        "D": maker.discriminator(),
        "G_ema": generator,
        "augment_pipe": augment,
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=shape.resolution),
    }


@contextmanager
def foreign_modules():
    """Let pickle find the writers' names."""
    names = {"torch_utils": {}, "dnnlib": {}, "dnnlib.util": {"EasyDict": EasyDict}}
    names["torch_utils.persistence"] = {"_reconstruct_persistent_obj": _reconstruct_persistent_obj}
    for name, content in names.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(content)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def dump(content, protocol=4):
    file = io.BytesIO()
    with foreign_modules():
        pickle.dump(content, file, protocol)
    return file.getvalue()


# --- rendering ------------------------------------------------------------------------------------------------------


def lrelu(x):
    return np.where(x > 0, x, 0.2 * x) * np.sqrt(2)


def dense(t, name, x, rate=1.0):
    weight = t[f"{name}.weight"]
    return weight @ x * (rate / np.sqrt(weight.shape[1])) + t[f"{name}.bias"] * rate


def each(x, function):
    return np.stack([function(channel) for channel in x])


def same(x, kernels):
    """Correlation with zero borders, ``[I, H, W]`` and ``[O, I, k, k]``."""
    pairs = [[correlate2d(a, k, "same") for a, k in zip(x, ks, strict=True)] for ks in kernels]
    return np.array(pairs).sum(axis=1)


def doubled(x, kernels):
    """Zeros between the pixels, full convolution, smoothing."""
    wide = np.zeros((len(x), 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
    wide[:, ::2, ::2] = x
    y = np.array([[convolve2d(a, k) for a, k in zip(wide, ks, strict=True)] for ks in kernels]).sum(axis=1)
    return each(y, lambda a: convolve2d(a, 4 * FIR)[2:-2, 2:-2])


def styled(t, name, x, w, *, up, demodulate=True, gain=1.0):
    style = dense(t, f"{name}.affine", w) * gain
    kernels = t[f"{name}.weight"] * style[None, :, None, None]
    if demodulate:
        kernels = kernels / np.sqrt((kernels**2).sum(axis=(1, 2, 3), keepdims=True) + 1e-8)
    return doubled(x, kernels) if up else same(x, kernels)


def render(t, z, noise):
    """``[C, r, r]`` from one latent, by the published parameter names."""
    w = z / np.sqrt((z**2).mean() + 1e-8)
    for i in range(sum(name.startswith("mapping.fc") and name.endswith("weight") for name in t)):
        w = lrelu(dense(t, f"mapping.fc{i}", w, 0.01))
    x, image = t["synthesis.b4.const"], 0.0
    side = 4
    while f"synthesis.b{side}.conv1.weight" in t:
        block = f"synthesis.b{side}"
        for conv in ["conv1"] if side == 4 else ["conv0", "conv1"]:
            name = f"{block}.{conv}"
            x = styled(t, name, x, w, up=conv == "conv0")
            if noise == "const":
                x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
            x = lrelu(x + t[f"{name}.bias"][:, None, None])
        rgb = styled(t, f"{block}.torgb", x, w, up=False, demodulate=False, gain=1 / np.sqrt(len(x)))
        if side > 4:
            wide = np.zeros((len(image), side, side))
            wide[:, ::2, ::2] = image
            image = each(wide, lambda a: convolve2d(a, 4 * FIR)[1:-2, 1:-2])
        image = image + rgb + t[f"{block}.torgb.bias"][:, None, None]
        side *= 2
    return image


def plain(t, name, x, *, down=False):
    weight = t[f"{name}.weight"]
    weight = weight / np.sqrt(weight[0].size)
    if not down:
        y = same(x, weight)
    else:
        crop = 2 if weight.shape[-1] == 1 else 1
        x = each(x, lambda a: convolve2d(a, FIR)[crop:-crop, crop:-crop])
        pairs = [[correlate2d(a, k, "valid") for a, k in zip(x, ks, strict=True)] for ks in weight]
        y = np.array(pairs).sum(axis=1)[:, ::2, ::2]
    return y + t[f"{name}.bias"][:, None, None] if f"{name}.bias" in t else y


def judge(t, images):
    """Logits of one group of up to four images ``[N, C, r, r]``."""
    xs = []
    for x in images:
        side = x.shape[-1]
        x = lrelu(plain(t, f"b{side}.fromrgb", x))
        while side > 4:
            shortcut = plain(t, f"b{side}.skip", x, down=True)
            inner = lrelu(plain(t, f"b{side}.conv0", x))
            x = (shortcut + lrelu(plain(t, f"b{side}.conv1", inner, down=True))) * np.sqrt(0.5)
            side //= 2
        xs.append(x)
    spread = np.sqrt(np.var(xs, axis=0) + 1e-8).mean()
    logits = []
    for x in xs:
        x = lrelu(plain(t, "b4.conv", np.concatenate([x, np.full((1, 4, 4), spread)])))
        logits.append(dense(t, "b4.out", lrelu(dense(t, "b4.fc", x.ravel())))[0])
    return np.array(logits)
