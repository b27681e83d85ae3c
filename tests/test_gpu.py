"""What only a GPU can show. Skipped, with the reason, where there is none."""

import pytest

torch = pytest.importorskip("torch")

from mmbench.training.loop import Protocol, fit, predict  # noqa: E402
from mmbench.training.network import Network  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
LOSSES = [{"name": "pull", "weight": 0.1}, {"name": "unimodal", "weight": 0.2}]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_the_gpu_gives_what_the_cpu_gives(toy_config, make_dataset, tmp_path, precision: str) -> None:
    dataset = make_dataset()
    training = {"epochs": 3, "batch_size": 8, "optimizer": {"lr": 0.01}, "precision": precision}
    resolved = toy_config(losses=LOSSES, model={"name": "toy"}, training=training)
    found = {}
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        network = Network(resolved, dataset.input_spec(), 1).to(device)
        folder = tmp_path / name
        folder.mkdir()
        protocol = Protocol(resolved.experiment.training, "l1", "mae", False, lambda p, t: {"mae": float(abs(p - t).mean())}, 1, folder, "fp")
        train, valid = (TensorSplit(dataset.splits[split], device) for split in ("train", "valid"))
        assert train.on_device
        fit(network, train, valid, protocol)
        found[name] = torch.from_numpy(predict(network, valid, protocol.training)[0])
    tolerance = 1e-4 if precision == "fp32" else 0.1
    torch.testing.assert_close(found["cuda"], found["cpu"], atol=tolerance, rtol=tolerance)


def test_no_step_waits_for_the_device(toy_config, make_dataset) -> None:
    """A training step under torch's own detector of synchronising calls."""
    resolved = toy_config(losses=LOSSES)
    device = torch.device("cuda")
    dataset = make_dataset()
    network = Network(resolved, dataset.input_spec(), 1).to(device)
    train = TensorSplit(dataset.splits["train"], device)
    network.train()
    batches = train.batches(8)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = next(batches)
        representation = network(batch)
        total = sum(network.terms(representation, batch, 1).values())
        total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
