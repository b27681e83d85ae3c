"""What is dropped, missing or noisy, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmbench.data.dataset import Modality, Split  # noqa: E402
from mmbench.diagnostics.alter import Altered, missing, noisy, statistics_of, without  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

COUNT, LENGTH = 300, 7


@pytest.fixture(scope="module")
def split() -> TensorSplit:
    """Features of two modalities and of the context of one, token ids, and a waveform."""
    generator = np.random.default_rng(0)
    inputs = {}
    for name, width in {"text": 3, "text_context": 3, "audio": 2}.items():
        mask = np.arange(LENGTH) < generator.integers(1, LENGTH + 1, COUNT)[:, None]
        values = (generator.normal(size=(COUNT, LENGTH, width)) * [1, 2, 3][:width] + 5) * mask[..., None]
        inputs[name] = Modality(values.astype(np.float32), mask)
    mask = inputs["audio"].mask
    inputs["ids"] = Modality(generator.integers(1, 9, (COUNT, LENGTH)) * mask, mask)
    inputs["wave"] = Modality((generator.normal(size=(COUNT, LENGTH)) * mask).astype(np.float32), mask)
    return TensorSplit(Split(tuple(map(str, range(COUNT))), inputs, np.zeros(COUNT, np.float32)), torch.device("cpu"))


def lengths(split: TensorSplit) -> dict[str, int]:
    return {name: mask.shape[1] for name, (_, mask) in split.inputs.items()}


def whole(split: TensorSplit, change) -> dict[str, torch.Tensor]:
    """The values of all samples, padded to one length again; masks, targets and order must be those of the split."""
    found: dict[str, list[torch.Tensor]] = {}
    index = []
    for batch, old in zip(Altered(split, change).batches(64), split.batches(64), strict=True):
        index.append(batch.index)
        for name, part in batch.inputs.items():
            assert torch.equal(part.mask, old.inputs[name].mask)
            assert part.values.dtype == old.inputs[name].values.dtype
            assert not part.values[~part.mask].any()
            padded = part.values.new_zeros(len(part.values), LENGTH, *part.values.shape[2:])
            padded[:, : part.values.shape[1]] = part.values
            found.setdefault(name, []).append(padded)
    assert torch.cat(index).tolist() == list(range(COUNT))
    return {name: torch.cat(parts) for name, parts in found.items()}


def test_statistics_are_numpys(split) -> None:
    found = statistics_of(split, size=50)
    assert set(found) == {"text", "text_context", "audio"}
    for name, frames in found.items():
        values, mask = (part.numpy() for part in split.inputs[name])
        np.testing.assert_allclose(frames.mean, values[mask].mean(0), rtol=1e-5)
        np.testing.assert_allclose(frames.sd, values[mask].std(0), rtol=1e-5)


def test_a_dropped_modality_shows_one_frame(split) -> None:
    frames = statistics_of(split)
    found = whole(split, without(("text",), frames, "mean"))
    for name in ("text", "text_context"):
        assert (found[name][split.inputs[name][1]] == frames[name].mean).all()
    for name in ("audio", "ids", "wave"):
        assert torch.equal(found[name], split.inputs[name][0])
    zeros = whole(split, without(("text", "audio"), frames, "zeros"))
    assert not zeros["text"].any()
    assert not zeros["audio"].any()
    assert torch.equal(zeros["ids"], split.inputs["ids"][0])
    raw = whole(split, without(("ids", "wave"), frames, "mean"))
    assert not raw["ids"].any()
    assert not raw["wave"].any()
    assert torch.equal(raw["text"], split.inputs["text"][0])


def test_frames_are_missing_at_their_rate(split) -> None:
    names = ("text", "ids", "wave")
    clean = whole(split, lambda batch: batch)
    same = whole(split, missing(names, 0.0, 1, lengths(split), COUNT))
    assert all(torch.equal(same[name], clean[name]) for name in clean)
    before = None
    for rate in (0.1, 0.5, 0.9):
        found = whole(split, missing(names, rate, 1, lengths(split), COUNT))
        assert torch.equal(found["audio"], clean["audio"])
        for name in names:
            mask = split.inputs[name][1]
            frames = found[name][mask].reshape(int(mask.sum()), -1)
            gone = ~frames.bool().any(1)
            assert gone.float().mean().item() == pytest.approx(rate, abs=0.05), name
            assert torch.equal(frames[~gone], clean[name][mask].reshape(len(frames), -1)[~gone])
        gone = ~found["text"].bool().any(-1)
        assert before is None or bool((gone | ~before).all())  # what is missing stays missing
        before = gone


def test_draws_differ_and_are_the_same_again(split) -> None:
    frames = statistics_of(split)
    for make in (
        lambda draw: missing(("text",), 0.5, draw, lengths(split), COUNT),
        lambda draw: noisy(("text",), 0.5, draw, frames),
    ):
        first, again, other = (whole(split, make(draw))["text"] for draw in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_noise_has_its_deviation(split) -> None:
    frames = statistics_of(split)
    clean = whole(split, lambda batch: batch)
    assert all(torch.equal(value, clean[name]) for name, value in whole(split, noisy(("text", "ids", "wave"), 0.0, 1, frames)).items())
    found = whole(split, noisy(("text", "ids", "wave"), 0.5, 1, frames))
    for name in ("audio", "ids", "wave"):
        assert torch.equal(found[name], clean[name])
    for name in ("text", "text_context"):
        noise = (found[name] - clean[name])[split.inputs[name][1]]
        np.testing.assert_allclose(noise.std(0), 0.5 * frames[name].sd, rtol=0.1)
        np.testing.assert_allclose(noise.mean(0) / frames[name].sd, 0, atol=0.05)
    double = whole(split, noisy(("text",), 1.0, 1, frames))
    torch.testing.assert_close(double["text"] - clean["text"], 2 * (found["text"] - clean["text"]), rtol=1e-4, atol=1e-5)
