"""The extractors of a plan, built once and checked, so that mistakes show before any work; and where each keeps its results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmbench.errors import ConfigError, MmbenchError
from mmbench.extraction.assemble import Spans
from mmbench.extraction.config import ALIGNER, TOKENS, Plan
from mmbench.extraction.worker import Stage, Task, compute
from mmbench.files import cache_folder
from mmbench.installing import how_to_install
from mmbench.media import VERSION
from mmbench.plugins import one_line
from mmbench.resolve import Choice

PROBE = "a good film"
PROBE_TASK = Task(0, "", None, PROBE, (), Path())


@dataclass
class Extractor:
    """One extractor, or the aligner, with what is known of it and what it did.

    `suffixes`: endings of the files that it reads; none: it reads transcripts (an aligner: nothing but words). `folder`: where its files lie, if not
    with the recordings. `rate`: frames per second, or None.
    """

    stage: Stage
    digest: str
    suffixes: tuple[str, ...]
    folder: str | None
    rate: float | None
    spans: Spans | None = None
    done: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0


def build(plan: Plan, folder: Path, device: str) -> dict[str, Extractor]:
    """The extractors by modality, ``tokens`` or ``aligner``. ConfigError, DataError: one cannot be built or does not suit the others."""
    if find_spec("torch") is None:
        raise ConfigError(f"extracting features needs torch, which is not installed: {how_to_install('mmbench[train]')}")
    chosen, found, problems = _device(device), {}, []
    for key, choice in plan.choices.items():
        try:
            found[key] = _extractor(plan, key, choice, folder, chosen)
        except MmbenchError as error:  # noqa: PERF203
            problems.append(error)
    if problems:
        raise type(problems[0])("\n".join(map(str, problems)))
    return found


def _extractor(plan: Plan, key: str, choice: Choice, folder: Path, device: str) -> Extractor:
    kind = {ALIGNER: "times", TOKENS: "tokens"}.get(key, "features")
    config = _seen_from(folder, choice.config) if key == ALIGNER else choice.config
    stage = Stage(key, kind, choice.entry, config, "cpu", Path())
    built = stage.build()
    parameters = getattr(built, "parameters", list)
    device = device if any(True for _ in parameters()) else "cpu"
    digest = built.digest()
    suffixes = tuple(getattr(built, "suffixes", ()))
    if key in ("audio", "vision") and not suffixes:
        raise ConfigError(f"{key}: {choice.entry.key} does not say which files it reads (suffixes), so it cannot be used here")
    spans = getattr(built, "spans", None) if key == "text" and ALIGNER in plan.choices else None
    if spans is not None and spans(PROBE) is None and len(compute(stage, built.eval(), PROBE_TASK)) > 1:
        raise ConfigError(
            f"{key}: {choice.entry.key} does not say for which words its frames stand (spans), so they cannot be aligned; remove aligner"
        )
    identity = json.dumps([VERSION, choice.entry.key, choice.entry.version, digest, device.partition(":")[0]])
    home = cache_folder() / "extracted" / hashlib.sha256(identity.encode()).hexdigest()[:32]
    stage = Stage(key, kind, choice.entry, config, device, home)
    rate = getattr(built, "frame_rate", None)
    return Extractor(stage, digest, suffixes, getattr(config, "folder", None), rate, spans)


def _seen_from(folder: Path, config: Any) -> Any:
    """An aligner's option `file`, if it has one, as a path seen from the raw folder."""
    own = getattr(config, "file", None)
    return config.model_copy(update={"file": str(folder / Path(own).expanduser())}) if isinstance(own, str) else config


def _device(name: str) -> str:
    try:
        import torch
    except Exception as error:
        raise ConfigError(f"torch cannot be imported: {one_line(error)[:300]}") from None
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"the device {name!r} was asked for, and torch {torch.__version__} sees no GPU here; use --device cpu")
    return name
