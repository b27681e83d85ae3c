"""Attention whose mask is built without asking the device what stands in it."""

from __future__ import annotations

from typing import Any

NAME = "mmbench_sdpa"


def never_wait(model: Any) -> None:
    """Have the model always use the mask it is given.

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

    def mask(*args: Any, **options: Any) -> Any:
        if options.get("attention_mask") is not None:
            options["allow_is_bidirectional_skip"] = False
        return sdpa_mask(*args, **options)

    AttentionInterface.register(NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(NAME, mask)
    model.set_attn_implementation(NAME)
