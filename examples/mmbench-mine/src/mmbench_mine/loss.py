import torch

from mmbench.interfaces import AlignmentLoss


class Agreement(AlignmentLoss):
    """mean_i mean_d Var_m(c_i^m), c^m the mean over the real frames of a modality's common features (B, d)."""

    terms = ("agreement",)

    def forward(self, representation, batch):
        pooled = torch.stack([sequence.mean().float() for sequence in representation.common.values()])  # (M, B, d)
        return {"agreement": pooled.var(0, unbiased=False).mean()}
