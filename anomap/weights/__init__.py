"""Weights made by other programs, read without running anything of theirs.

    pickles        a pickle's opcodes -> plain values; nothing is imported, called or executed
    storages       the tensors inside: PyTorch's older ``torch.save`` format -> numpy
    stylegan2_ada  the networks inside: parameters and settings by their published names
    architecture   ... as parameters of `anomap.networks`: shape, checks, grey

Needs numpy alone. `anomap.training.foreign` makes a bundle of the result.
"""
