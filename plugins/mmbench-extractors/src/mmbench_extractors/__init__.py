"""Pretrained encoders as an mmbench plugin: `hf-text` and `hf-audio`."""
