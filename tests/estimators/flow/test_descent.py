"""The written-out training step against autograd, and what it may take."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import pytest
import torch

from anomaly_sweep.estimators.flow import FlowSettings, flow_settings, plan_stacks, train_stack
from anomaly_sweep.estimators.flow.coupling import FlowShape, Permutations, initial_member, loss
from anomaly_sweep.estimators.flow.descent import Descent, Step, step_numbers
from anomaly_sweep.estimators.flow.stacks import stack_bytes
from tests.support.flow import fixed

torch.set_num_threads(1)  # the products are tiny: threads would only wait for each other
CPU = torch.device("cpu")


def arguments(settings: FlowSettings, d: int, sizes: list[int], dtype: torch.dtype = torch.float64):
    """A stack with padding; the parameters are large enough to reach the clamp."""
    shape = FlowShape(d, settings)
    initial = [initial_member(shape, torch.Generator().manual_seed(seed)) for seed in range(len(sizes))]
    parameters = torch.cat(
        [3 * torch.stack(same).to(dtype).flatten() for same in zip(*(p for p, _ in initial), strict=True)]
    )
    x = torch.randn(len(sizes), d, max(sizes), generator=torch.Generator().manual_seed(9), dtype=dtype)
    weights = torch.zeros(len(sizes), max(sizes), dtype=dtype)
    for i, n in enumerate(sizes):
        x[i, :, n:] = 0
        weights[i, :n] = 1 / n
    return shape, parameters, Permutations.of([order for _, order in initial], CPU), x, weights


@pytest.mark.parametrize("coupling", ["glow", "realnvp"])
@pytest.mark.parametrize("hidden_layers", [1, 2, 3])
@pytest.mark.parametrize(("d", "blocks"), [(2, 1), (3, 2), (6, 3), (7, 3)])
def test_gradient_is_autograds(coupling: str, hidden_layers: int, d: int, blocks: int) -> None:
    settings = fixed(coupling=coupling, blocks=blocks, hidden=5, hidden_layers=hidden_layers, clamp=1.5)
    shape, parameters, permutations, x, weights = arguments(settings, d, [4, 7, 1])
    leaf = parameters.clone().requires_grad_()
    losses = loss(shape.views(leaf), permutations, x, weights, shape)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    before = x.clone()
    step = Step(shape, parameters, permutations, x, weights)
    for _ in range(2):
        step.run()
        torch.testing.assert_close(step.loss, losses)
        torch.testing.assert_close(step.gradient, gradient)
    assert torch.equal(x, before)
    assert (gradient.abs() > 1e-6).float().mean() > 0.2


def test_new_samples_and_parameters_are_read() -> None:
    shape, parameters, permutations, x, weights = arguments(fixed(blocks=2, hidden=4), 5, [6, 3])
    step = Step(shape, parameters, permutations, x, weights)
    step.run()
    x.mul_(0.5)
    weights.mul_(2)
    parameters.mul_(0.9)
    step.run()
    torch.testing.assert_close(step.loss, loss(shape.views(parameters), permutations, x, weights, shape))


@pytest.mark.parametrize(
    "changes", [{}, {"coupling": "realnvp", "hidden_layers": 3}, {"weight_decay": 0.1, "betas": (0.8, 0.8)}]
)
def test_descent_is_adam_on_the_loss(changes: dict[str, object]) -> None:
    """Plain autograd and `torch.optim.Adam`, one tensor for each parameter, is the reference."""
    settings = fixed(blocks=2, hidden=4, learning_rate=0.01, **changes)
    shape, parameters, permutations, x, weights = arguments(settings, 5, [6, 3])
    leaves = [view.clone().requires_grad_() for view in shape.views(parameters)]
    optimizer = torch.optim.Adam(
        leaves, lr=0.01, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
    )
    descent = Descent(shape, parameters, permutations, x, weights)
    for _ in range(20):
        optimizer.zero_grad()
        losses = loss(leaves, permutations, x, weights, shape)
        losses.sum().backward()
        optimizer.step()
        descent.advance()
        torch.testing.assert_close(descent.step.loss, losses.detach(), rtol=1e-6, atol=1e-8)
    for view, leaf in zip(shape.views(parameters.detach()), leaves, strict=True):
        torch.testing.assert_close(view, leaf.detach(), rtol=1e-5, atol=1e-7)


def test_a_descent_goes_on_without_some_of_its_members() -> None:
    """With Adam's moments the others take the steps that they would have taken."""
    settings = fixed(blocks=2, hidden=4, learning_rate=0.01)
    shape, parameters, _, x, weights = arguments(settings, 5, [6, 6, 6])
    orders = [initial_member(shape, torch.Generator().manual_seed(seed))[1] for seed in range(3)]
    whole = Descent(shape, parameters, Permutations.of(orders, CPU), x, weights)
    for _ in range(5):
        whole.advance()

    def last_two(numbers: torch.Tensor) -> torch.Tensor:
        return torch.cat([view[1:].flatten() for view in shape.views(numbers.detach())])

    moments = {name: last_two(m) if m.ndim else m.clone() for name, m in whole.moments.items()}
    some = last_two(parameters)
    rest = Descent(shape, some, Permutations.of(orders[1:], CPU), x[1:], weights[1:], moments)
    for _ in range(5):
        whole.advance()
        rest.advance()
        torch.testing.assert_close(rest.step.loss, whole.step.loss[1:])
    torch.testing.assert_close(some.detach(), last_two(parameters))


