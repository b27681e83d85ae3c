"""Encoders in the loop: frozen ones run once and are cached, trained ones learn, and token ids must fit."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mmbench.data.dataset import Dataset, Modality, Split  # noqa: E402
from mmbench.errors import ConfigError, DataError  # noqa: E402
from mmbench.training.encoders import build_encoders, prepare  # noqa: E402
from mmbench.training.loop import Protocol, fit  # noqa: E402
from mmbench.training.network import Network  # noqa: E402
from mmbench.training.tensors import TensorSplit  # noqa: E402

CPU = torch.device("cpu")
WORDS = ("good film", "bad", "a fine day", "ok")


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def raw() -> Dataset:
    """Raw text that is not tokenised yet, and waveforms, in three splits."""
    generator = np.random.default_rng(0)
    splits = {}
    for name, size in (("train", 12), ("valid", 6), ("test", 5)):
        lengths = generator.integers(10, 61, size)
        mask = np.arange(60) < lengths[:, None]
        waves = (generator.normal(size=(size, 60)) * mask).astype(np.float32)
        inputs = {"text": Modality(np.zeros((size, 0), np.int64), np.zeros((size, 0), bool)), "audio": Modality(waves, mask)}
        target = generator.normal(size=size).astype(np.float32).clip(-3, 3)
        ids = tuple(f"{name}{i // 3}/{i % 3}" for i in range(size))
        splits[name] = Split(ids, inputs, target, transcripts=tuple(WORDS[i % 4] for i in range(size)))
    return Dataset("toy", "regression", ("mae",), splits, "raw", label_range=(-3.0, 3.0), prototypes=3)


@pytest.fixture
def resolved(toy_config):
    def make(finetune: bool, **sections):
        encoders = {"text": {"name": "letters", "finetune": finetune}, "audio": {"name": "waves", "finetune": finetune, "width": 3}}
        return toy_config(model={"name": "toy", "encoders": encoders}, **sections)

    return make


def test_what_an_encoder_reads_is_declared(resolved) -> None:
    experiment = resolved(False)
    assert experiment.reads("tokens") == {"text"}
    assert experiment.reads("waveform") == {"audio"}


def test_frozen_encoders_run_once_per_sample_and_never_again(raw, resolved) -> None:
    encoders = build_encoders(resolved(False))
    first = prepare(raw, ("train", "valid"), encoders, CPU)
    assert set(first.splits) == {"train", "valid"}
    assert first.splits["train"].inputs["text"].values.shape == (12, 12, 4)
    assert first.splits["train"].inputs["audio"].values.shape == (12, 6, 3)
    assert {name: encoder.samples for name, encoder in encoders.items()} == {"text": 18, "audio": 18}
    again = build_encoders(resolved(False))
    second = prepare(raw, ("train", "valid"), again, CPU)
    assert all(encoder.samples == 0 for encoder in again.values())
    for split in first.splits:
        for name in ("text", "audio"):
            for part in ("values", "mask"):
                one, two = (getattr(dataset.splits[split].inputs[name], part) for dataset in (first, second))
                np.testing.assert_array_equal(one, two)
    changed = build_encoders(resolved(False))
    with torch.no_grad():
        changed["text"].weight += 1
    third = prepare(raw, ("train",), changed, CPU)
    assert changed["text"].samples == 12
    assert not np.array_equal(third.splits["train"].inputs["text"].values, first.splits["train"].inputs["text"].values)


def test_cached_features_equal_those_of_the_loop(raw, resolved) -> None:
    frozen = prepare(raw, ("train",), build_encoders(resolved(False)), CPU).splits["train"]
    encoders = build_encoders(resolved(True))
    prepared = prepare(raw, ("train",), encoders, CPU)
    network = Network(resolved(True), prepared.input_spec(), 1, encoders)
    batch = TensorSplit(prepared.splits["train"], CPU).batch(torch.arange(12))
    for name in ("text", "audio"):
        loop = network.encoders[name](batch.inputs[name])
        np.testing.assert_allclose(loop.values.detach().numpy(), frozen.inputs[name].values[:, : loop.values.shape[1]], rtol=1e-6)


def test_trained_encoders_learn_in_a_group_of_their_own(raw, resolved, tmp_path) -> None:
    experiment = resolved(True, training={"epochs": 2, "batch_size": 4, "optimizer": {"lr": 0.01, "groups": {"encoders.audio": {"lr": 1e-12}}}})
    encoders = build_encoders(experiment)
    before = {name: encoder.weight.detach().clone() for name, encoder in encoders.items()}
    prepared = prepare(raw, ("train", "valid"), encoders, CPU)
    network = Network(experiment, prepared.input_spec(), 1, encoders)
    assert {"encoders.text", "encoders.audio"} <= set(network.groups())
    assert network.model.spec.inputs.modalities["audio"].size == 3
    assert network.model.spec.inputs.modalities["audio"].length == 6
    protocol = Protocol(experiment.experiment.training, "l1", "mae", False, lambda p, t: {"mae": float(abs(p - t).mean())}, 1, tmp_path, "fp")
    fit(network, *(TensorSplit(prepared.splits[name], CPU) for name in ("train", "valid")), protocol)
    assert (encoders["text"].weight - before["text"]).abs().max() > 1e-3
    assert (encoders["audio"].weight - before["audio"]).abs().max() < 1e-8


def test_waveforms_keep_their_length_and_tokens_do_not(raw, resolved) -> None:
    prepared = prepare(raw, ("train",), build_encoders(resolved(True)), CPU)
    short = [i for i, words in enumerate(prepared.splits["train"].transcripts) if words == "ok"]
    batch = TensorSplit(prepared.splits["train"], CPU).batch(torch.tensor(short))
    assert batch.inputs["text"].values.shape[1] == 4
    assert batch.inputs["audio"].values.shape[1] == 60


def test_an_empty_context_stays_empty(resolved) -> None:
    from mmbench.batch import Sequence
    from mmbench.training.encoders import encode

    class Keeps(torch.nn.Module):
        def forward(self, raw: Sequence) -> Sequence:
            return Sequence(torch.ones(2, 3, 4), torch.tensor([[True, False, False], [True, True, False]]))

    found = encode(Keeps(), Sequence(torch.zeros(2, 30), torch.tensor([[False] * 30, [True] * 30])))
    assert found.mask.tolist() == [[False] * 3, [True, True, False]]
    assert not found.values[0].any()


def test_token_ids_must_fit_the_vocabulary(raw, resolved) -> None:
    ids = np.full((12, 3), 128)
    split = raw.splits["train"]
    inputs = {**split.inputs, "text": Modality(ids, np.ones_like(ids, bool))}
    wrong = dataclasses.replace(raw, splits={"train": dataclasses.replace(split, inputs=inputs)})
    with pytest.raises(DataError, match="token ids up to 128 do not fit the encoder's vocabulary of 128"):
        prepare(wrong, ("train",), build_encoders(resolved(True)), CPU)


def test_an_encoder_that_cannot_be_built_is_one_error(resolved, monkeypatch) -> None:
    import toy_parts

    def broken(self, config):
        raise OSError("no such weights\nat all")

    monkeypatch.setattr(toy_parts.Letters, "__init__", broken)
    with pytest.raises(ConfigError, match=r"model.encoders.text: toys/letters cannot be built: OSError: no such weights at all"):
        build_encoders(resolved(False))
