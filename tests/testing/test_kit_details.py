"""Each rule has several sides: for each side of a check a component that breaks it alone."""

import contextlib
import re

import pytest

pytest.importorskip("torch")

from mmbench.testing import tensors

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
    status, seen = verdict("details", f"{component}:{check}")
    assert status == "failed"
    assert re.search(message, seen.split("\nrule: ")[0]), seen
