"""Hyperparameters: each with a description and where its default comes from. Unknown keys are refused for you. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from mmbench import ComponentConfig


class ExampleGateConfig(ComponentConfig):
    """Hyperparameters of the model."""

    width: int = Field(32, gt=0, description="width of each modality's vector", json_schema_extra={"source": "our choice"})
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of the fused vector", json_schema_extra={"source": "our choice"})


class ExampleCosineConfig(ComponentConfig):
    """Hyperparameters of the loss."""

    margin: float = Field(0.0, ge=0, lt=1, description="distances below it are not punished", json_schema_extra={"source": "our choice"})


class ExampleBytesConfig(ComponentConfig):
    """Hyperparameters of the extractor."""

    width: int = Field(16, gt=0, description="width of an embedding", json_schema_extra={"source": "our choice"})
    max_tokens: int = Field(200, gt=0, description="bytes of a text that are read", json_schema_extra={"source": "our choice"})
    finetune: bool = Field(False, description="train the embeddings with the model", json_schema_extra={"source": "our choice"})
