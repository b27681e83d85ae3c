"""For every check a component that breaks its rule, and that the check must catch; and components that keep every rule, which must pass."""

import contextlib
import re

import pytest

pytest.importorskip("torch")

from mmbench.testing import tensors
from mmbench.testing.checks import CHECKS

# distribution, component, check, what the message says
BROKEN = [
    ("absent", "plugin:absent", "loads", "expected that kit_absent can be loaded; seen ModuleNotFoundError"),
    ("empty", "plugin:empty", "loads", "expected components from kit_rest; seen none"),
    ("heavy", "plugin:heavy", "imports", "expected that kit_heavy is imported without torch, .* it imports torch"),
    ("kit", "model:Capital", "declaration", "expected a name of small letters.* seen 'Capital'"),
    ("kit", "model:no-summary", "declaration", "expected a summary of one line; seen ' '"),
    ("kit", "model:no-paper", "declaration", "expected a paper"),
    ("kit", "model:unknown-field", "declaration", "expected fields provided among .*; seen encodings"),
    ("kit", "loss:needs-nonsense", "declaration", "expected needs among .*; seen commons"),
    ("kit", "loss:bound-of-nothing", "declaration", "expected bounds of the terms pull, push; seen shove"),
    ("kit", "extractor:reads-nothing", "declaration", "expected one kind of input .* seen none"),
    ("kit", "model:undescribed", "config", "expected a description of the hyperparameter 'height'"),
    ("kit", "model:lenient", "config", "expected that an unknown key is refused"),
    ("kit", "model:changeable", "config", "expected a frozen Changeable"),
    ("kit", "model:forgetful", "config", "comes back from JSON; seen .*height=3"),
    ("kit", "model:widening", "config", r"Widening.provides\(\) narrows"),
    ("kit", "model:heavy-config", "config", "expected that kit_heavy:Config is imported without torch"),
    ("kit", "model:required", "config", r"seen no value for width, .*configs=\{'model:required'"),
    ("kit", "model:required", "fields", "seen no value for width"),
    ("kit", "model:wrong-small", "config", "expected hyperparameters that Model accepts; seen .*greater than 0"),
    ("kit", "model:no-model", "fields", "expected a subclass of mmbench.interfaces.FusionModel at kit_models:NoModel"),
    ("kit", "model:wrong-shape", "fields", r"expected a prediction of shape \(4,\); seen \(4, 1\) \(regression, text\)"),
    ("kit", "model:wrong-width", "fields", r"expected values \(B, T, 4\); seen \(4, 6, 3\) \(regression, text, encoded.text\)"),
    ("kit", "model:too-many", "fields", "expected a spec with the declared fields .*'common'"),
    ("kit", "model:needs-text", "modalities", r"there is no text \(regression, audio\)"),
    ("kit", "model:needs-frames", "modalities", r"\(regression, text, vectors\)"),
    ("kit", "model:counts-padding", "padding", "expected the same prediction with padding"),
    ("kit", "model:reads-padding", "padding", "expected the same prediction with padding"),
    ("kit", "model:compares-samples", "batch-of-one", "expected the same prediction for a sample alone"),
    ("kit", "model:refuses-one", "batch-of-one", "ValueError: Expected more than 1 value .* at .*kit_models.py"),
    ("kit", "model:divides-by-zero", "empty-modality", "expected a finite prediction; seen .*no text"),
    ("kit", "model:root-of-zero", "empty-modality", "expected a finite gradient of"),
    ("kit", "model:dead", "gradients", "expected a gradient for every trainable parameter; seen none for unused"),
    ("kit", "model:dead-value", "gradients", "seen none for unused"),
    ("kit", "model:unseeded", "seed", "expected the same initial state from the same seed; seen another head.weight"),
    ("kit", "model:unseeded-dropout", "seed", "expected the same prediction in training mode from the same seed"),
    ("kit", "model:counts-always", "evaluation", "expected the same state .* seen another steps"),
    ("kit", "model:overwrites", "evaluation", "expected a batch that a forward pass leaves alone"),
    ("kit", "model:drops-always", "evaluation", "expected the same prediction in evaluation mode"),
    ("kit", "model:remembers-elsewhere", "state", "expected the same prediction from the loaded state"),
    ("kit", "model:loses-state", "state", "expected that a fresh instance takes the state; seen .*head.bias"),
    ("kit", "model:pickles-state", "state", "expected a state that torch.load reads with weights_only=True"),
    ("kit", "model:single-only", "float64", "expected no error; seen RuntimeError"),
    ("kit", "model:single-output", "float64", "expected a prediction in float64; seen torch.float32"),
    ("kit", "model:loses-digits", "bf16", "expected about the same prediction under bf16"),
    ("kit", "model:left-behind", "gpu", "expected the prediction of the CPU .* seen a difference"),
    ("kit", "model:local", "another-process", "expected something to pickle; seen .*local object"),
    ("kit", "loss:no-loss", "terms", "expected a subclass of mmbench.interfaces.AlignmentLoss"),
    ("kit", "loss:other-terms", "terms", "expected terms .*'shove'.* of the class"),
    ("kit", "loss:missing", "terms", r"expected the active terms \['pull', 'push'\]; seen \['pull'\]"),
    ("kit", "loss:per-sample", "terms", r"expected a scalar pull; seen torch.Size\(\[2\]\)"),
    ("kit", "loss:detached", "terms", "expected a pull that carries a gradient"),
    ("kit", "loss:needs-both", "terms", "KeyError"),
    ("kit", "loss:no-such-model", "terms", "expected a model of kit that provides extra.nothing; seen none"),
    ("kit", "loss:attached", "terms", "expected the diagnostic 'size' as a detached scalar"),
    ("kit", "loss:reads-more", "needs", "expected that it runs without encoded, unique, unimodal_predictions; seen AttributeError"),
    ("kit", "loss:narrow", "bound", "expected push from 0 to 0.01; seen"),
    ("kit", "loss:explodes", "bound", "expected a finite pull; .*identical samples"),
    ("kit", "loss:counts-padding", "padding", "expected the same push with padding"),
    ("kit", "loss:spread-of-one", "batch-of-one", "expected a finite pull"),
    ("kit", "loss:divides-by-zero", "empty-modality", "expected a finite pull"),
    ("kit", "loss:root-of-zero", "empty-modality", "expected a finite gradient with respect to common"),
    ("kit", "loss:dead", "gradients", "seen none for unused"),
    ("kit", "loss:cut-off", "gradients", "expected a gradient with respect to one of common; seen none"),
    ("kit", "loss:unseeded", "seed", "seen another map.weight"),
    ("kit", "loss:remembers-always", "evaluation", "seen another memory"),
    ("kit", "loss:remembers-elsewhere", "state", "expected the same push from the loaded state"),
    ("kit", "loss:grows-late", "state", "expected that a fresh instance takes the state; seen .*memory"),
    ("kit", "loss:single-only", "float64", "expected no error; seen RuntimeError"),
    ("kit", "loss:loses-digits", "bf16", "expected about the same"),
    ("kit", "loss:left-behind", "gpu", "expected the pu.. of the CPU"),
    ("kit", "loss:local", "another-process", "expected something to pickle"),
    ("kit", "metric:not-a-metric", "record", "expected an mmbench.Metric at kit_rest:NOT_A_METRIC; seen function"),
    ("kit", "metric:renamed", "record", "expected the name 'renamed'; seen 'another-name'"),
    ("kit", "metric:undocumented", "record", "expected a docstring"),
    ("kit", "metric:whole", "values", "expected a float; seen int"),
    ("kit", "metric:outside", "values", "expected a value from 0 to 0.5, or NaN; seen"),
    ("kit", "metric:sorts", "values", "expected arrays that the metric leaves alone"),
    ("kit", "metric:warns", "values", "seen ZeroDivisionError"),
    ("kit", "metric:empty", "values", "seen RuntimeWarning: Mean of empty slice"),
    ("kit", "metric:reversed", "direction", "expected that no prediction beats the targets themselves"),
    ("kit", "metric:constant", "direction", "expected some predictions for regression that score worse"),
    ("kit", "metric:first", "order", "in another order"),
    ("kit", "metric:doubled", "reference", "from the reference"),
    ("kit", "extractor:no-extractor", "features", "expected a subclass of mmbench.interfaces.FeatureExtractor"),
    ("kit", "extractor:wrong-width", "features", r"expected values \(4, T', 7\)"),
    ("kit", "extractor:dirty-padding", "features", "expected zeros where no frame is real"),
    ("kit", "extractor:reads-padding", "padding", "expected the same features with noise in the padding"),
    ("kit", "extractor:compares-samples", "batch-of-one", "expected the same features alone"),
    ("kit", "extractor:divides-by-zero", "empty-sample", "expected a finite values"),
    ("kit", "extractor:large-ids", "preparation", "expected ids below 50; seen up to"),
    ("kit", "extractor:short-spans", "spans", "expected 33 spans, one for each frame; seen 1"),
    ("kit", "extractor:thawed", "frozen", "expected no parameter that is trained; seen layer"),
    ("kit", "extractor:drops", "frozen", "expected the same features in training mode"),
    ("kit", "extractor:dead", "gradients", "seen none for unused"),
    ("kit", "extractor:one-digest", "digest", "expected another digest when a weight changes"),
    ("kit", "extractor:new-digest", "digest", "expected the same digest of a second instance"),
    ("kit", "extractor:loses-state", "state", "seen .*layer.bias"),
    ("kit", "extractor:loses-digits", "bf16", "expected about the same features under bf16"),
    ("kit", "extractor:left-behind", "gpu", "expected the features of the CPU"),
    ("kit", "extractor:local", "another-process", "expected something to pickle"),
    ("kit", "aligner:deaf-aligner", "contract", r"expected a method align\(clip, path, words\); seen none \(kit_data:DeafAligner\)"),
    ("kit", "aligner:undecided", "digest", "expected the same digest of a second instance"),
    ("kit", "dataset-format:unversioned", "contract", "expected a version, an integer from 1; seen None"),
    ("kit", "dataset-format:eager", "foreign", r"expected False; seen True \(table.csv\)"),
    ("kit", "executor:forgetful", "outcomes", r"expected one outcome for each run; seen \['first'\]"),
    ("kit", "executor:lying", "outcomes", "expected a failed run where its folder holds nothing; seen done"),
    ("kit", "executor:silent", "outcomes", "expected a reason of one line"),
    ("kit", "tracker:writer", "course", "expected that the run's own folder is left alone; seen mine.txt"),
    ("kit", "tracker:lucky", "course", "expected that the global random numbers are left alone"),
    ("kit", "tracker:rounding", "values", "seen OverflowError: cannot convert float infinity to integer"),
    ("kit", "tracker:once-only", "resumed", "seen FileExistsError"),
    ("kit", "tuner:outside", "space", r"expected training.batch_size of Range\(.*\); seen 101 \(all kinds\)"),
    ("kit", "tuner:guessing", "repeatable", "expected (the same choice after|that the global random numbers are left alone)"),
    ("kit", "tuner:inventive", "account", "expected importances of model.layers, model.norm; seen luck"),
]
GOOD = [
    "model:good",
    "model:shows",
    "model:zero-start",
    "model:tokens",
    "model:two-modalities",
    "model:small",
    "loss:good",
    "loss:ratio",
    "loss:plain",
]
GOOD += ["metric:good", "metric:classes", "extractor:good", "extractor:waves", "aligner:good", "dataset-format:folder", "executor:executor"]
GOOD += ["tracker:tracker", "tuner:tuner"]
REFERENCES = {"doubled": lambda p, y: sum(abs(a - b) for a, b in zip(p, y, strict=True)) / len(y)}
REFERENCES["good"] = REFERENCES["doubled"]
COMMON = ("declaration", "config")  # of all kinds alike


