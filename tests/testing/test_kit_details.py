"""Each rule has several sides: for each side of a check a component that breaks it alone."""

import contextlib
import re
import sys

import pytest

pytest.importorskip("torch")

from mmbench.testing import tensors
from mmbench.testing.checks import CHECKS

BROKEN = [
    ("loss:provides", "declaration", "expected fields provided by models alone"),
    ("metric:good", "declaration", r"expected tasks among regression, classification; seen \(\)"),
    ("model:no-modality", "declaration", "expected one to three modalities at least; seen 0"),
    ("loss:reversed-bound", "declaration", "expected a least and a greatest value"),
    ("extractor:reads-both", "declaration", "expected one kind of input"),
    ("model:list-of-fields", "config", r"expected a frozenset from ListOfFields.provides\(\)"),
    ("model:not-returned", "fields", r"expected the fields of the spec, \['encoded', 'unimodal_predictions'\]; seen \['encoded'\]"),
    ("model:wrong-fused", "fields", r"expected fused of shape \(4, 4\); seen \(4, 3\)"),
    ("model:infinite", "fields", "expected a finite fused"),
    ("model:one-encoded", "fields", r"expected encoded of \['audio', 'text'\]; seen \['text'\]"),
    ("model:one-unimodal", "fields", r"expected unimodal predictions of \['audio', 'text'\]; seen \['text'\]"),
    ("model:wide-unimodal", "fields", r"expected a unimodal prediction of shape \(4,\); seen \(4, 1\)"),
    ("model:whole-values", "fields", "expected float values; seen torch.int64"),
    ("model:float-mask", "fields", r"expected a bool mask \(B, T\); seen torch.float32"),
    ("model:says-vectors", "fields", "expected one vector a sample, as the spec says; seen 6 frames"),
    ("model:foreign", "fields", "expected encoded of modalities of the data; seen .*smell"),
    ("model:two-widths", "fields", r"expected one width of common for all modalities; seen \[3, 4\]"),
    ("model:vectors", "modalities", r"expected a finite prediction; .*\(regression, text, vectors\)"),
    ("model:spread", "batch-of-one", "expected a finite prediction of a batch of one in training"),
    ("model:mates", "empty-modality", "expected the same prediction of the other samples"),
    ("model:nan-gradient", "gradients", "expected a finite gradient of"),
    ("model:nan-gradient-bf16", "bf16", "expected a finite gradient of .* under bf16"),
    ("model:other-in-float64", "float64", "expected the same prediction in float64"),
    ("model:elsewhere", "another-process", "expected a module of .* numbers in another process; seen"),
    ("loss:list", "terms", "expected a dict of terms; seen list"),
    ("loss:relabels", "evaluation", "expected a batch that a forward pass leaves alone"),
    ("loss:nan-gradient", "batch-of-one", "expected a finite gradient of map.weight"),
    ("loss:unseeded-terms", "seed", "expected the same pull from the same seed"),
    ("loss:other-in-float64", "float64", "expected the same pull in float64"),
    ("loss:nan-gradient-bf16", "bf16", "expected a finite gradient with respect to common under bf16"),
    ("metric:other-tasks", "record", r"expected the tasks \('regression',\); seen \('classification',\)"),
    ("metric:no-range", "record", r"expected a least and a greatest value; seen \(1.0, 0.0\)"),
    ("metric:mean-of-classes", "values", r"expected one value for each of 4 classes; seen shape \(\)"),
    ("extractor:widthless", "features", "expected a width; seen 0"),
    ("extractor:wordless", "features", "expected the size of the vocabulary"),
    ("extractor:whole-values", "features", "expected float features; seen torch.int64"),
    ("extractor:float-mask", "features", "expected a bool mask"),
    ("extractor:no-frames", "features", "expected a real frame of each sample"),
    ("extractor:infinite", "features", "expected a finite values"),
    ("extractor:sees-padding", "padding", "expected the same mask; seen another"),
    ("extractor:mates", "empty-sample", "expected the same features of the other samples"),
    ("extractor:float-ids", "preparation", "expected token ids .* of type long; seen torch.float32"),
    ("extractor:halves", "preparation", r"expected 1600 float samples; seen torch.float32 \(800,\)"),
    ("extractor:rateless", "features", "expected frames per second, or None; seen 0.0"),
    ("extractor:no-suffixes", "preparation", "expected suffixes, the endings of the files that prepare reads; seen none"),
    ("extractor:capital-suffix", "preparation", r"expected suffixes in small letters with their dot; seen \['.WAV'\]"),
    ("extractor:restless", "preparation", "expected the same preparation of the same sample"),
    ("extractor:wide-ready", "preparation", r"expected float features \(T, 6\); seen torch.float32 \(9, 5\)"),
    ("extractor:nan-ready", "preparation", "expected a finite sample"),
    ("extractor:empty-ready", "preparation", "expected one frame or more"),
    ("extractor:flat-images", "preparation", r"expected float images \(T, C, H, W\)"),
    ("extractor:span-outside", "spans", r"expected spans within 0 and 33; seen \[\(32, 34\)\]"),
    ("extractor:one-digest-ready", "digest", "expected another digest when an option changes; seen the same for another factor"),
    ("extractor:gives-features", "declaration", "expected an extractor that provides tokens, or nothing; seen features"),
    ("extractor:ids-of-sound", "declaration", "expected that what gives tokens reads tokens; seen waveform"),
    ("model:of-text", "declaration", "expected modalities named by extractors alone; seen text"),
    ("aligner:hasty", "contract", r"expected a method align\(clip, path, words\); seen too many positional arguments"),
    ("aligner:digestless", "digest", "expected a digest; seen None"),
    ("dataset-format:nervous", "foreign", "expected no error; seen .*Error"),
    ("dataset-format:vague", "foreign", "expected False; seen None"),
    ("dataset-format:format", "contract", "expected that kit_heavy:Format is imported without torch"),
    ("extractor:untuned", "gradients", "expected something that finetune trains; seen nothing"),
    ("extractor:nan-gradient", "gradients", "expected a finite gradient of"),
    ("extractor:digestless", "digest", "expected a digest; seen None"),
    ("extractor:numbered", "state", "expected the same features from the loaded state"),
    ("executor:eager", "outcomes", "expected no outcome where there is no run"),
    ("executor:wordy", "outcomes", r"expected outcomes; seen \['str', 'str'\]"),
]


