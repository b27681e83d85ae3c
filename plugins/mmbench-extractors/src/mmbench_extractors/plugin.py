"""Entry module: declares the extractors. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """One encoder for text and one for speech; which network each holds is its option `model`."""
    yield Component(
        kind="extractor",
        name="hf-text",
        target="mmbench_extractors.text:HFText",
        config="mmbench_extractors.config:HFTextConfig",
        summary="a Hugging Face text encoder (BERT, RoBERTa, DeBERTa and others): token ids to hidden states",
        paper="Devlin et al., BERT (2019); Liu et al., RoBERTa (2019); He et al., DeBERTa (2021); Cui et al., Chinese BERT-wwm (2021)",
        needs=frozenset({"tokens"}),
    )
    yield Component(
        kind="extractor",
        name="hf-audio",
        target="mmbench_extractors.audio:HFAudio",
        config="mmbench_extractors.config:HFAudioConfig",
        summary="a Hugging Face speech encoder (Data2Vec-audio, HuBERT, wav2vec 2.0, WavLM): 16 kHz waveform to frames",
        paper="Baevski et al., wav2vec 2.0 (2020); Hsu et al., HuBERT (2021); Baevski et al., data2vec (2022); Chen et al., WavLM (2022)",
        needs=frozenset({"waveform"}),
    )
