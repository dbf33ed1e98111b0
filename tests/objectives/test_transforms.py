"""Second derivatives, torch.func, torch.compile and torch.export, of the objective and its model together."""

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from clozelab.objectives import OBJECTIVES, LossModule

from .cases import batch_of, each_objective, reading_model


def module_and_batch(objective, lengths=(9, 14, 6)):
    return LossModule(objective, reading_model(objective)), batch_of(objective, lengths)


@each_objective
def test_second_derivatives_are_those_of_a_difference(objective):
    """The derivative of |gradient|^2 along a direction, against a central difference of gradients."""
    module, batch = module_and_batch(objective)
    parameters = [p for p in module.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]

    def gradient(create_graph=False):
        return torch.autograd.grad(module(batch)[0], parameters, create_graph=create_graph, materialize_grads=True)

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative, and say so
        product = torch.autograd.grad(gradient(True), parameters, direction, materialize_grads=True)
        step, ends = 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, direction):
                    p.add_(sign * step * d)
            ends.append(gradient())
            with torch.no_grad():
                for p, d in zip(parameters, direction):
                    p.sub_(sign * step * d)
    for exact, plus, minus in zip(product, *ends):
        torch.testing.assert_close(exact, (plus - minus) / (2 * step), rtol=1e-4, atol=1e-6)
    assert max(one.abs().max() for one in product) > 1e-2  # there is curvature to lose


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@each_objective
def test_gradients_of_each_example_by_torch_func_are_those_of_batches_of_one(objective):
    module, batch = module_and_batch(objective)
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def loss(parameters, row):
        return functional_call(module, parameters, ({key: value[None] for key, value in row.items()},))[0]

    per_example = vmap(grad(loss), in_dims=(None, 0))(parameters, batch)
    for b in range(len(batch["labels"])):
        module.zero_grad()
        module({key: value[b : b + 1] for key, value in batch.items()})[0].backward()
        for name, p in module.named_parameters():
            torch.testing.assert_close(per_example[name][b], torch.zeros_like(p) if p.grad is None else p.grad)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "cls",  # compiling is dear: by default the objective with weights alone
    [pytest.param(cls, id=n, marks=[] if n == "diffusion" else pytest.mark.slow) for n, cls in OBJECTIVES.items()],
)
def test_one_graph_is_compiled_and_exported(cls):
    """No graph break (fullgraph raises at one), and the loss and its gradient as without."""
    module, batch = module_and_batch(cls())
    module.model.blocks = getattr(module.model, "blocks", [])[:1]  # one layer is as good as two, and sooner compiled
    torch.compiler.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    found, expected = compiled(batch)[0], module(batch)[0]
    torch.testing.assert_close(found, expected)
    weights = [p for p in module.parameters() if p.requires_grad]
    settings = {"allow_unused": True, "materialize_grads": True}
    torch.testing.assert_close(*(torch.autograd.grad(one, weights, **settings) for one in (found, expected)))

    class Value(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, batch):
            return self.module(batch)[0]

    with torch.no_grad():
        exported = torch.export.export(Value(), (batch,)).module()
        torch.testing.assert_close(exported(batch), expected)
