"""Hyperparameters of SLaD's components. Defaults are the paper's for CMU-MOSI, where it gives any. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mmbench import ComponentConfig

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

OUR_CHOICE = "our choice"
TABLE_4 = "paper, Table 4"


def option(default: Any, description: str, source: str = OUR_CHOICE) -> Any:
    """A field with its default, what it does, and where the default comes from."""
    return Field(default, description=description, json_schema_extra={"source": source})


class SLaDConfig(ComponentConfig):
    """The backbone (sections 3.2-3.5)."""

    width: Count = option(
        768, "width d of every feature; a modality of another width gets a linear projection", "paper, section 3.2 (that of its base-size encoders)"
    )
    heads: Count = option(12, "attention heads; must divide the width", TABLE_4)
    layers: Count = option(5, "blocks of each fusion stack", "Wu et al. 2024 (MMML), which section 3.5 follows")
    dropout: Rate = option(0.3, "dropout of attention weights, of hidden layers, before each residual sum and in the last MLP", TABLE_4)
    share_invariant: bool = option(False, "one invariant head for all modalities instead of one each")
    include_specific: bool = option(False, "a third fusion stack on the specific features, which the paper's fusion never uses", "paper, Eq. 3-6")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> SLaDConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class UnimodalRegressionConfig(ComponentConfig):
    """Section 3.3; part of L_cls in Eq. 22."""

    target: Literal["own_if_present", "multimodal", "none"] = option(
        "own_if_present",
        "what a modality's prediction is compared with: its own label where the data set has one, else the multimodal one; "
        "always the multimodal one; or nothing (the loss is 0)",
    )


Labels = Literal["predicted", "annotated"]
LABELS = "the sub-modal labels: the predictions of single modalities, or the data set's annotations, which must then exist"
TOLERANCE = "labels, as parts of the label range, that differ by no more than this are equal; those no further from zero are zero"
LABEL_WEIGHTS = "weight samples by the similarity omega of their sub-modal labels; false: every sample counts 1"


class SladContrastiveConfig(ComponentConfig):
    """Eq. 7-16."""

    temperature: Positive = option(0.2, "divides the cosines (tau)", TABLE_4)
    top_k: Count = option(3, "hardest negatives per sample (K); a smaller batch has fewer", TABLE_4)
    symmetric: bool = option(False, "the mean of both directions instead of text to audio alone", "paper, Eq. 14")
    label_weights: bool = option(True, LABEL_WEIGHTS, "paper, Eq. 16; false: Table 3")
    labels: Labels = option("predicted", LABELS, "paper, section 3.3; `annotated`: Figure 3")
    bandwidth: Positive = option(0.5, "width of the Gaussian kernel on label differences (alpha), as part of the label range", TABLE_4)
    tolerance: Rate = option(1e-3, TOLERANCE)

    def needs(self) -> frozenset[str]:
        """Fields of the representation that the loss reads under these options."""
        return frozenset({"common", *_label_field(self.labels, self.label_weights)})


class SladRepulsiveConfig(ComponentConfig):
    """Eq. 7-12, 17 and 18."""

    temperature: Positive = option(0.2, "divides the cosines and the margin (tau)", TABLE_4)
    margin: Annotated[float, Field(ge=-1, le=1)] = option(0.2, "cosine below which features are left alone; m of Eq. 18 is this over tau")
    include_diagonal: bool = option(False, "let the features of one and the same sample repel, too", "paper, Eq. 18")
    label_weights: bool = option(True, LABEL_WEIGHTS, "paper, Eq. 18; false: Table 3")
    labels: Labels = option("predicted", LABELS, "paper, section 3.3; `annotated`: Figure 3")
    bandwidth: Positive = option(0.5, "width of the Gaussian kernel on label differences (alpha), as part of the label range", TABLE_4)
    tolerance: Rate = option(1e-3, TOLERANCE)

    def needs(self) -> frozenset[str]:
        """Fields of the representation that the loss reads under these options."""
        return frozenset({"unique", *_label_field(self.labels, self.label_weights)})


class SladMultilabelConfig(ComponentConfig):
    """Eq. 13 and 19-21."""

    temperature: Positive = option(0.2, "divides the cosines (tau)", TABLE_4)
    overlap: Literal["sign", "magnitude"] = option(
        "sign", "size of a label set and of an intersection: numbers of signs, or sums of intensities", "paper, Eq. 20 (set notation)"
    )
    labels: Labels = option("predicted", LABELS, "paper, section 3.8")
    tolerance: Rate = option(1e-3, "labels, as parts of the label range, no further from zero than this are zero")

    def needs(self) -> frozenset[str]:
        """Fields of the representation that the loss reads under these options."""
        return frozenset({"common", *_label_field(self.labels, True)})


def _label_field(labels: Labels, used: bool) -> tuple[str, ...]:
    return ("unimodal_predictions",) if used and labels == "predicted" else ()
