"""A plugin for tests of extraction: extractors that read bytes, and whose results can be computed by hand."""

from __future__ import annotations

from mmbench import Component, ComponentConfig, hookimpl


class SoundConfig(ComponentConfig):
    scale: float = 1.0
    folder: str | None = None


class TextConfig(ComponentConfig):
    most: int = 1000
    spans: bool = True


def _extractor(name, target, summary, config=None, **fields):
    return Component("extractor", name, f"extract_toy_parts:{target}", summary, config=config and f"extract_toys:{config}", **fields)


@hookimpl
def mmbench_components():
    tokens = frozenset({"tokens"})
    yield _extractor("toy-sound", "Sound", "bytes, ten per second", "SoundConfig", needs=frozenset({"waveform"}), modalities=("audio",))
    yield _extractor("toy-vector", "Vector", "one vector of a file", needs=frozenset({"features"}), modalities=("audio", "vision"))
    yield _extractor("toy-text", "Letters", "one frame for each letter", "TextConfig", needs=tokens)
    yield _extractor("toy-ids", "Ids", "one id for each letter", needs=tokens, provides=tokens)
