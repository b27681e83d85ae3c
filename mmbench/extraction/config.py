"""What an extraction config may say, and whether this machine can do it. Imports no torch until the extractors are built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from mmbench.compose import compose, find_config
from mmbench.config import DataConfig, Named, Section
from mmbench.data.manifest import Manifest
from mmbench.errors import ConfigError
from mmbench.plugins import Catalogue, catalogue
from mmbench.resolve import Checker, Choice
from mmbench.strict_yaml import Document

MODALITIES = ("text", "audio", "vision")
TOKENS, ALIGNER = "tokens", "aligner"


class RawConfig(Section):
    """Which raw data: a folder with ``label.csv`` and recordings."""

    name: str = Field(description="a data set's manifest, by name or path")
    path: str | None = Field(None, description="the folder; default: looked for under --data-root")
    protocol: str | None = Field(None, description="one of the manifest's protocols; default: its first")
    part: str | None = Field(None, description="one part of a protocol that has several")


class ExtractConfig(Section):
    """One extraction: an extractor for each modality that is wanted."""

    data: RawConfig
    text: Named | None = Field(None, description="an extractor of features of the transcripts")
    tokens: Named | None = Field(None, description="an extractor of token ids of the transcripts, kept beside the features")
    audio: Named | None = Field(None, description="an extractor of features of the sound")
    vision: Named | None = Field(None, description="an extractor of features of the pictures")
    aligner: Named | None = Field(None, description="gives the times of words; with it an aligned data set is written too")
    max_length: dict[str, PositiveInt] = Field(
        default_factory=dict, description="by modality: keep at most this many frames in the unaligned data set; what is cut is counted"
    )


@dataclass(frozen=True)
class Plan:
    """A checked config. `choices`: by modality, ``tokens`` or ``aligner``, in that order, each a component with its hyperparameters."""

    manifest: Manifest
    data: DataConfig
    choices: dict[str, Choice]
    max_length: dict[str, int]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities whose features are extracted."""
        return tuple(name for name in MODALITIES if name in self.choices)


def load_plan(source: str | Path, overrides: Sequence[str] = (), known: Catalogue | None = None) -> Plan:
    """Read and check an extraction config. ConfigError: one line for each mistake, with its place."""
    document = compose(find_config(source), overrides)
    return check(document, known or catalogue())


def check(document: Document, known: Catalogue) -> Plan:
    """The plan that a composed config means. ConfigError: as of `load_plan`."""
    checker = Checker(document, known)
    if "model" in document.value:
        checker.problem((), "is the config of an experiment, which mmbench run carries out; one for mmbench extract names extractors")
        raise ConfigError("\n".join(checker.problems))
    config = checker.section(ExtractConfig, document.value, ())
    raw = config.data if config else None
    data = DataConfig(name=raw.name, path=raw.path, protocol=raw.protocol, part=raw.part) if raw else None
    manifest = checker.manifest(data)
    if manifest is not None and manifest.parts and not manifest.part:
        checker.problem(
            ("data",),
            f"{manifest.name} {manifest.protocol} has several parts, each a data set of its own: choose one with data.part: "
            f"{', '.join(manifest.parts)}. What is extracted for one is kept, so that the others cost next to nothing",
        )
    choices: dict[str, Choice] = {}
    for key in (*MODALITIES, TOKENS, ALIGNER):
        choice = checker.component("aligner" if key == ALIGNER else "extractor", (key,), set())
        if choice is not None:
            choices[key] = choice
            _check_choice(checker, key, choice, manifest)
    if not any(isinstance(document.value.get(key), dict) for key in (*MODALITIES, TOKENS)):
        checker.problem((), f"names no extractor; add at least one of {', '.join((*MODALITIES, TOKENS))}, for example audio: {{name: ...}}")
    if config and config.aligner and not any(getattr(config, key) for key in MODALITIES):
        checker.problem((ALIGNER,), f"has nothing to align: no extractor of {', '.join(MODALITIES)} is named")
    for name in config.max_length if config else ():
        if name not in MODALITIES or getattr(config, name) is None:
            checker.problem(("max_length", name), f"names the modality {name!r}, which is not extracted")
    checker.check_extras(list(choices.values()))
    if checker.problems or checker.missing or config is None or manifest is None or data is None:
        raise ConfigError("\n".join(dict.fromkeys([*checker.problems, *checker.missing])))
    return Plan(manifest, data, choices, dict(config.max_length))


def _check_choice(checker: Checker, key: str, choice: Choice, manifest: Manifest | None) -> None:
    component = choice.entry.component
    modality = "text" if key == TOKENS else key
    if key == ALIGNER:
        return
    if manifest is not None and modality not in manifest.modalities:
        checker.problem((key,), f"{manifest.name} has no modality {modality!r}; it has {', '.join(manifest.modalities)}")
    gives_tokens = TOKENS in choice.declared("provides")
    if component.modalities and modality not in component.modalities:
        checker.problem((key, "name"), f"extractor {component.name!r} is for {' and '.join(component.modalities)}, not for {modality}")
    elif not component.modalities and component.needs & {"tokens", "waveform", "frames"}:
        serves = {"tokens": "text", "waveform": "audio", "frames": "vision"}
        own = [serves[kind] for kind in sorted(component.needs) if kind in serves]
        if modality not in own:
            checker.problem((key, "name"), f"extractor {component.name!r} is for {' and '.join(own)}, not for {modality}")
    if key == TOKENS and not gives_tokens:
        checker.problem((key, "name"), f"extractor {component.name!r} gives features; what gives token ids says so in `mmbench show extractor`")
    if key != TOKENS and gives_tokens:
        checker.problem((key, "name"), f"extractor {component.name!r} gives token ids, not features; name it under {TOKENS}")
    if getattr(choice.config, "finetune", False):
        checker.problem((key, "finetune"), "an extractor is not trained here; remove it")


def options(choice: Choice) -> dict[str, Any]:
    """The hyperparameters of a component, JSON-ready."""
    return dict(choice.config.model_dump(mode="json"))
