"""The backbone `lmf`.

Differs from the widely used implementation: the fusion weights and their bias are trained with all else (there the optimiser never gets
them), and padding takes no part (there, the LSTM reads on into it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from mmbench.batch import Batch, Representation
from mmbench.interfaces import FusionModel, InputSpec, RepresentationSpec
from mmbench_baselines.features import require_features
from mmbench_baselines.lmf.config import LMFConfig
from mmbench_baselines.options import per_modality
from mmbench_baselines.subnets import Subnets

HIDDEN = 16  # of a modality that the config does not name


class LMF(FusionModel):
    """y = b + Σ_i w_i Π_m W_m^(i)·[1; h_m], i = 1..r; the products of one i and one output are numbers.

    Inputs: features (B, T_m, D_m). Prediction: (B,) for regression, (B, classes) logits. `encoded`: the vectors h_m. `fused` (B, r·outputs):
    the products before the weights w. Parameter group `factors`: the W_m, which may have a learning rate of their own.
    Source: Liu et al. (2018), the section on modality-specific factors; the weighted sum over i is the authors' code's.
    """

    def __init__(self, inputs: InputSpec, config: LMFConfig):
        super().__init__(inputs, config)
        require_features("lmf", inputs)
        hidden = per_modality("hidden", config.hidden, HIDDEN, tuple(inputs.modalities))
        self.subnets = Subnets(inputs, hidden, config.text_width, config.dropout)
        self.factors = nn.ParameterDict(
            {m: nn.Parameter(torch.empty(config.rank, field.width + 1, inputs.outputs)) for m, field in self.subnets.fields.items()}
        )
        self.weights = nn.Parameter(torch.empty(1, config.rank))
        self.bias = nn.Parameter(torch.zeros(inputs.outputs))
        for parameter in (*self.factors.values(), self.weights):
            nn.init.xavier_normal_(parameter)
        self.regression = inputs.task == "regression"
        self.spec = RepresentationSpec(inputs, fused=config.rank * inputs.outputs, encoded=self.subnets.fields)

    def forward(self, batch: Batch) -> Representation:
        """Features (B, T_m, D_m) by modality -> prediction, and the vectors of the modalities."""
        encoded = self.subnets(batch.inputs)
        products = torch.ones(1, device=self.bias.device)
        for m, x in encoded.items():
            h = x.values[:, 0]
            h = torch.cat([torch.ones_like(h[:, :1]), h], -1)  # (B, D_m + 1)
            products = products * torch.einsum(
                "bd,rdo->bro", h, self.factors[m]
            )  # (B, r, outputs); the gradient of torch.prod would wait for the device
        output = torch.einsum("r,bro->bo", self.weights[0], products) + self.bias  # (B, outputs)
        return Representation(output.squeeze(-1) if self.regression else output, products.flatten(1), encoded)

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"factors": self.factors.values()}
