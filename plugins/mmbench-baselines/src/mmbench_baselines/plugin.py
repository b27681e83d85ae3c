"""Entry module: the components of all baselines, each declared beside its hyperparameters. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl
from mmbench_baselines.ef_lstm.config import COMPONENTS as EF_LSTM
from mmbench_baselines.lf_dnn.config import COMPONENTS as LF_DNN
from mmbench_baselines.lmf.config import COMPONENTS as LMF
from mmbench_baselines.misa.config import COMPONENTS as MISA
from mmbench_baselines.mmim.config import COMPONENTS as MMIM
from mmbench_baselines.mult.config import COMPONENTS as MULT
from mmbench_baselines.self_mm.config import COMPONENTS as SELF_MM
from mmbench_baselines.tfn.config import COMPONENTS as TFN

METHODS: tuple[tuple[Component, ...], ...] = (
    MULT,
    MISA,
    SELF_MM,
    MMIM,
    TFN,
    LMF,
    EF_LSTM,
    LF_DNN,
)


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """The backbones, and the losses that belong to them."""
    for components in METHODS:
        yield from components