@pytest.fixture
def some_device(monkeypatch):
    """Any device will do to see that the GPU's results are compared."""
    monkeypatch.setattr(tensors, "gpu", lambda: contextlib.nullcontext("cpu"))


@pytest.mark.parametrize(("distribution", "component", "check", "message"), BROKEN, ids=[f"{case[1]}-{case[2]}" for case in BROKEN])
def test_a_broken_rule_is_seen(verdict, some_device, distribution, component, check, message) -> None:
    options = {"references": REFERENCES} if distribution == "kit" else {}
    status, seen = verdict(distribution, f"{component}:{check}", **options)
    assert status == "failed"
    first, rule = seen.split("\nrule: ")
    assert first.startswith(f"{component}-{check}: expected ")
    assert rule.endswith(".")
    assert re.search(message, first), first


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.kind}-{check.name}")
def test_what_keeps_every_rule_passes(verdict, some_device, check) -> None:
    found = {}
    for component in ["plugin:kit", *GOOD]:
        if component.startswith(f"{check.kind}:"):
            found[component] = verdict("kit", f"{component}:{check.name}", references=REFERENCES)
    wanted = dict.fromkeys(found, ("passed", ""))
    if check.name == "bound":
        wanted["loss:plain"] = "skipped", "no bound stated for plain"
    if check.name == "reference":
        wanted["metric:classes"] = "skipped", "no reference function was given"
    if check.name == "spans":
        wanted["extractor:waves"] = "skipped", "it reads no text"
    assert found
    assert found == wanted


def test_every_check_is_broken_by_something() -> None:
    kinds = {(component.partition(":")[0], check) for _, component, check, _ in BROKEN}
    assert {(check.kind, check.name) for check in CHECKS if check.name not in COMMON} <= kinds
    assert set(COMMON) <= {check for _, check in kinds}
