"""A text encoder inside the loop: fine-tuned with padding, trimmed and packed, and frozen with its features in the cache.

    python benchmarks/encoders.py                              # a random encoder of BERT's base size; 6 GB of memory
    python benchmarks/encoders.py --layers 4 --width 256

The encoder is built here with random weights, since only its shape matters for time. Lengths are drawn to the mean that tokenised CMU-MOSI is taken
to have (15.5 of 50; an assumption, and what trimming gains depends on it).
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from measure import CORES, Budget, child, machine, options, record, recorded, spread, timed

CONFIGS = ("misa_mosi", "decalign_mosi", "self_mm_mosi")
FRAMES = 50


@click.command()
@click.argument("configs", nargs=-1)
@click.option("--layers", default=12, show_default=True)
@click.option("--width", default=768, show_default=True)
@click.option("--mean-length", default=15.5, show_default=True, help="Mean number of tokens, special ones included.")
@click.option("--steps", default=2, show_default=True, help="Timed steps of each way, taken in turn.")
@click.option("--minutes", default=2.0, show_default=True, help="After so many no other config is begun.")
@click.option("--child", "request", hidden=True)
@options(threads=CORES)
def main(
    configs: tuple[str, ...],
    layers: int,
    width: int,
    mean_length: float,
    steps: int,
    minutes: float,
    request: str | None,
    threads: int,
    out: Path,
    quick: bool,
) -> None:
    """Measure CONFIGS with an encoder of their text that is trained with them, and the first of them with a frozen one."""
    if request is not None:
        click.echo(json.dumps(answer(json.loads(request))))
        return
    configs = configs or CONFIGS
    if quick:
        configs, layers, width, steps = configs[:1], 1, 32, 1
    budget = Budget(minutes)
    settings = {"layers": layers, "width": width, "mean_length": mean_length, "steps": steps}
    earlier = recorded(out, "encoders", **settings)
    rows: list[dict[str, Any]] = earlier["rows"] if earlier and earlier["threads"] == threads else []
    done = {(row["config"], row["finetune"]) for row in rows}
    cases = [(configs[0], True), (configs[0], False), *((config, True) for config in configs[1:])]
    left = [case for case in cases if case not in done]
    with tempfile.TemporaryDirectory() as folder:
        if left:
            build_encoder(Path(folder) / "encoder", layers, width)
        while left and not budget.over():
            config, finetune = left.pop(0)
            overrides = [
                "data.simulated=true",
                "data.features=aligned",
                f"data.samples={80 if quick else 300}",
                "training.batch_size=32",
                "training.accumulation=1",
                f"training.threads={threads}",
            ]
            asked = {"config": config, "overrides": overrides, "encoder": f"{folder}/encoder", "mean_length": mean_length, "steps": steps}
            found = child(__file__, {**asked, "finetune": finetune}, threads, quick, f"{folder}/cache")
            rows.append({"config": config, "finetune": finetune, **found})
            for name, value in rows[-1].items():
                click.echo(f"{name:20} {value}")
            record(out, "encoders", threads, quick, rows, whole=not left, **settings)
    if left:
        click.echo(f"{len(left)} of {len(cases)} are left for another call: the {minutes:g} minutes are over")


def build_encoder(folder: Path, layers: int, width: int) -> None:
    """A BERT with random weights and a tokenizer of a few words, as `save_pretrained` writes them."""
    import torch
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordPiece
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    vocabulary = {token: number for number, token in enumerate([*special.values(), "the", "film", "was", "good"])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": 4 * width,
    }
    BertModel(BertConfig(**sizes)).save_pretrained(folder)


def opened(config: str, overrides: list[str], mean_length: float) -> tuple[Any, Any]:
    """A config and its simulated data, the text cut to lengths that are drawn: 3 and an exponential variable, at most all frames."""
    from mmbench.resolve import load
    from mmbench.runner import open_data

    (resolved,) = load(config, overrides)
    dataset = open_data(resolved)
    splits = {}
    for name, split in dataset.splits.items():
        lengths = 3 + np.random.default_rng(len(name)).exponential(mean_length - 3, len(split))
        mask = np.arange(FRAMES) < np.minimum(lengths, FRAMES)[:, None]
        text = split.inputs["text"]
        values = text.values * (mask if text.values.ndim == 2 else mask[..., None])
        splits[name] = dataclasses.replace(split, inputs={**split.inputs, "text": dataclasses.replace(text, values=values, mask=mask)})
    return resolved, dataclasses.replace(dataset, splits=splits)


def encoder_setting(encoder: str, finetune: bool) -> str:
    """The override that puts the encoder before a model."""
    return f"model.encoders.text={{name: hf-text, model: {json.dumps(encoder)}, finetune: {str(finetune).lower()}}}"


def finetuned(config: str, overrides: list[str], encoder: str, mean_length: float, steps: int) -> dict[str, Any]:
    """A step with the encoder in it, on the same batches: padded, trimmed to the longest sample, as the loop has them, and so in bf16."""
    import torch
    from stepping import Stepper, full_batches
    from torch.nn import functional as F

    from mmbench.batch import Sequence
    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.tensors import TensorSplit

    resolved, dataset = opened(config, [*overrides, encoder_setting(encoder, True)], mean_length)
    encoders = build_encoders(resolved)
    dataset = prepare(dataset, ("train",), encoders, torch.device("cpu"))
    train = TensorSplit(dataset.splits["train"], torch.device("cpu"))
    stepper = Stepper(resolved, dataset.input_spec(), train.target, encoders)
    full = stepper.training
    half = full.model_copy(update={"precision": "bf16"})
    fast = bool({"avx512_bf16", "amx_bf16"} & set(machine()["instructions"]))
    batches = full_batches(train, full.batch_size, 2)

    def text(batch: Any, padded: bool) -> Any:
        """The same batch without what is known of its lengths, so that the encoder sees it whole."""
        values, mask = batch.inputs["text"].values, batch.inputs["text"].mask
        missing = FRAMES - mask.shape[1] if padded else 0
        sequence = Sequence(F.pad(values, (0, missing)), F.pad(mask, (0, missing)))
        return dataclasses.replace(batch, inputs={**batch.inputs, "text": sequence})

    ways = {
        "padded": ([text(batch, True) for batch in batches], full),
        "trimmed": ([text(batch, False) for batch in batches], full),
        "packed": (batches, full),
        **({"packed, bf16": (batches, half)} if fast else {}),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(steps + 1):
        for name, (own, training) in ways.items():
            stepper.training = training
            times[name].append(timed(partial(stepper, own[turn % len(own)])))
    found = {name: spread(seconds[1:]) for name, seconds in times.items()}
    return {"steps": found, "gain": {name: round(found["padded"]["median_ms"] / own["median_ms"], 2) for name, own in found.items()}, "bf16": fast}


def frozen(config: str, overrides: list[str], encoder: str, mean_length: float, steps: int) -> dict[str, Any]:
    """Epochs on the cached features of a frozen encoder and on precomputed features of the same shape, in turn; and what the cache costs."""
    import torch
    from stepping import Stepper

    from mmbench.training.encoders import build_encoders, prepare
    from mmbench.training.seeds import order
    from mmbench.training.tensors import TensorSplit

    resolved, raw = opened(config, [*overrides, encoder_setting(encoder, False)], mean_length)
    device = torch.device("cpu")
    torch.set_num_threads(resolved.experiment.training.threads)
    encoders = build_encoders(resolved)
    first = timed(lambda: prepare(raw, ("train",), encoders, device))
    again = timed(lambda: prepare(raw, ("train",), encoders, device))
    runs = {}
    for name, (own, dataset, used) in {
        "frozen": (resolved, prepare(raw, ("train",), encoders, device), encoders),
        "precomputed": (*opened(config, overrides, mean_length), None),
    }.items():
        train = TensorSplit(dataset.splits["train"], device)
        runs[name] = (Stepper(own, dataset.input_spec(), train.target, used), train)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(3 * steps + 1):
        for name, (stepper, train) in runs.items():
            batches = train.batches(stepper.training.batch_size, order(1, turn, train.size))
            times[name].append(timed(lambda stepper=stepper, batches=batches: [stepper(batch) for batch in batches]))  # type: ignore[misc]
    ratio = statistics.median(times["frozen"][1:]) / statistics.median(times["precomputed"][1:])
    epochs = {name: spread(seconds[1:]) for name, seconds in times.items()}
    return {"epochs": epochs, "ratio": round(ratio, 3), "samples": train.size, "first_s": round(first, 2), "cached_s": round(again, 2)}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What a child process is asked for."""
    return (finetuned if request.pop("finetune") else frozen)(**request)


if __name__ == "__main__":
    main()
