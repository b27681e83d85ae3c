"""`opensmile`: openSMILE's feature sets. The Python package is MIT; openSMILE inside it is licensed for research and personal use only."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ConfigError, DataError
from mmbench.media import AUDIO, VIDEO, read_audio
from mmbench_extractors.options_audio import OpensmileConfig
from mmbench_extractors.prepared import PreparedFeatures

FRAME_RATE = 100.0  # of the low-level descriptors of all sets here


class Opensmile(PreparedFeatures):
    """eGeMAPS, GeMAPS, ComParE or emobase: each 10 ms (`lld`), or one frame of statistics (`functionals`). `prepare` does all the work.

    Recordings keep their sampling rate, as openSMILE reads them. What it leaves undefined (NaN), such as all values of a clip that is shorter
    than its window of 60 ms, becomes 0.
    """

    component = "opensmile"
    suffixes = (*AUDIO, *VIDEO)

    def __init__(self, config: OpensmileConfig):
        super().__init__(config)
        self.config = config
        try:
            import opensmile
        except (ImportError, OSError) as error:
            raise ConfigError(f"{self.component}: the package opensmile cannot be imported ({error}): pip install opensmile") from error
        level = "LowLevelDescriptors" if config.level == "lld" else "Functionals"
        self.smile: Any = opensmile.Smile(opensmile.FeatureSet[config.feature_set], opensmile.FeatureLevel[level], num_workers=1)
        self.width = int(self.smile.num_features)
        self.frame_rate = FRAME_RATE if config.level == "lld" else None
        self.release = str(opensmile.__version__)

    def facts(self) -> dict[str, Any]:
        """The options, and the release that holds openSMILE's configurations."""
        return {**self.config.model_dump(), "release": self.release}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """The features of the sound of a file or a video: (T, width), or (1, width) of `functionals`; float32, finite. `DataError`: unreadable."""
        path = Path(path_or_text)
        samples, rate = read_audio(path)
        if not np.isfinite(samples).all():
            raise DataError(f"{path}: holds samples that are not finite; write it anew as integers, or from its source")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Segment too short")
                found = self.smile.process_signal(samples, rate).to_numpy(np.float32)  # (T, width)
        except Exception as error:
            raise DataError(f"{path}: openSMILE ends with {type(error).__name__}: {' '.join(str(error).split()):.300}") from error
        return torch.from_numpy(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0))
