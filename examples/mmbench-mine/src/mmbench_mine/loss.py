import torch

from mmbench.interfaces import AlignmentLoss


class Agreement(AlignmentLoss):
    """mean_i mean_d Var_m(c_i^m), c^m: mean of a modality's common features."""

    terms = ("agreement",)

    def forward(self, representation, batch):
        common = [sequence.mean() for sequence in representation.common.values()]
        pooled = torch.stack(common).float()  # (M, B, d)
        return {"agreement": pooled.var(0, unbiased=False).mean()}
