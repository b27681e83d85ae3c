"""What holds for both extractors: what is trained, evaluation mode while frozen, digests, checkpoints, precision, errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench_extractors.audio import HFAudio
from mmbench_extractors.config import HFAudioConfig, HFTextConfig
from mmbench_extractors.text import HFText

TEXT = ("bert", "roberta", "deberta")
AUDIO = ("wav2vec2", "hubert", "hubert-stable", "wavlm", "data2vec")
ALL = TEXT + AUDIO


@pytest.fixture
def folder(text_folder, audio_folder):
    return lambda family: (text_folder if family in TEXT else audio_folder)(family)


@pytest.fixture
def build(folder):
    def make(family, **options):
        if family in TEXT:
            return HFText(HFTextConfig(**{"model": folder(family), "max_tokens": 32} | options))
        return HFAudio(HFAudioConfig(**{"model": folder(family)} | options))

    return make


def batch(family):
    if family in TEXT:
        return Sequence(torch.arange(4, 20).reshape(2, 8), torch.arange(8) < torch.tensor([[8], [5]]))
    time = torch.arange(1200) / 16_000
    return Sequence(torch.stack([torch.sin(3000 * time), torch.sin(1500 * time)]), torch.arange(1200) < torch.tensor([[1200], [700]]))


@pytest.mark.parametrize("family", ALL)
def test_frozen_features_are_the_same_in_training(build, family):
    extractor = build(family)
    expected = extractor.eval()(batch(family)).values
    for module in (extractor, torch.nn.ModuleList([extractor])):
        module.train()
        assert torch.equal(extractor(batch(family)).values, expected)
    assert not expected.requires_grad
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    with torch.no_grad():
        tuned = build(family, finetune=True).eval()(batch(family)).values  # torch may fold products in another way: the last digit
    torch.testing.assert_close(tuned, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_fine_tuning_changes_every_trainable_weight(build, family):
    extractor = build(family, finetune=True).train()
    before = {name: value.clone() for name, value in extractor.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in extractor.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        found = extractor(batch(family))
        weight = torch.linspace(-1, 1, found.values.numel()).reshape(found.values.shape)
        (found.values * weight).square().sum().backward()
        optimizer.step()
    for name, value in extractor.named_parameters():
        assert value.requires_grad is (".feature_extractor." not in name), name
        assert torch.equal(value, before[name]) is not value.requires_grad, name
    first, second = extractor(batch(family)).values, extractor(batch(family)).values
    assert not torch.equal(first, second)  # dropout


@pytest.mark.parametrize("family", ALL)
def test_frozen_layers_get_no_gradient_and_the_others_do(build, family):
    extractor = build(family, finetune=True, freeze_layers=1).train()
    extractor(batch(family)).values.square().sum().backward()
    frozen = {name for name, parameter in extractor.named_parameters() if not parameter.requires_grad}
    assert {name for name, parameter in extractor.named_parameters() if parameter.grad is None} == frozen
    layer = ".layer." if family in TEXT else ".layers."
    layers = {name for name, _ in extractor.named_parameters() if name.startswith(f"encoder.encoder{layer}")}
    assert {name for name in layers if name.startswith(f"encoder.encoder{layer}0.")} == layers & frozen
    front = ("encoder.embeddings.",) if family in TEXT else ("encoder.feature_extractor.", "encoder.feature_projection.", "encoder.encoder.pos_conv")
    for name, parameter in extractor.named_parameters():
        if name.startswith(front):
            assert not parameter.requires_grad, name
    norm = "encoder.encoder.layer_norm.weight"  # in audio before the layers, but for the stable variant
    assert (norm in frozen) is (family in AUDIO and family != "hubert-stable")
    with pytest.raises(ConfigError, match="freeze_layers: 9"):
        build(family, finetune=True, freeze_layers=9)


@pytest.mark.parametrize("family", ALL)
def test_checkpointed_activations_give_the_same_gradients(build, family):
    gradients = []
    for checkpointing in (False, True):
        extractor = build(family, finetune=True, freeze_layers=1, gradient_checkpointing=checkpointing).train()
        assert any(getattr(module, "gradient_checkpointing", False) for module in extractor.modules()) is checkpointing
        torch.manual_seed(5)
        extractor(batch(family)).values.square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in extractor.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "wavlm"])
def test_the_digest_follows_weights_and_options(build, folder, family, tmp_path):
    digest = build(family).digest()
    assert build(family).digest() == digest
    assert build(family, finetune=True, gradient_checkpointing=True).digest() == digest  # training alone: the same features
    shutil.copytree(folder(family), tmp_path / "copy")
    assert build(family, model=str(tmp_path / "copy")).digest() == digest
    changed = build(family)
    with torch.no_grad():
        next(changed.encoder.parameters()).view(-1)[0] += 1e-3
    found = {digest, changed.digest()}
    if family == "bert":
        found |= {build(family, output="cls").digest(), build(family, max_tokens=16).digest()}
        tokenizer = tmp_path / "copy" / "tokenizer.json"
        tokenizer.write_text(tokenizer.read_text().replace('"lowercase": true', '"lowercase": false'))
        found.add(build(family, model=str(tmp_path / "copy")).digest())
    else:
        preprocessor = tmp_path / "copy" / "preprocessor_config.json"
        preprocessor.write_text(preprocessor.read_text().replace('"do_normalize": true', '"do_normalize": false'))
        found.add(build(family, model=str(tmp_path / "copy")).digest())
    network = tmp_path / "copy" / "config.json"
    network.write_text(json.dumps(json.loads(network.read_text()) | {"layer_norm_eps": 1e-3}))
    found.add(build(family, model=str(tmp_path / "copy")).digest())
    assert len(found) == (6 if family == "bert" else 4)


def test_the_digest_is_computed_once_for_the_same_weights(build, monkeypatch):
    extractor = build("bert")
    first = extractor.digest()
    with monkeypatch.context() as patch:
        patch.setattr(extractor, "_compute_digest", lambda: "computed again")
        assert extractor.digest() == first
        with torch.no_grad():
            extractor.encoder.get_input_embeddings().weight[0, 0] += 1
        assert extractor.digest() == "computed again"


def test_another_process_without_a_network_finds_the_cache_and_the_same_digest(build, folder, tmp_path):
    """A model in the hub's cache is used by its name with no question to the hub; its digest is that of the same files in a folder."""
    cached = tmp_path / "hub" / "models--someone--tiny-bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    shutil.copytree(folder("bert"), cached / "snapshots" / ("a" * 40))
    code = (
        "import sys\nfrom mmbench_extractors.text import HFText, HFTextConfig\nfrom mmbench_extractors.audio import HFAudio, HFAudioConfig\n"
        "print(HFText(HFTextConfig(model='someone/tiny-bert', max_tokens=32)).digest())\nprint(HFAudio(HFAudioConfig(model=sys.argv[1])).digest())"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONHASHSEED": "7"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code, folder("data2vec")], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [build("bert").digest(), build("data2vec").digest()]
    assert "Loading" not in done.stderr  # a progress bar
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("family", ALL)
def test_a_state_dict_comes_back_with_weights_only(build, family, tmp_path):
    extractor = build(family, finetune=True)
    with torch.no_grad():
        for parameter in extractor.parameters():
            parameter.mul_(1.1)
    torch.save(extractor.state_dict(), tmp_path / "state.pt")
    fresh = build(family)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.no_grad():
        tuned = extractor.eval()(batch(family)).values
    torch.testing.assert_close(fresh(batch(family)).values, tuned, atol=1e-5, rtol=1e-5)
    assert fresh.digest() == extractor.digest()


@pytest.mark.parametrize("family", ALL)
def test_half_precision(build, family):
    """bf16 autocast trains, and agrees with single precision as far as bf16 goes."""
    extractor = build(family, finetune=True)
    expected = extractor.eval()(batch(family)).values
    with torch.autocast("cpu", torch.bfloat16):
        found = extractor(batch(family)).values
    assert found.dtype == torch.float32
    assert (found - expected).norm() < 0.05 * expected.norm()
    with torch.autocast("cpu", torch.bfloat16):
        loss = extractor.train()(batch(family)).values.square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in extractor.parameters() if p.requires_grad)


