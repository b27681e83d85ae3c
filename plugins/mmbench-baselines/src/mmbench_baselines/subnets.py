"""The networks of single modalities that TFN, LMF and LF-DNN share (Zadeh et al. 2017, section 4.1).

Differs from the widely used implementation: averages over time, the LSTM's last state and the statistics of the batch normalisation leave
padding out (there, a time mean divides by the padded length and the LSTM reads on into the zeros), and a batch of one is legal.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmbench.batch import Sequence
from mmbench.interfaces import FieldSpec, InputSpec
from mmbench.layers import Dropout, masked_mean
from mmbench_baselines.features import cleaned
from mmbench_baselines.recurrent import LSTM

TEXT = "text"


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the samples that are real: (B, D) and (B, 1) bool -> (B, D). The others become the learnt shift.

    With fewer than two real samples, a training batch is normalised by the running statistics, which then stay as they are.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, x: Tensor, real: Tensor) -> Tensor:  # type: ignore[override]
        weight = real.to(x.dtype)
        mean, var = self.running_mean, self.running_var
        if self.training and x.shape[0] > 1:
            count = weight.sum()
            several = count > 1
            batch_mean = (x * weight).sum(0) / count.clamp(min=1.0)
            batch_var = ((x - batch_mean).square() * weight).sum(0) / count.clamp(min=1.0)
            mean, var = torch.where(several, batch_mean, mean), torch.where(several, batch_var, var)
            with torch.no_grad():
                step = self.momentum * several.to(x.dtype)
                self.running_mean.lerp_(batch_mean, step)
                self.running_var.lerp_(batch_var * (count / (count - 1).clamp(min=1.0)), step)
        return (x - mean) * torch.rsqrt(var + self.eps) * weight * self.weight + self.bias


class MeanNetwork(nn.Module):
    """Mean over time → batch normalisation → dropout → three layers Linear, ReLU: (B, T, D) -> (B, H)."""

    def __init__(self, inputs: int, width: int, rate: float):
        super().__init__()
        self.norm = BatchNorm(inputs)
        self.layers = nn.Sequential(
            Dropout(rate), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, x: Sequence) -> Tensor:
        output: Tensor = self.layers(self.norm(masked_mean(cleaned(x)), x.mask.any(1, keepdim=True)))
        return output


class TextNetwork(nn.Module):
    """Last state of an LSTM → dropout → Linear: (B, T, D) -> (B, O)."""

    def __init__(self, inputs: int, width: int, outputs: int, rate: float):
        super().__init__()
        self.lstm = LSTM(inputs, width)
        self.head = nn.Sequential(Dropout(rate), nn.Linear(width, outputs))

    def forward(self, x: Sequence) -> Tensor:
        output: Tensor = self.head(self.lstm.last(x))
        return output


class Subnets(nn.Module):
    """One vector per modality: `TextNetwork` for the modality called text, `MeanNetwork` for every other. `fields` has their widths.

    A sample's modality without a real frame gives zeros, marked as not real.
    """

    def __init__(self, inputs: InputSpec, hidden: Mapping[str, int], text_width: int, rate: float):
        super().__init__()
        self.fields = {m: FieldSpec(text_width if m == TEXT else hidden[m], sequence=False) for m in inputs.modalities}
        self.networks = nn.ModuleDict(
            {
                m: TextNetwork(spec.size, hidden[m], text_width, rate) if m == TEXT else MeanNetwork(spec.size, hidden[m], rate)
                for m, spec in inputs.modalities.items()
            }
        )

    def forward(self, inputs: Mapping[str, Sequence]) -> dict[str, Sequence]:
        """Features (B, T, D) by modality -> vectors (B, 1, width)."""
        vectors = {}
        for m, network in self.networks.items():
            x = inputs[m]
            real = x.mask.any(1, keepdim=True)  # (B, 1)
            vectors[m] = Sequence((network(x) * real).unsqueeze(1), real)
        return vectors
