"""What every backbone does with its inputs first."""

from __future__ import annotations

from mmbench.batch import Sequence
from mmbench.interfaces import InputSpec


def require_features(model: str, inputs: InputSpec) -> None:
    """ValueError where a modality of the data is not a sequence of features."""
    for name, modality in inputs.modalities.items():
        if modality.kind != "features":
            raise ValueError(
                f"{model} reads features, but modality '{name}' is {modality.kind}: give it an encoder (model.encoders.{name}) or extracted features"
            )


def cleaned(x: Sequence) -> Sequence:
    """Zeros in place of the frames that are not real, whatever they held: (B, T, D) -> (B, T, D)."""
    return Sequence(x.values.masked_fill(~x.mask.unsqueeze(-1), 0.0), x.mask)