@pytest.mark.parametrize("family", ["bert", "hubert"])
def test_checkpoints_in_half_precision_are_computed_in_single(build, folder, family, tmp_path):
    from transformers import AutoModel

    shutil.copytree(folder(family), tmp_path / "half")
    AutoModel.from_pretrained(folder(family)).bfloat16().save_pretrained(tmp_path / "half")
    extractor = build(family, model=str(tmp_path / "half"))
    assert {p.dtype for p in extractor.parameters()} == {torch.float32}


# Errors


def refuse(monkeypatch, error):
    """Let the hub answer with an error, and count the questions."""
    import huggingface_hub

    asked = []

    def model_info(self, name, timeout=None, **options):
        asked.append((name, timeout))
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


@pytest.mark.parametrize("family", ["bert", "wavlm"])
def test_a_name_that_cannot_be_had_is_one_error(build, family, monkeypatch):
    asked = refuse(monkeypatch, ConnectionError("no route to host"))
    with pytest.raises(ConfigError, match=r"'nobody/no-such-model': weights could not be had.*no route to host.*set `model` to its folder"):
        build(family, model="nobody/no-such-model")
    assert asked == [("nobody/no-such-model", 10.0)]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE is set"):
        build(family, model="nobody/no-such-model")
    assert len(asked) == 1


