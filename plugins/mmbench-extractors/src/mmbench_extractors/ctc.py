"""The aligner `ctc`: when each word is said, by the best path of a speech recogniser through the letters of the transcript."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmbench.errors import ConfigError, DataError
from mmbench.installing import how_to_install
from mmbench.media import AUDIO, VIDEO
from mmbench_extractors.encoder import NO_FEATURE
from mmbench_extractors.loading import Source, explain, import_transformers
from mmbench_extractors.options_aligner import CTCConfig
from mmbench_extractors.options_audio import RATE
from mmbench_extractors.waveform import read_waveform

VERSION = 1
"""Version of the rules below; another version is other times."""


class CTCAligner(nn.Module):
    """Forced alignment with any Hugging Face CTC model (Graves et al., Connectionist Temporal Classification, 2006).

    A word lasts from its first letter's first frame to the end of its last letter's last frame. Letters that the model does not know, in either
    case, are left out; words without a letter that it knows share the time between their neighbours. Raises `ConfigError`: no such model.
    """

    suffixes: ClassVar[tuple[str, ...]] = (*AUDIO, *VIDEO)

    def __init__(self, config: CTCConfig):
        super().__init__()
        source, transformers = Source("ctc", config.model), import_transformers()
        self.network, self._identity = _load(source, transformers)
        preprocessor = source.load(transformers.AutoFeatureExtractor)
        if preprocessor.sampling_rate != RATE:
            raise ConfigError(f"ctc: model {config.model!r} reads {preprocessor.sampling_rate} Hz; waveforms here are {RATE} Hz")
        self.normalised: bool = preprocessor.do_normalize
        tokenizer = source.load(transformers.AutoTokenizer)
        self.letters: dict[str, int] = {token: number for token, number in tokenizer.get_vocab().items() if len(token) == 1}
        self.blank: int = self.network.config.pad_token_id or 0
        self.between: int | None = tokenizer.get_vocab().get(getattr(tokenizer, "word_delimiter_token", None) or "|")
        self.letters = {letter: number for letter, number in self.letters.items() if number not in (self.blank, self.between)}
        if not any(map(str.isalpha, self.letters)):
            raise ConfigError(f"ctc: model {config.model!r}: its tokenizer knows no single letters; take a CTC model that spells")
        self.stride: int = self.network.config.inputs_to_logits_ratio
        self.window = 1
        for kernel, stride in zip(reversed(self.network.config.conv_kernel), reversed(self.network.config.conv_stride), strict=True):
            self.window = (self.window - 1) * stride + kernel

    def digest(self) -> str:
        """SHA-256 of the weights, the letters, and the rules."""
        config = {name: value for name, value in self._identity.items() if name not in NO_FEATURE}
        facts = [VERSION, config, sorted(self.letters.items()), self.blank, self.between, self.normalised]
        found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, value in sorted(self.network.state_dict().items()):
            found.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    @torch.no_grad()
    def emissions(self, waveform: Tensor) -> Tensor:
        """(n,) at 16 kHz -> (T, letters) log probabilities on the CPU; zero mean and unit variance first, where the model was trained so."""
        if self.normalised:
            waveform = (waveform - waveform.mean()) * (waveform.var(correction=0) + 1e-7).rsqrt()
        waveform = nn.functional.pad(waveform, (0, max(0, self.window - len(waveform))))
        device = next(self.network.parameters()).device
        logits: Tensor = self.network.eval()(input_values=waveform.unsqueeze(0).to(device)).logits[0]  # (T, letters)
        return logits.float().log_softmax(-1).cpu()

    def align(self, clip: str, path: Path | None, words: list[str]) -> np.ndarray:
        """(W, 2) seconds. DataError: the recording cannot be read, or is too short for the words."""
        if path is None:
            raise DataError(f"{clip}: has no recording")
        waveform = read_waveform(path)
        spelled = [self._spell(word) for word in words]
        spans = self._spans(waveform, spelled) if any(spelled) else {}
        return _filled(spans, len(words), len(waveform) / RATE)

    def _spell(self, word: str) -> list[int]:
        """The ids of the letters that the model knows, each as it is, or in the other case."""
        found = []
        for letter in word:
            known = next((each for each in (letter, letter.upper(), letter.lower()) if each in self.letters), None)
            if known is not None:
                found.append(self.letters[known])
        return found

    def _spans(self, waveform: Tensor, spelled: list[list[int]]) -> dict[int, tuple[float, float]]:
        """Start and end in seconds of each word that has letters, by its place."""
        forced_align, merge_tokens = _functions()
        emissions = self.emissions(waveform)
        targets: list[int] = []
        owner: list[int] = []  # the word of each target, -1 between words
        for i, letters in enumerate(spelled):
            if letters and targets and self.between is not None:
                targets.append(self.between)
                owner.append(-1)
            targets += letters
            owner += [i] * len(letters)
        needed = len(targets) + sum(a == b for a, b in pairwise(targets))
        if needed > len(emissions):
            raise DataError(
                f"the transcript has {len(targets)} letters, for which the model needs {needed} frames; "
                f"the recording of {len(waveform) / RATE:.2f} s has {len(emissions)}: do they belong together?"
            )
        path, scores = forced_align(emissions.unsqueeze(0), torch.tensor([targets]), blank=self.blank)
        spans: dict[int, tuple[float, float]] = {}
        most, step = len(waveform) / RATE, self.stride / RATE
        for word, span in zip(owner, merge_tokens(path[0], scores[0], blank=self.blank), strict=True):
            if word >= 0:
                start = spans[word][0] if word in spans else min(span.start * step, most)
                spans[word] = start, min(span.end * step, most)
        return spans


def _filled(spans: dict[int, tuple[float, float]], count: int, seconds: float) -> np.ndarray:
    """(count, 2): words without times of their own divide the time between their neighbours evenly."""
    times = np.zeros((count, 2))
    known = [-1, *sorted(spans), count]
    for before, after in pairwise(known):
        start = spans[before][1] if before >= 0 else 0.0
        end = spans[after][0] if after < count else seconds
        edges = np.linspace(start, max(start, end), after - before)
        times[before + 1 : after] = np.stack([edges[:-1], edges[1:]], axis=1)
        if after < count:
            times[after] = spans[after]
    return times


def _load(source: Source, transformers: Any) -> tuple[Any, dict[str, Any]]:
    """The network in float32 and its config. ConfigError: no CTC model, one of another input, or one without its head."""
    config = source.load(transformers.AutoConfig)
    if not hasattr(config, "inputs_to_logits_ratio") or not hasattr(config, "conv_kernel"):
        raise ConfigError(f"ctc: model {source.name!r} is a {config.model_type!r} network, which reads no waveform; take wav2vec 2.0 or its like")
    network, info = source.load(transformers.AutoModelForCTC, output_loading_info=True, weights_only=True)
    missing = sorted(key for key in info["missing_keys"] if "masked_spec_embed" not in key)
    if missing:
        raise ConfigError(
            f"ctc: model {source.name!r}: {len(missing)} weights are missing in its checkpoint, and would be random: {', '.join(missing[:3])}; "
            "take a model that was fine-tuned to recognise speech with CTC"
        )
    return network.float().eval(), config.to_dict()


def _functions() -> tuple[Any, Any]:
    try:
        from torchaudio.functional import forced_align, merge_tokens
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigError(f"ctc needs torchaudio, which cannot be loaded: {explain(error)}; {how_to_install('mmbench-extractors[audio]')}") from error
    return forced_align, merge_tokens
