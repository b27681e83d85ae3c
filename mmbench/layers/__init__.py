"""Layers that several methods need and torch lacks: masks kept, quick on a CPU, and no sum in half precision. For methods to import."""

from mmbench.layers.context import context_key_values
from mmbench.layers.fast_attention import attention
from mmbench.layers.fast_dropout import Dropout, dropout
from mmbench.layers.precision import at_least_float32, masked_mean, without_autocast
from mmbench.layers.ragged import by_length, slice_sizes
from mmbench.layers.temporal import TemporalProjection, adaptive_average, positioned, rank, sinusoids

__all__ = [
    "Dropout",
    "TemporalProjection",
    "adaptive_average",
    "at_least_float32",
    "attention",
    "by_length",
    "context_key_values",
    "dropout",
    "masked_mean",
    "positioned",
    "rank",
    "sinusoids",
    "slice_sizes",
    "without_autocast",
]
