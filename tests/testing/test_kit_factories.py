"""The small data of the kit: what an author can rely on in her own tests."""

import pytest

torch = pytest.importorskip("torch")

from mmbench.testing import make_batch, make_inputs  # noqa: E402
from mmbench.testing.factories import TRAIN_SIZE, fit_context  # noqa: E402


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("sequences", [True, False])
def test_batches_fit_their_inputs(task: str, sequences: bool) -> None:
    inputs = make_inputs(("text", "audio", "other"), task, sequences=sequences, tokens=["text"])
    assert list(inputs.modalities) == ["text", "audio", "other"]
    for size in (1, 5):
        batch = make_batch(inputs, size, seed=size)
        for name, spec in inputs.modalities.items():
            values, mask = batch.inputs[name].values, batch.inputs[name].mask
            assert mask.shape[0] == size
            assert 1 <= mask.shape[1] <= max(1, spec.length - 1)
            assert mask.any(0).all()  # cut after the longest
            assert mask.any(1).all()
            assert not values[~mask].any()
            assert torch.equal(mask, mask.cumprod(1).bool())
            if spec.kind == "tokens":
                assert values.dtype == torch.long
                assert values.max() < spec.size
            else:
                assert values.shape[2] == spec.size
        assert len(set(batch.index.tolist())) == size
        assert torch.equal(fit_context(inputs).train_targets[batch.index], batch.target)
        assert batch.target.dtype == (torch.float32 if task == "regression" else torch.long)
        assert not batch.unimodal_targets


def test_batches_come_from_their_seed_and_lengths_vary() -> None:
    inputs = make_inputs()
    first, again, other = (make_batch(inputs, 6, seed) for seed in (1, 1, 2))
    assert torch.equal(first.inputs["text"].values, again.inputs["text"].values)
    assert not torch.equal(first.index, other.index)
    assert len(set(first.inputs["audio"].mask.sum(1).tolist())) > 2
    unimodal = make_batch(inputs, 6, 1, unimodal=True).unimodal_targets
    assert set(unimodal) == {"text", "audio", "vision"}
    assert not torch.equal(unimodal["text"], unimodal["audio"])
    assert fit_context(inputs).train_size == inputs.train_size == TRAIN_SIZE