@pytest.mark.parametrize(("component", "check", "message"), BROKEN, ids=[f"{case[0]}-{case[1]}" for case in BROKEN])
def test_a_broken_detail_is_seen(verdict, monkeypatch, component, check, message) -> None:
    monkeypatch.setattr(tensors, "gpu", lambda: contextlib.nullcontext("cpu"))
    if component == "extractor:flat-images":
        pytest.importorskip("av", reason="a video needs PyAV")
    status, seen = verdict("details", f"{component}:{check}")
    assert status == "failed"
    assert re.search(message, seen.split("\nrule: ")[0]), seen


NO_TUNING = ("skipped", "it has no option finetune")
GIVES_IDS = ("skipped", "it gives token ids: no more than its preparation is read")
NO_SAMPLE = ("skipped", "no sample file of the kind .csv can be made here")
SKIPPED = {
    "images": {"spans": ("skipped", "it reads no text")},
    "ready": {"gradients": NO_TUNING, "state": NO_TUNING},
    "table": {"gradients": NO_TUNING, "state": NO_TUNING, "preparation": NO_SAMPLE, "spans": ("skipped", "it reads no text")},
    "ids": dict.fromkeys(("features", "padding", "batch-of-one", "empty-sample", "frozen", "gradients", "state", "bf16", "gpu"), GIVES_IDS),
}
"""By extractor of another kind of input: the checks that have nothing to check."""


@pytest.mark.parametrize("component", SKIPPED)
def test_every_kind_of_extractor_passes(verdict, monkeypatch, component) -> None:
    monkeypatch.setattr(tensors, "gpu", lambda: contextlib.nullcontext("cpu"))
    if component == "images":
        pytest.importorskip("av", reason="a video needs PyAV")
    checks = [check.name for check in CHECKS if check.kind == "extractor"]
    found = {check: verdict("kit", f"extractor:{component}:{check}") for check in checks}
    assert found == {**dict.fromkeys(checks, ("passed", "")), **SKIPPED[component]}


def test_aligners_that_cannot_be_built_are_skipped_with_the_reason(verdict) -> None:
    assert verdict("kit", "aligner:required:digest") == ("skipped", "no hyperparameters to build it with (configs)")
    assert verdict("kit", "aligner:required:config") == ("passed", "")
    assert verdict("kit", "aligner:unavailable:digest") == ("skipped", "it cannot be built here: there is no table")


def test_a_video_is_skipped_without_pyav(verdict, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert verdict("kit", "extractor:images:preparation") == ("skipped", "a sample video needs PyAV, which is not installed")
