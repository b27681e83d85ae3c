"""Hyperparameters: each with a description and where its default comes from. Imports no torch."""

from pydantic import Field

from mmbench import ComponentConfig


class MineConfig(ComponentConfig):
    """Of the model."""

    width: int = Field(64, gt=0, description="width of the hidden layers", json_schema_extra={"source": "paper, Table 2"})


class WordsConfig(ComponentConfig):
    """Of the extractor."""

    most: int = Field(100, gt=0, description="words of a transcript that are read", json_schema_extra={"source": "our choice"})
