"""Hyperparameters that keep the contract, and ones that do not."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mmbench import ComponentConfig


class Model(ComponentConfig):
    width: int = Field(4, gt=0, description="width")


class Extractor(ComponentConfig):
    finetune: bool | None = Field(False, description="train it")


class Ready(ComponentConfig):
    folder: str = Field("here", description="where it is")
    factor: float = Field(0.5, gt=0, lt=1, description="what letters are multiplied by")


class Required(ComponentConfig):
    width: int = Field(description="width")


class Undescribed(Model):
    height: int = 3


class Lenient(BaseModel):
    """Takes unknown keys."""

    model_config = ConfigDict(frozen=True)
    width: int = Field(4, description="width")


class Changeable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(4, description="width")


class Forgetful(Model):
    height: int = Field(3, description="height", exclude=True)


class Widening(Model):
    def provides(self):
        return frozenset({"encoded", "unimodal_predictions", "common"})


class ListOfFields(Model):
    def provides(self):
        return ["encoded", "unimodal_predictions"]
