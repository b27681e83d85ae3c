"""One training step of each peer's implementation, driven as its own trainer drives it; only imports, no code of theirs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import torch
from torch import Tensor, nn

Step = Callable[[int], None]
DECALIGN_ALPHA, DECALIGN_BETA, DECALIGN_CLIP = 0.05, 0.07, 0.6  # of its config for CMU-MOSI


class Settings(dict[str, Any]):
    """A peer's settings, read as keys and as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def version(folder: Path, package: str) -> str:
    """The version of an unpacked wheel or of an environment's package; unknown for a checkout."""
    found = sorted(folder.glob(f"{package}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").split("-")[1] if found else "unknown"


def mmsa(method: str, layout: str, batches: list[dict[str, Tensor]], targets: Tensor, bert: Path | None, folder: Path) -> Step:
    """A step of MMSA's tfn, lmf, mult, misa or self_mm: zero_grad, forward, losses, backward, clip, Adam. `targets`: (N,), of the split."""
    known = json.loads((folder / "MMSA" / "config" / "config_regression.json").read_text(encoding="utf-8"))
    data, settings = known["datasetCommonParams"]["mosi"][layout], known[method]
    given: dict[str, Any] = {"model_name": method, "dataset_name": "mosi", "train_mode": "regression", "device": "cpu", "pretrained": str(bert)}
    given |= {"need_data_aligned": layout == "aligned", "train_samples": len(targets)}
    args = Settings({**data, **settings["commonParams"], **settings["datasetParams"]["mosi"], **given})
    _import_bare("MMSA", folder)
    from MMSA.models.AMIO import AMIO

    uses_bert = args.get("use_bert", False)
    args.feature_dims[:] = [768 if name == "text" and uses_bert else batches[0][name].shape[-1] for name in ("text", "audio", "vision")]
    if args.get("need_normalized"):  # there, done when the file is read
        batches = [{**batch, **{name: batch[name].mean(1, keepdim=True) for name in ("audio", "vision")}} for batch in batches]
    if uses_bert:
        batches = [{**batch, "text": _bert_input(batch).float()} for batch in batches]
    torch.manual_seed(1)
    model = AMIO(args).train()
    loss_of = {"misa": _misa_loss, "self_mm": _self_mm_loss}.get(method, _l1)(args, model, targets)
    optimizer = _mmsa_optimizer(method, args, model)
    trained = [p for p in model.parameters() if p.requires_grad]

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss, after = loss_of(batches[number % len(batches)])
        loss.backward()
        if args.get("grad_clip", -1.0) != -1.0:
            nn.utils.clip_grad_value_(trained, args.grad_clip)
        loss.item()
        after()
        optimizer.step()

    return step


def decalign(settings: Mapping[str, Any], training: Any, batches: list[dict[str, Tensor]], bert: Path | None, folder: Path) -> Step:
    """A step of DecAlign's released code, of 2026-05 or later. `settings`: its names for its sizes and rates."""
    _import_bare("models", folder)
    from models.model import DecAlign

    if bert is not None:
        batches = [{**batch, "text": _bert_input(batch)} for batch in batches]
    fixed = {"dataset_name": "mosi", "train_mode": "regression", "attn_mask": True, "transformers": "bert", "pretrained": str(bert)}
    fixed |= {"use_bert": bert is not None, "use_finetune": True, "use_sequence_mask": bert is not None}
    torch.manual_seed(1)
    model = DecAlign(Settings({**settings, **fixed})).train()
    if not hasattr(model, "pde_l"):
        raise click.UsageError(f"--decalign {folder}: this is the code before its rewrite of 2026-05, another model; update the checkout")
    optimizer = torch.optim.Adam(model.parameters(), lr=training.optimizer.lr, weight_decay=training.optimizer.weight_decay)
    criterion = nn.MSELoss()

    def step(number: int) -> None:
        batch = batches[number % len(batches)]
        model.zero_grad()
        outputs = model(batch["text"], batch["audio"], batch["vision"])
        loss = criterion(outputs["output_logit"].view(-1), batch["target"].view(-1))
        loss = loss + outputs["dec_loss"] + DECALIGN_ALPHA * outputs["hete_loss"] + DECALIGN_BETA * outputs["homo_loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), DECALIGN_CLIP)
        optimizer.step()
        loss.item()

    return step


def _bert_input(batch: Mapping[str, Tensor]) -> Tensor:
    """Token ids, mask and segments as both peers read them: (B, 3, T)."""
    mask = batch["text_mask"].long()
    return torch.stack([batch["text"], mask, torch.zeros_like(mask)], 1)


def _l1(args: Settings, model: nn.Module, targets: Tensor) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, Callable[[], None]]]:
    criterion = nn.L1Loss()
    return lambda batch: (criterion(model(batch["text"], batch["audio"], batch["vision"])["M"], batch["target"]), lambda: None)


