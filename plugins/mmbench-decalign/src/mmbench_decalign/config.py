"""Hyperparameters of DecAlign's components. Defaults are the paper's for CMU-MOSI. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mmbench import ComponentConfig

Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

OUR_CHOICE = "our choice"
TABLE_4 = "paper, Table 4 (MOSI)"


def option(default: Any, description: str, source: str = OUR_CHOICE, **limits: Any) -> Any:
    """A field with its default, what it does, and where the default comes from."""
    return Field(default, description=description, json_schema_extra={"source": source}, **limits)


class DecAlignConfig(ComponentConfig):
    """The backbone (sections 3.1 and 3.4)."""

    width: Count = option(32, "width d of every feature after the temporal convolution", TABLE_4)
    heads: Count = option(8, "attention heads; must divide the width", TABLE_4)
    layers: Count = option(4, "transformer blocks per modality", TABLE_4)
    kernel_size: Count | dict[str, Count] = option(
        5, "kernel of the temporal convolution: one value, or one per modality (5 for a modality that is not named)", TABLE_4
    )
    padding: Literal["same", "none"] = option(
        "same", "edges of the temporal convolution: `same` keeps every frame, `none` keeps the windows that lie inside the sample"
    )
    sequence_length: Literal["text", "own"] | Count = option(
        "text",
        "common length T_s: `text` pools each sample's frames to its own number of text positions, a number to that many positions, "
        "`own` does not pool",
        "paper, section 3.1 (a common length; which one is our choice)",
    )
    encoder_depth: Count = option(1, "layers of the unique and common encoders; from 2 on with GELU and LayerNorm between them")
    context: Literal["self", "cross"] = option(
        "self",
        "what a modality's transformer attends to: its own frames, or (`cross`) those of the other modalities joined in time",
        "paper, section 3.4",
    )
    decouple: bool = option(True, "split into unique and common features; without it the transformers read the encoded sequences", "paper, Table 2")
    attention_dropout: Rate | dict[str, Rate] = option(
        {"text": 0.4, "audio": 0.3, "vision": 0.1},
        "dropout of the attention weights: one value, or one per modality (0.1 for a modality that is not named)",
        TABLE_4,
    )
    relu_dropout: Rate = option(0.1, "dropout after the ReLU of the feed-forward layers", TABLE_4)
    embed_dropout: Rate = option(0.3, "dropout of the transformers' inputs", TABLE_4)
    residual_dropout: Rate = option(0.1, "dropout before each residual sum", TABLE_4)
    output_dropout: Rate = option(0.6, "dropout before the last linear layer", TABLE_4)
    text_dropout: Rate = option(0.5, "dropout of the text features before the temporal convolution", TABLE_4)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> DecAlignConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    def provides(self) -> frozenset[str]:
        """Fields of the representation that the model fills under these options."""
        return frozenset({"encoded", "common", "unique"} if self.decouple else {"encoded"})


class DecouplingConfig(ComponentConfig):
    """Eq. 1."""

    form: Literal["signed", "squared"] = option(
        "signed",
        "`signed` sums the cosines as printed (anti-parallel features are rewarded), `squared` their squares (orthogonal features are)",
        "paper, Eq. 1; `squared`: released code",
    )


class PrototypeTransportConfig(ComponentConfig):
    """Eq. 2-9."""

    num_prototypes: Count | None = option(None, "Gaussian components K per modality; null: the number of categories of the data set", "paper, Eq. 2")
    em_steps: Count = option(5, "EM steps per batch", "released code")
    em_gradient: Literal["unrolled", "last"] = option(
        "unrolled", "`unrolled`: through every EM step; `last`: through the last means and covariances only, at constant posteriors"
    )
    covariance: Literal["diagonal", "full"] = option(
        "diagonal", "covariance of a component (a batch has about B/K samples for each)", "released code"
    )
    shrinkage: Annotated[float, Field(ge=0, le=1)] = option(0.1, "share of its own diagonal in a full covariance")
    variance_floor: Positive = option(1e-4, "added to every variance", "released code (there a lower bound)")
    fit: Literal["batch", "ema"] = option(
        "batch", "`batch`: a mixture for each batch; `ema`: running prototypes that each batch updates", "released code (batch)"
    )
    ema_momentum: Rate = option(0.9, "weight of the running prototypes against a batch's, with `fit: ema`")
    reduction: Literal["mean", "sum"] = option(
        "mean", "over the features, in the cost and in the prototype term; `sum` as printed", "released code; `sum`: paper, Eq. 6 and 9"
    )
    epsilon: Positive = option(0.1, "weight of the entropy in Eq. 7 (lambda)", "released code")
    epsilon_relative: bool = option(False, "multiply epsilon by the mean cost of the batch")
    iterations: Count = option(50, "most Sinkhorn sweeps over the modalities", "released code")
    tolerance: Annotated[float, Field(ge=0)] = option(1e-4, "largest marginal error at which the sweeps stop")
    gradient: Literal["envelope", "unrolled"] = option(
        "envelope", "`envelope`: the plan is a constant in the backward pass (exact at the optimum); `unrolled`: through every sweep"
    )


class HomogeneityConfig(ComponentConfig):
    """Eq. 10-12 and appendix B.6."""

    pde: bool = option(True, "encode the pooled common features by one MLP per modality first", "paper, section 3.3")
    pde_dim: Count | None = option(None, "output width of that MLP; null: the width of the common features", "released code")
    pde_dropout: Rate = option(0.0, "dropout inside that MLP")
    reduction: Literal["sum", "mean"] = option("sum", "over the features, in `moments`", "paper, Eq. 10; `mean`: released code")
    bandwidth: Literal["median"] | Positive = option("median", "bandwidth of the Gaussian kernel: the median rule per pair, or a number")
    estimator: Literal["biased", "unbiased"] = option(
        "biased", "with or without the pairs of a sample with itself", "paper, Eq. 11; released code (biased)"
    )


class SupervisedContrastiveConfig(ComponentConfig):
    """'CT' of Table 2, which the paper does not define."""

    temperature: Positive = option(0.1, "divides the cosines", "released code")
