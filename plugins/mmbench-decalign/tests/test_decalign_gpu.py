"""DecAlign on a GPU: the same values as on the CPU, and no step that waits for the device."""

import pytest
import torch

from mmbench.batch import Batch, Sequence
from mmbench.component import InputSpec, ModalitySpec
from mmbench_decalign.config import DecAlignConfig, DecouplingConfig, HomogeneityConfig, PrototypeTransportConfig
from mmbench_decalign.losses import Decoupling, Homogeneity, PrototypeTransport
from mmbench_decalign.model import DecAlign

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
WIDTHS = {"text": 12, "audio": 5, "vision": 7}


def build() -> tuple[DecAlign, list[torch.nn.Module]]:
    torch.manual_seed(0)
    inputs = InputSpec({name: ModalitySpec("features", width, 20) for name, width in WIDTHS.items()}, "regression", prototypes=3, train_size=16)
    quiet = dict.fromkeys(("attention_dropout", "relu_dropout", "embed_dropout", "residual_dropout", "output_dropout", "text_dropout"), 0.0)
    model = DecAlign(inputs, DecAlignConfig(width=16, heads=4, layers=2, **quiet))
    losses = [
        Decoupling(model.spec, DecouplingConfig()),
        PrototypeTransport(model.spec, PrototypeTransportConfig()),
        Homogeneity(model.spec, HomogeneityConfig()),
    ]
    return model, losses


def batch(device: str) -> Batch:
    generator = torch.Generator().manual_seed(1)
    inputs = {}
    for name, width in WIDTHS.items():
        mask = torch.arange(20) < torch.randint(1, 21, (16, 1), generator=generator)
        inputs[name] = Sequence((torch.randn(16, 20, width, generator=generator) * mask.unsqueeze(-1)).to(device), mask.to(device))
    return Batch(torch.arange(16, device=device), inputs, torch.randn(16, generator=generator).to(device))


def total(model: DecAlign, losses: list[torch.nn.Module], data: Batch) -> torch.Tensor:
    representation = model(data)
    values = [representation.prediction.square().mean()]
    for loss in losses:
        values += loss(representation, data).values()
    return torch.stack([value.float() for value in values]).sum()


def test_the_gpu_gives_what_the_cpu_gives() -> None:
    found = {}
    for device in ("cpu", "cuda"):
        model, losses = build()
        modules = torch.nn.ModuleList([model, *losses]).to(device)
        value = total(model, losses, batch(device))
        value.backward()
        gradients = [p.grad.cpu() for p in modules.parameters() if p.grad is not None]
        found[device] = (value.detach().cpu(), torch.cat([gradient.flatten() for gradient in gradients]))
    torch.testing.assert_close(found["cuda"][0], found["cpu"][0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["cuda"][1], found["cpu"][1], atol=1e-3, rtol=1e-2)


def test_no_step_waits_for_the_device() -> None:
    model, losses = build()
    torch.nn.ModuleList([model, *losses]).cuda()
    data = batch("cuda")
    total(model, losses, data).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(model, losses, data).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
