"""Attention whose mask is built without asking the device what stands in it, over texts in one row, too, and dropout that is quick on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmbench.layers import dropout

NAME = "mmbench_sdpa"


class Dropout(nn.Dropout):
    """`mmbench.layers.dropout` behind torch's module, whose rate networks read as `p`."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same."""
        return dropout(input, self.p) if self.training else input


def quick_dropout(network: nn.Module) -> None:
    """Replace torch's dropout, which draws one Bernoulli variable per element on a CPU."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, scale: float) -> Tensor:
    """softmax(s·QKᵀ) V with dropout of the weights: (B, h, T, d), (B, h, S, d) twice -> (B, h, T, d).

    `mask`: bool, of a shape that broadcasts to (B, h, T, S), True where a query may attend to a key; None: to all.
    """
    if rate == 0.0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate, scale=scale)
    scores = (query * scale) @ key.mT  # (B, h, T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return dropout(scores.softmax(-1), rate) @ value


def packed_attention(query: Tensor, key: Tensor, value: Tensor, groups: tuple[tuple[int, int], ...], rate: float, scale: float) -> Tensor:
    """`attention` inside each text of a row: (1, h, N, d) three times -> (1, N, h, d). `groups`: number and length of the texts of each length."""
    sizes = [count * length for count, length in groups]
    texts = zip(*(x.squeeze(0).split(sizes, 1) for x in (query, key, value)), strict=True)  # (h, n L, d) each; the gradient of a split is one copy
    found = []
    for group, parts in zip(groups, texts, strict=True):
        q, k, v = (x.unflatten(1, group).transpose(0, 1) for x in parts)  # (n, h, L, d)
        found.append(attention(q, k, v, None, rate, scale).transpose(1, 2).flatten(0, 1))  # (n L, h, d)
    return torch.cat(found).unsqueeze(0)


def never_wait(model: Any) -> None:
    """Have the model always use the mask it is given, quick dropout of attention weights, and texts in one row where it is told of them.

    transformers looks whether every entry is real, to go without a mask. That waits for the device in each step and lets the kernel, so
    the last digits of a sample, depend on its batch mates. Models with attention of their own, and releases of transformers before its
    mask interface, are left alone.
    """
    if model.config._attn_implementation != "sdpa":
        return
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.integrations.sdpa_attention import sdpa_attention_forward
        from transformers.masking_utils import sdpa_mask
    except ImportError:
        return

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        packed: tuple[tuple[int, int], ...] | None = None,
        **options: Any,
    ) -> Any:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        plain = key.shape[1] == query.shape[1] and not _causal(module, options) and not _beyond(options)
        if packed is not None:
            if not plain or attention_mask is not None:
                raise NotImplementedError("attention that is more than the softmax of a product, over texts in one row")
            return packed_attention(query, key, value, packed, dropout, scale), None
        if dropout and plain and query.device.type == "cpu" and (attention_mask is None or attention_mask.dtype == torch.bool):
            return attention(query, key, value, attention_mask, dropout, scale).transpose(1, 2).contiguous(), None
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)

    def mask(*args: Any, **options: Any) -> Any:
        if options.get("attention_mask") is not None:
            options["allow_is_bidirectional_skip"] = False
        return sdpa_mask(*args, **options)

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, mask)
    model.set_attn_implementation(NAME)


def _causal(module: Any, options: dict[str, Any]) -> bool:
    found = options.get("is_causal")
    return bool(getattr(module, "is_causal", True) if found is None else found)


def _beyond(options: dict[str, Any]) -> bool:
    return any(options.get(name) is not None for name in ("position_bias", "sliding_window", "softcap", "cache", "s_aux"))
