"""Entry module of the plugin whose components break the contracts, one each (and those that keep them: good, tokens, zero-start, ...)."""

from __future__ import annotations

import math
import re

from mmbench import Component, hookimpl

FIELDS = frozenset({"encoded", "unimodal_predictions"})
BOUNDS = {"pull": (0.0, math.inf), "push": (0.0, math.inf)}
PAPER = "none: a test"


def kebab(name):
    return re.sub(r"(?<=[a-z])([A-Z])", r"-\1", name).lower()


def model(target, name=None, config="Model", **changes):
    record = {"summary": "a test", "paper": PAPER, "provides": FIELDS, "config": f"kit_config:{config}"} | changes
    return Component("model", name or kebab(target), f"kit_models:{target}", **record)


def loss(target, name=None, **changes):
    record = {"summary": "a test", "paper": PAPER, "needs": frozenset({"common"}), "terms": ("pull", "push"), "bounds": BOUNDS} | changes
    return Component("loss", name or kebab(target), f"kit_losses:{target}", **record)


def extractor(target, name=None, **changes):
    record = {"summary": "a test", "needs": frozenset({"tokens"}), "config": "kit_config:Extractor"} | changes
    return Component("extractor", name or kebab(target), f"kit_extractors:{target}", **record)


def metric(name, target=None, tasks=("regression",)):
    return Component("metric", name, f"kit_rest:{target or f'METRICS[{name}]'}", "a test", tasks=tasks)


MODELS = """Good NoModel WrongShape WrongWidth NeedsText NeedsFrames CountsPadding ReadsPadding ComparesSamples RefusesOne DividesByZero
    RootOfZero Dead DeadValue ZeroStart Unseeded UnseededDropout CountsAlways Overwrites DropsAlways RemembersElsewhere LosesState PicklesState
    SingleOnly SingleOutput LosesDigits LeftBehind Local""".split()  # noqa: SIM905
LOSSES = """Good NoLoss Missing PerSample Detached Attached ReadsMore NeedsBoth Explodes CountsPadding SpreadOfOne DividesByZero RootOfZero
    Dead CutOff Unseeded RemembersAlways RemembersElsewhere GrowsLate SingleOnly LosesDigits LeftBehind Local""".split()  # noqa: SIM905
EXTRACTORS = """Good NoExtractor WrongWidth DirtyPadding ReadsPadding ComparesSamples DividesByZero LargeIds Thawed Drops Dead OneDigest
    NewDigest LosesState LosesDigits LeftBehind Local ShortSpans""".split()  # noqa: SIM905
METRICS = "good renamed undocumented whole outside sorts warns empty reversed constant first doubled".split()  # noqa: SIM905


@hookimpl
def mmbench_components():
    yield from map(model, MODELS)
    yield model("Shows", provides=FIELDS | {"extra.ratio"})
    yield model("Tokens", needs=frozenset({"tokens"}), tasks=("regression",))
    yield model("Good", "two-modalities", min_modalities=2)
    yield model("Good", "Capital")
    yield model("Good", "no-summary", summary=" ")
    yield model("Good", "no-paper", paper="")
    yield model("Good", "unknown-field", provides=FIELDS | {"encodings"})
    yield model("Good", "too-many", provides=FIELDS | {"common"})
    yield model("Good", "absent-package", extras=("absent_package_xyz",))
    yield model("Good", "required", config="Required")
    yield model("Good", "small", config="Required", small={"width": 3})
    yield model("Good", "wrong-small", small={"width": -3})
    yield model("Good", "undescribed", config="Undescribed")
    yield model("Good", "lenient", config="Lenient")
    yield model("Good", "changeable", config="Changeable")
    yield model("Good", "forgetful", config="Forgetful", small={"height": 4})
    yield model("Good", "widening", config="Widening")
    yield Component("model", "heavy-config", "kit_models:Good", "a test", "kit_heavy:Config", PAPER, provides=FIELDS)
    yield from map(loss, LOSSES)
    yield loss("Plain", needs=frozenset(), terms=(), bounds={})
    yield loss("Ratio", needs=frozenset({"extra.ratio"}), terms=("ratio",), bounds={"ratio": (0.0, 1.0)})
    yield loss("Ratio", "no-such-model", needs=frozenset({"extra.nothing"}), terms=("ratio",), bounds={})
    yield loss("Good", "other-terms", terms=("pull", "shove"), bounds={})
    yield loss("Good", "narrow", bounds={"pull": (0.0, math.inf), "push": (0.0, 0.01)})
    yield loss("Good", "bound-of-nothing", bounds={"shove": (0.0, 1.0)})
    yield loss("Good", "needs-nonsense", needs=frozenset({"commons"}))
    yield from map(metric, METRICS)
    yield metric("classes", tasks=("classification",))
    yield metric("not-a-metric", "NOT_A_METRIC")
    yield from map(extractor, EXTRACTORS)
    yield extractor("Waves", needs=frozenset({"waveform"}))
    yield extractor("Images", needs=frozenset({"frames"}), modalities=("vision",))
    yield extractor("Ready", needs=frozenset({"features"}), config="kit_config:Ready")
    yield extractor("Table", needs=frozenset({"features"}), config="kit_config:Ready")
    yield extractor("Ids", needs=frozenset({"tokens"}), provides=frozenset({"tokens"}))
    yield extractor("Good", "reads-nothing", needs=frozenset())
    yield extractor("Good", "required", config="kit_config:Required")
    yield extractor("Good", "unavailable", small={"finetune": None})
    for target in ("Good", "DeafAligner", "Hasty", "Undecided"):
        yield Component("aligner", kebab(target), f"kit_data:{target}", "a test")
    yield Component("aligner", "required", "kit_data:Good", "a test", "kit_config:Required")
    yield Component("aligner", "unavailable", "kit_data:Unavailable", "a test")
    for target in ("Folder", "Unversioned", "Eager"):
        yield Component("dataset-format", kebab(target), f"kit_data:{target}", "a test")
    for target in ("Executor", "Forgetful", "Lying", "Silent"):
        yield Component("executor", kebab(target), f"kit_rest:{target}", "a test")
    for target in ("Tracker", "Writer", "Rounding", "Lucky", "OnceOnly"):
        yield Component("tracker", kebab(target), f"kit_rest:{target}", "a test")
    for target in ("Tuner", "Outside", "Guessing", "Inventive"):
        yield Component("tuner", kebab(target), f"kit_rest:{target}", "a test")
