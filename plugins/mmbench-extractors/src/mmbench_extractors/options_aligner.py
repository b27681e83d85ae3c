"""Options of the aligner. Imports no torch."""

from __future__ import annotations

from mmbench import ComponentConfig
from mmbench_extractors.config import option


class CTCConfig(ComponentConfig):
    """A speech recogniser with a CTC head."""

    model: str = option(
        ...,
        "name on the Hugging Face hub, or a local folder: a CTC model that reads a 16 kHz waveform (wav2vec 2.0, HuBERT, WavLM, Data2Vec-audio) and "
        "spells letters, with its tokenizer and preprocessor_config.json",
        "no default",
        min_length=1,
    )
