"""Adapters and refusals follow from declarations alone."""

from mmbench.compatibility import fit
from mmbench.component import Component


def component(kind: str, name: str, **declared) -> Component:
    return Component(kind, name, "m:C", "a test", **declared)


MODEL = component("model", "m")


def fields(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_nothing_to_adapt() -> None:
    found = fit(
        MODEL, fields("encoded", "common", "unique"), [(component("loss", "l"), fields("common", "unique"))], ("text", "audio"), "regression", "auto"
    )
    assert found.adapters == ()
    assert found.refusals == ()


def test_missing_fields_are_made_from_encoded() -> None:
    losses = [(component("loss", "a"), fields("unique")), (component("loss", "b"), fields("unimodal_predictions", "encoded"))]
    assert fit(MODEL, fields("encoded"), losses, ("text", "audio"), "regression", "auto").adapters == ("unique", "unimodal_predictions")
    forbidden = fit(MODEL, fields("encoded"), losses, ("text", "audio"), "regression", "forbid")
    assert forbidden.adapters == ()
    assert len(forbidden.refusals) == 2
    assert "adapters are forbidden" in forbidden.refusals[0]


def test_combinations_without_meaning_are_refused_by_name_and_reason() -> None:
    cross = component("loss", "cross", min_modalities=2)
    assert fit(MODEL, fields("encoded"), [(cross, fields("encoded"))], ("text",), "regression", "auto").refusals == (
        "loss 'cross' needs at least 2 modalities; the data have 1: text",
    )
    regression = component("loss", "reg", tasks=("regression",))
    assert (
        "is for regression; the data set's task is classification"
        in fit(MODEL, fields("encoded"), [(regression, fields())], ("text",), "classification", "auto").refusals[0]
    )
    no_features = fit(MODEL, fields(), [(component("loss", "l"), fields("common"))], ("text",), "regression", "auto")
    assert "no features of single modalities" in no_features.refusals[0]
    foreign = fit(MODEL, fields("encoded"), [(component("loss", "l"), fields("extra.decoded"))], ("text",), "regression", "auto")
    assert "it is a loss of another model" in foreign.refusals[0]


def test_a_field_that_does_not_exist_is_refused() -> None:
    (refusal,) = fit(MODEL, fields("encoded"), [(component("loss", "l"), fields("comon"))], ("text",), "regression", "auto").refusals
    assert refusal.startswith(
        "loss 'l' needs 'comon', which model 'm' does not provide: there is no such field; its record can name encoded, common,"
    )


def test_what_one_loss_lacks_is_one_sentence() -> None:
    loss = component("loss", "l")
    assert fit(MODEL, fields(), [(loss, fields("unique", "common", "extra.x"))], ("text",), "regression", "auto").refusals == (
        "loss 'l' needs 'common' and 'unique', which model 'm' does not provide: the model has no features of single modalities, "
        "so no adapter can make it",
        "loss 'l' needs 'extra.x', which model 'm' does not provide: it is a loss of another model",
    )