def test_rehearsing_leaves_no_trace() -> None:
    """What a CUDA graph is captured after: steps that warm everything up and are undone."""
    losses = []
    for rehearsed in (False, True):
        descent = Descent(*arguments(fixed(blocks=2, hidden=4, learning_rate=0.1), 5, [6, 3]))
        if rehearsed:
            descent.rehearse()
        for _ in range(5):
            descent.advance()
        losses.append(descent.step.loss.clone())
    assert torch.equal(*losses)


def tensors(thing: object) -> Iterator[torch.Tensor]:
    """Every tensor that an object holds."""
    if isinstance(thing, torch.Tensor):
        yield thing
    elif isinstance(thing, list):
        for part in thing:
            yield from tensors(part)
    elif is_dataclass(thing):
        for field in fields(thing):
            yield from tensors(getattr(thing, field.name))
    elif isinstance(thing, Step):
        for part in vars(thing).values():
            yield from tensors(part)


@pytest.mark.parametrize("coupling", ["glow", "realnvp"])
@pytest.mark.parametrize(("d", "n", "hidden_layers"), [(2, 3, 1), (7, 20, 2), (64, 5, 3), (101, 30, 2)])
def test_memory_is_foreseen(coupling: str, d: int, n: int, hidden_layers: int) -> None:
    settings = fixed(coupling=coupling, hidden_layers=hidden_layers)
    shape, *given = arguments(settings, d, [n] * 3, torch.float32)
    step = Step(shape, *given)
    foreign = {tensor.untyped_storage().data_ptr() for tensor in tensors(given)}
    own = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(step)}
    held = sum(size for pointer, size in own.items() if pointer not in foreign) / 4 / 3
    permutations = 2 * shape.blocks * d * 2
    assert held - permutations <= step_numbers(shape, n) <= 1.5 * held


def test_stacks_on_a_gpu_fit_its_memory() -> None:
    shapes = [(240, 512)] * 300
    settings = flow_settings("differnet")
    each = stack_bytes(240, 512, settings)
    stacks = plan_stacks(shapes, settings, device="cuda", memory=10.5 * each)
    assert {len(stack) for stack in stacks} == {10}
    assert {len(s) for s in plan_stacks(shapes, settings, device="cuda", memory=0)} == {1}
    assert stack_bytes(240, 512, settings) > stack_bytes(24, 512, settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is there")
@pytest.mark.parametrize("batch_size", ["full", 8])
def test_cuda_is_cpu(batch_size: int | str) -> None:
    settings = fixed(steps=30, batch_size=batch_size)
    data = [torch.randn(n, 6, generator=torch.Generator().manual_seed(n)).numpy() for n in (9, 20, 24)]
    ours = train_stack(data, [1, 2, 3], settings, "cuda")
    for gpu, cpu in zip(ours, train_stack(data, [1, 2, 3], settings), strict=True):
        assert gpu.losses == pytest.approx(cpu.losses, rel=1e-3)
