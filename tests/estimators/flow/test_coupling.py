"""The coupling flow's arithmetic: exact log-determinant, exact inverse, one definition for a stack."""

import numpy as np
import pytest
import torch

from anomaly_sweep.estimators.flow import FlowSettings
from anomaly_sweep.estimators.flow.coupling import (
    FlowShape,
    Permutations,
    forward,
    initial_member,
    inverse,
)
from tests.support.flow import fixed

CPU = torch.device("cpu")


def settings(coupling: str, **changes: object) -> FlowSettings:
    return fixed(coupling=coupling, blocks=3, hidden=7, hidden_layers=2, **changes)


def stack(shape: FlowShape, members: int, gain: float = 2.0):
    """A random stack in float64; the gain takes the scales well into the clamp."""
    initial = [initial_member(shape, torch.Generator().manual_seed(seed)) for seed in range(members)]
    parameters = [gain * torch.stack(same).double() for same in zip(*(p for p, _ in initial), strict=True)]
    return parameters, Permutations.of([order for _, order in initial], CPU)


@pytest.mark.parametrize("coupling", ["glow", "realnvp"])
@pytest.mark.parametrize("d", [2, 3, 5])
def test_log_det_is_the_jacobians(coupling: str, d: int) -> None:
    shape = FlowShape(d, settings(coupling))
    parameters, permutations = stack(shape, 1)
    for sample in torch.randn(4, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64):

        def flow(v: torch.Tensor) -> torch.Tensor:
            return forward(parameters, permutations, v.view(1, d, 1), shape)[0].view(d)

        jacobian = torch.autograd.functional.jacobian(flow, sample)
        _, log_det = forward(parameters, permutations, sample.view(1, d, 1), shape)
        torch.testing.assert_close(log_det[0, 0], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("coupling", ["glow", "realnvp"])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 12])
def test_inverse(coupling: str, d: int) -> None:
    shape = FlowShape(d, settings(coupling))
    parameters, permutations = stack(shape, 4)
    x = torch.randn(4, d, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z, _ = forward(parameters, permutations, x, shape)
    torch.testing.assert_close(inverse(parameters, permutations, z, shape), x)
    assert d == 1 or not torch.allclose(z, x)


@pytest.mark.parametrize("coupling", ["glow", "realnvp"])
def test_gradients(coupling: str) -> None:
    shape = FlowShape(5, fixed(coupling=coupling, blocks=2, hidden=3))
    parameters, permutations = stack(shape, 2)
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    leaves = [p.requires_grad_() for p in parameters]
    assert torch.autograd.gradcheck(lambda *p: forward(p, permutations, x, shape), leaves)


def test_forward_of_a_stack_is_forward_of_each() -> None:
    shape = FlowShape(5, settings("glow"))
    parameters, permutations = stack(shape, 3)
    x = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    z, log_det = forward(parameters, permutations, x, shape)
    for i in range(3):
        _, order = initial_member(shape, torch.Generator().manual_seed(i))
        alone = Permutations.of([order], CPU)
        own, own_log = forward([p[i : i + 1] for p in parameters], alone, x[i : i + 1], shape)
        torch.testing.assert_close(z[i], own[0])
        torch.testing.assert_close(log_det[i], own_log[0])


def test_two_sided_block_by_hand() -> None:
    """One block on two dimensions, written out in numpy."""
    shape = FlowShape(2, fixed(blocks=1, hidden=3, hidden_layers=1, clamp=3.0))
    parameters, permutations = stack(shape, 1)
    w = [p[0].numpy() for p in parameters]

    def net(layers, v):
        hidden = np.maximum(layers[0] @ [v] + layers[1][:, 0], 0)
        s, t = layers[2] @ hidden + layers[3][:, 0]
        return 3 * 0.636 * np.arctan(s / 3), t

    x = np.array([0.7, -1.3])
    a, b = x[permutations.order[0].numpy()]
    s1, t1 = net(w[:4], b)
    a = a * np.exp(s1) + t1
    s2, t2 = net(w[4:], a)
    b = b * np.exp(s2) + t2
    z, log_det = forward(parameters, permutations, torch.tensor(x).view(1, 2, 1), shape)
    np.testing.assert_allclose(z[0, :, 0].numpy(), [a, b])
    np.testing.assert_allclose(log_det[0, 0].item(), s1 + s2)


def test_parameter_count() -> None:
    shape = FlowShape(5, fixed(blocks=2, hidden=7, hidden_layers=2))
    one = (3 * 7 + 7) + (7 * 7 + 7) + (7 * 4 + 4)
    two = (2 * 7 + 7) + (7 * 7 + 7) + (7 * 6 + 6)
    assert shape.parameters == 2 * (one + two)
    parameters, _ = initial_member(shape, torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in parameters) == shape.parameters
