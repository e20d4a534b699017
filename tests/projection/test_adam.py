"""Our Adam is torch's, to the last bit, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from anomap.projection.adam import Adam
from tests.service.clinic import ROOT


def course(optimiser_of, steps: int = 40) -> list[torch.Tensor]:
    """Where two tensors of very different gradients go, with a rate that changes as in a projection."""
    draws = torch.Generator().manual_seed(3)
    leaves = [torch.randn(4, 16, generator=draws).requires_grad_(True), torch.randn(4, 1, 8, 8, generator=draws)]
    leaves[1].requires_grad_(True)
    move = optimiser_of(leaves)
    for step in range(steps):
        loss = (leaves[0] ** 4).sum() + 1e-6 * (leaves[1] - 1).square().sum() + 1e3 * leaves[0][:, 0].sum()
        loss.backward()
        move(0.1 * (1 - step / steps))
    return [leaf.detach().clone() for leaf in leaves]


def torchs(leaves):
    optimiser = torch.optim.Adam(leaves, betas=(0.9, 0.999))

    def move(rate: float) -> None:
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return move


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_it_goes_where_torchs_goes(steps):
    ours, theirs = course(lambda leaves: Adam(leaves).step, steps), course(torchs, steps)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)


def test_a_tensor_without_gradient_stays():
    still, moved = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    moved.sum().backward()
    Adam([still, moved]).step(0.5)
    assert still.tolist() == [1, 1, 1]
    assert moved.tolist() == pytest.approx([0.5] * 3)
    assert moved.grad is None


def test_an_analysis_does_not_load_torchs_compiler(toy_models, tmp_path):
    """It costs every command and every job of a viewer more than a second and half a gigabyte of imports."""
    from anomap.dicom.phantom import write_ct_phantom

    write_ct_phantom(tmp_path / "ct", slices=2, rows=48, columns=48)
    program = (
        "import sys; from anomap import cli;"
        f"status = cli.main(['analyze', {str(tmp_path / 'ct')!r}, {str(tmp_path / 'out')!r}, '--models',"
        f" {str(toy_models)!r}]); assert status == 0, status;"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