@pytest.mark.parametrize("family", ["bert", "wavlm"])
@pytest.mark.parametrize(
    "damage", ["empty", "no weights", "torn weights", "no preprocessing", "file", "gone", "strange", "fewer weights", "other shapes"]
)
def test_a_folder_that_is_no_model_is_one_error(build, folder, family, damage, tmp_path, monkeypatch):
    asked = refuse(monkeypatch, AssertionError("a path is no name"))
    path = tmp_path / "model"
    shutil.copytree(folder(family), path)
    weights = path / "model.safetensors"
    if damage == "empty":
        shutil.rmtree(path)
        path.mkdir()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "torn weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no preprocessing":
        for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
            (path / name).unlink(missing_ok=True)
    elif damage == "file":
        shutil.rmtree(path)
        path.write_text("a file")
    elif damage == "gone":
        shutil.rmtree(path)
    elif damage == "strange":
        (path / "config.json").write_text(json.dumps({"model_type": "no-such-network"}))
    elif damage == "other shapes":
        (path / "config.json").write_text((path / "config.json").read_text().replace('"intermediate_size": 24', '"intermediate_size": 32'))
    else:
        from safetensors.torch import load_file, save_file

        state = load_file(weights)
        name = next(name for name in state if name.endswith("attention.self.query.weight" if family == "bert" else "attention.q_proj.weight"))
        del state[name]
        save_file(state, weights, metadata={"format": "pt"})
    with pytest.raises(ConfigError) as caught:
        build(family, model=str(path))
    message = str(caught.value)
    assert message.startswith(f"hf-{'text' if family == 'bert' else 'audio'}: model {str(path)!r}: ")
    assert "\n" not in message
    assert len(message) < 700
    assert not asked
    if damage == "other shapes":
        assert "intermediate" in message
    if damage == "fewer weights":
        assert name.removeprefix("bert.") in message


def test_a_model_of_text_and_pictures_is_no_text_encoder(build, folder, vision_folder, tmp_path):
    shutil.copytree(folder("bert"), tmp_path, dirs_exist_ok=True)  # with a tokenizer
    shutil.copytree(vision_folder("clip"), tmp_path, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=r"'clip' network without one hidden size, .*; take a single encoder"):
        build("bert", model=str(tmp_path))


def test_a_model_of_another_kind_is_refused(build, folder, tmp_path):
    with pytest.raises(ConfigError, match=r"'hubert' network, which reads input_values, not input_ids; use hf-audio"):
        build("bert", model=folder("hubert"))
    with pytest.raises(ConfigError, match=r"'bert' network, which reads input_ids, not input_values; use hf-text"):
        build("hubert", model=folder("bert"))
    from transformers import AutoConfig, AutoModel

    sizes = {"d_model": 16, "d_ff": 16, "d_kv": 8, "num_layers": 1, "num_heads": 2, "vocab_size": 20}
    AutoModel.from_config(AutoConfig.for_model("t5", **sizes)).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="'t5' network, which reads encoder-decoder"):
        build("bert", model=str(tmp_path))


def test_a_sampling_rate_of_another_model_is_refused(build, folder, tmp_path):
    shutil.copytree(folder("wavlm"), tmp_path / "model")
    file = Path(tmp_path / "model" / "preprocessor_config.json")
    file.write_text(file.read_text().replace("16000", "24000"))
    with pytest.raises(ConfigError, match="reads 24000 Hz"):
        build("wavlm", model=str(tmp_path / "model"))


def test_the_progress_bars_of_others_are_left_as_they_were(build):
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        build("bert")
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
