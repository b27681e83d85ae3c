"""The harness of `benchmarks/peers.py`, with a stand-in for a peer's code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("mmbench_decalign")

STAND_IN = """
import torch

SEEN = []


class DecAlign(torch.nn.Module):
    def __init__(self, args):
        super().__init__()
        self.pde_l = torch.nn.Linear(args.feature_dims[0], 1)

    def forward(self, text, audio, video):
        SEEN.append((tuple(text.shape), tuple(audio.shape), tuple(video.shape)))
        zero = text.new_zeros(())
        return {"output_logit": self.pde_l(text.mean(1)), "dec_loss": zero, "hete_loss": zero, "homo_loss": zero}
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    import peers

    return peers


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.py").write_text(STAND_IN, encoding="utf-8")
    for name in ("models", "models.model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_folder_without_the_peers_code_is_refused_by_what_is_missing(peers: ModuleType, tmp_path: Path) -> None:
    result = CliRunner().invoke(peers.main, ["--mmsa", str(tmp_path), "--only", "tfn"])
    assert result.exit_code == 2
    assert f"--mmsa {tmp_path}: there is no MMSA/config/config_regression.json in it" in result.output


def test_a_case_says_which_folders_it_needs(peers: ModuleType) -> None:
    result = CliRunner().invoke(peers.main, ["--only", "misa_bert"])
    assert result.exit_code == 2
    assert "misa_bert needs --mmsa FOLDER and --bert FOLDER" in result.output


@pytest.mark.parametrize(("lengths", "least", "most"), [("short", 0.2, 0.45), ("full", 1.0, 1.0)])
def test_theirs_gets_the_same_rows_padded_and_ours_the_real_lengths(
    peers: ModuleType, checkout: Path, lengths: str, least: float, most: float
) -> None:
    import torch

    run = peers.Run("decalign", lengths, {"decalign": checkout, "threads": 1, "precision": "fp32", "bert": None})
    data = peers.Data(run, 64)
    peers._peer(run, data)(0)
    peers._ours(run, data)(0)
    assert sys.modules["models.model"].SEEN == [((32, 50, 768), (32, 50, 5), (32, 50, 20))]
    for batch, padded in zip(data.batches, data.padded(), strict=True):
        text = batch.inputs["text"]
        length = text.values.shape[1]
        assert torch.equal(text.values, padded["text"][:, :length])
        assert not padded["text_mask"][:, length:].any()
        assert torch.equal(batch.target, padded["target"].squeeze(1))
        assert least <= padded["text_mask"].float().mean() <= most
