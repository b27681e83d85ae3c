"""The optimizers of a run are torch's, and start without torch's compiler."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from mmbench.config import OptimizerConfig  # noqa: E402
from mmbench.training.optim import build_optimizer  # noqa: E402

START = """
import sys, torch
from mmbench.config import OptimizerConfig
from mmbench.training.optim import build_optimizer
from mmbench.training.seeds import make_deterministic
make_deterministic(1)
layer = torch.nn.Linear(3, 1)
optimizer = build_optimizer(OptimizerConfig(), {"model": list(layer.parameters())})
layer(torch.ones(1, 3)).sum().backward()
optimizer.step()
optimizer.zero_grad(set_to_none=True)
optimizer.load_state_dict(optimizer.state_dict())
assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
print(sorted({name.split(".")[1] for name in sys.modules if name.startswith(("torch._dynamo", "torch._inductor"))}))
"""


@pytest.mark.parametrize(("name", "reference"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_steps_are_those_of_torch(name, reference):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    ours = build_optimizer(OptimizerConfig(name=name, lr=0.05, weight_decay=0.1), {"model": list(layers[0].parameters())})
    optimizers = [ours, reference(layers[1].parameters(), lr=0.05, weight_decay=0.1, fused=True)]
    for _ in range(4):
        x = torch.randn(5, 4)
        for layer, optimizer in zip(layers, optimizers, strict=True):
            layer(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        optimizers[0].load_state_dict(optimizers[0].state_dict())
    for left, right in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(left, right)
        assert left.grad is None


def test_a_run_that_compiles_nothing_loads_no_compiler():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.strip() == "[]"