def _misa_loss(args: Settings, model: nn.Module, targets: Tensor) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, Callable[[], None]]]:
    from MMSA.trains.singleTask.MISA import MISA

    trainer = MISA(args)
    trainer.model = model

    def loss(batch: Mapping[str, Tensor]) -> tuple[Tensor, Callable[[], None]]:
        value = trainer.criterion(model(batch["text"], batch["audio"], batch["vision"])["M"], batch["target"])
        value = value + args.diff_weight * trainer.get_diff_loss() + args.sim_weight * trainer.get_cmd_loss()
        return value + args.recon_weight * trainer.get_recon_loss(), lambda: None

    return loss


def _self_mm_loss(args: Settings, model: nn.Module, targets: Tensor) -> Callable[[Mapping[str, Tensor]], tuple[Tensor, Callable[[], None]]]:
    from MMSA.trains.multiTask.SELF_MM import SELF_MM

    trainer = SELF_MM(args)
    trainer.init_labels(torch.arange(len(targets)), targets)

    def loss(batch: Mapping[str, Tensor]) -> tuple[Tensor, Callable[[], None]]:
        lengths = {name: batch[f"{name}_mask"].sum(1) for name in ("audio", "vision")}
        outputs = model(batch["text"], (batch["audio"], lengths["audio"]), (batch["vision"], lengths["vision"]))
        index, names = batch["index"], trainer.name_map
        parts = [trainer.weighted_loss(outputs[m], trainer.label_map[names[m]][index], indexes=index, mode=names[m]) for m in "MTAV"]
        features = [outputs[f"Feature_{m}"].detach() for m in "ftav"]

        def after() -> None:
            trainer.update_labels(*features, 2, index, {name: output.detach() for name, output in outputs.items()})
            trainer.update_features(*features, index)
            trainer.update_centers()

        return torch.stack(parts).sum(), after

    return loss


def _mmsa_optimizer(method: str, args: Settings, model: Any) -> torch.optim.Optimizer:
    parameters = list(model.parameters())
    if method == "tfn":
        return torch.optim.Adam(parameters[2:], lr=args.learning_rate)
    if method == "lmf":
        groups = [{"params": parameters[:3], "lr": args.factor_lr}, {"params": parameters[5:], "lr": args.learning_rate}]
        return torch.optim.Adam(groups, weight_decay=args.weight_decay)
    if method == "self_mm":
        parts = {"bert": model.Model.text_model, "audio": model.Model.audio_model, "video": model.Model.video_model}
        inside = {id(p) for part in parts.values() for p in part.parameters()}
        members = {name: list(part.parameters()) for name, part in parts.items()}
        members["other"] = [p for p in parameters if id(p) not in inside]
        groups = [{"params": p, "lr": args[f"learning_rate_{name}"], "weight_decay": args[f"weight_decay_{name}"]} for name, p in members.items()]
        return torch.optim.Adam(groups)
    return torch.optim.Adam(parameters, lr=args.learning_rate)


def _import_bare(name: str, folder: Path) -> None:
    """Make the modules of a package importable without its own ``__init__``, which may want what a model does not need."""
    if name in sys.modules:
        return
    module = ModuleType(name)
    module.__path__ = [str(folder / name)]
    sys.modules[name] = module
    sys.path.insert(0, str(folder))
    if "pynvml" not in sys.modules and importlib.util.find_spec("pynvml") is None:
        sys.modules["pynvml"] = ModuleType("pynvml")  # MMSA's choice of a GPU, which nothing here asks for
