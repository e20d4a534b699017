"""Our Adam is torch's, to the last bit, without torch's compiler, and each image has its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from anomap.projection.adam import adam_step
from tests.service.clinic import ROOT


def leaves() -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    return [torch.randn(4, *shape, generator=draws).requires_grad_(True) for shape in ((16,), (1, 8, 8))]


def loss_of(w: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Very different gradients."""
    return (w**4).sum() + 1e-6 * (noise - 1).square().sum() + 1e3 * w[:, 0].sum()


def rate(step: int) -> float:
    return 0.1 / (1 + step)


def ours(parameters: list[torch.Tensor], steps: int, begun: list[int] | None = None) -> list[torch.Tensor]:
    """`begun` is how many steps later than the first each row began; it stays where it is until then."""
    begun = begun or [0] * len(parameters[0])
    memory = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    for step in range(steps):
        loss_of(*parameters).backward()
        rows = [row for row, first in enumerate(begun) if step >= first]
        taken = torch.tensor([step - begun[row] + 1 for row in rows], dtype=torch.float64)
        rates = torch.tensor([rate(step - begun[row]) for row in rows], dtype=torch.float64)
        for parameter, (mean, power) in zip(parameters, memory, strict=True):
            part = parameter.detach()[rows].requires_grad_(True)
            part.grad = parameter.grad[rows]
            some_mean, some_power = mean[rows], power[rows]
            adam_step(part, some_mean, some_power, taken, rates)
            with torch.no_grad():
                parameter[rows], mean[rows], power[rows] = part, some_mean, some_power
            parameter.grad = None
    return [parameter.detach() for parameter in parameters]


def torchs(parameters: list[torch.Tensor], steps: int) -> list[torch.Tensor]:
    optimiser = torch.optim.Adam(parameters, betas=(0.9, 0.999))
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate(step)
        optimiser.zero_grad(set_to_none=True)
        loss_of(*parameters).backward()
        optimiser.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize("steps", [1, 2, 40])
def test_it_goes_where_torchs_goes(steps: int) -> None:
    for mine, other in zip(ours(leaves(), steps), torchs(leaves(), steps), strict=True):
        assert torch.equal(mine, other)


def test_rows_that_began_later_go_the_same_way() -> None:
    begun = [0, 5, 17, 3]
    found = ours(leaves(), 40, begun)
    for row, first in enumerate(begun):
        for mine, other in zip(found, torchs(leaves(), 40 - first), strict=True):
            assert torch.equal(mine[row], other[row])


def test_a_tensor_without_gradient_stays() -> None:
    still, moved = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    moved.sum().backward()
    one, half = torch.ones(3, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)
    for parameter in (still, moved):
        adam_step(parameter, torch.zeros(3), torch.zeros(3), one, half)
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
