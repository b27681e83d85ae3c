"""`covarep-mat`: what COVAREP's COVAREP_feature_extraction wrote about a recording, one row every 10 ms.

A file holds `features` (T, 74), and their `names`: F0, VUV, NAQ, QOQ, H1H2, PSP, MDQ, peakSlope, Rd, Rd_conf, creak, MCEP_0 to 24, HMPDM_0 to 24,
HMPDD_0 to 12 (Degottex et al. 2014).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmbench.errors import ConfigError, DataError
from mmbench_extractors.options_vision import COVAREP_WIDTH, COVAREPMatConfig
from mmbench_extractors.prepared import PreparedFeatures


class COVAREPMat(PreparedFeatures):
    """Values that are not finite (COVAREP writes -inf and NaN where a sound has no pitch, or none at all) are zeros."""

    component = "covarep-mat"
    suffixes = (".mat",)

    def __init__(self, config: COVAREPMatConfig):
        super().__init__(config)
        self.config = config
        self.columns = list(range(COVAREP_WIDTH) if config.columns is None else config.columns)
        self.width = len(self.columns)
        self.frame_rate = config.fps

    def facts(self) -> dict[str, Any]:
        """The columns and the rate."""
        return {"columns": self.columns, "fps": self.config.fps}

    def prepare(self, path_or_text: Path | str) -> Tensor:
        """A file as (T, width) float32. DataError: it is not COVAREP's, damaged, or of a kind that is not read."""
        values = _features(Path(path_or_text))[:, self.columns]  # (T, width)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        return torch.from_numpy(np.where(np.isfinite(values), values, np.float32(0)))


def _features(path: Path) -> np.ndarray:
    """(T, 74) float64, T >= 1."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ConfigError(f"covarep-mat: SciPy cannot be imported ({error}): pip install 'mmbench-extractors[covarep]'") from error
    try:
        with open(path, "rb") as file:
            found = loadmat(file, variable_names=["features"]).get("features")
    except FileNotFoundError:
        raise DataError(f"{path}: cannot be read: there is no such file") from None
    except NotImplementedError:
        raise DataError(
            f"{path}: is a MAT-file of version 7.3, which is not read; in MATLAB, load it and save it anew: save(name, 'features', '-v7')"
        ) from None
    except Exception as error:  # damaged bytes reach SciPy's reader as any error there is
        raise DataError(f"{path}: cannot be read as a MAT-file: damaged, cut short or none ({type(error).__name__}); run COVAREP anew") from None
    if found is None:
        raise DataError(f"{path}: holds no variable 'features', which COVAREP_feature_extraction writes")
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.ndim != 2 or found.shape[1] != COVAREP_WIDTH or not len(found):
        shape = f"{getattr(found, 'dtype', type(found).__name__)} {getattr(found, 'shape', '')}"
        raise DataError(f"{path}: 'features' is {shape}, not numbers of shape (T, {COVAREP_WIDTH}) with T >= 1, as COVAREP 1.4 writes them")
    return found.astype(np.float64)
