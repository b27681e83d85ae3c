"""Components that break one detail of a rule each, made of the good ones by one function. Names are those of the catalogue."""

from __future__ import annotations

import sys
from dataclasses import replace

import kit_extractors
import kit_losses
import kit_models
import numpy as np
import torch
from kit_rest import Executor, classes, good, metric

from mmbench.batch import Sequence
from mmbench.component import FieldSpec


def nan_gradient(value):
    """Zero, with a gradient of NaN."""
    return (0.0 * value).sqrt()


def returns(change):
    """A model that returns what `change` makes of the representation of a good one."""

    class Changed(kit_models.Good):
        def forward(self, batch):
            return change(self, super().forward(batch))

    return Changed


def fuses(change):
    class Changed(kit_models.Good):
        def fuse(self, vectors):
            return change(self, super().fuse(vectors))

    return Changed


def specifies(**fields):
    """A model whose spec has other fields than what it returns, each given as a function of the modalities."""

    class Changed(kit_models.Good):
        def __init__(self, inputs, config):
            super().__init__(inputs, config)
            self.spec = replace(self.spec, **{name: make(list(inputs.modalities)) for name, make in fields.items()})

    return Changed


def encoded(change):
    return returns(lambda model, found: replace(found, encoded={name: change(each) for name, each in found.encoded.items()}))


def unimodal(change):
    return returns(lambda model, found: replace(found, unimodal_predictions=change(found.unimodal_predictions)))


class Mates(kit_models.Good):
    def mean(self, sequence):
        return super().mean(sequence) * sequence.mask.any(1).all()


class Vectors(kit_models.Good):
    def mean(self, sequence):
        return super().mean(sequence) * (float("nan") if sequence.mask.shape[1] == 1 else 1.0)


class Elsewhere(kit_models.Good):
    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.register_buffer("here", torch.zeros(1 + ("mmbench.testing" in sys.modules)))


def _spread(model, fused):
    """Divided by the variance of the batch, in training: 0 / 0 for one sample."""
    centred = fused - fused.mean(0)
    return centred / (1 + centred.square().sum(0) / (len(fused) - 1)) if model.training else fused


MODELS = {
    "not-returned": unimodal(lambda found: None),
    "wrong-fused": returns(lambda model, found: replace(found, fused=found.fused[:, 1:])),
    "infinite": returns(lambda model, found: replace(found, fused=found.fused / 0.0)),
    "one-encoded": returns(lambda model, found: replace(found, encoded=dict(list(found.encoded.items())[:1]))),
    "one-unimodal": unimodal(lambda found: dict(list(found.items())[:1])),
    "wide-unimodal": unimodal(lambda found: {name: value.unsqueeze(-1) for name, value in found.items()}),
    "whole-values": encoded(lambda each: Sequence(each.values.long(), each.mask)),
    "float-mask": encoded(lambda each: Sequence(each.values, each.mask.float())),
    "says-vectors": specifies(encoded=lambda names: {name: FieldSpec(4, sequence=False) for name in names}),
    "foreign": specifies(encoded=lambda names: {name: FieldSpec(4, sequence=True) for name in [*names, "smell"]}),
    "mates": Mates,
    "vectors": Vectors,
    "spread": fuses(_spread),
    "nan-gradient": fuses(lambda model, fused: fused + nan_gradient(fused)),
    "nan-gradient-bf16": fuses(lambda model, fused: fused + nan_gradient(fused) if torch.is_autocast_enabled("cpu") else fused),
    "other-in-float64": fuses(lambda model, fused: fused + (fused.dtype == torch.float64)),
    "elsewhere": Elsewhere,
}


class TwoWidths(kit_models.Good):
    """One modality's common features are wider than another's."""

    def __init__(self, inputs, config):
        super().__init__(inputs, config)
        self.spec = replace(self.spec, common={name: FieldSpec(4 - place, sequence=True) for place, name in enumerate(inputs.modalities)})

    def forward(self, batch):
        found = super().forward(batch)
        cut = {name: Sequence(found.encoded[name].values[..., : entry.width], found.encoded[name].mask) for name, entry in self.spec.common.items()}
        return replace(found, common=cut)


def gives(change):
    """A loss that returns what `change` makes of the terms of a good one."""

    class Changed(kit_losses.Good):
        def forward(self, representation, batch):
            return change(self, super().forward(representation, batch), representation, batch)

    return Changed


def adds(make):
    return gives(lambda loss, found, features, batch: {name: value + make(loss, features) for name, value in found.items()})


def _relabels(loss, found, features, batch):
    batch.target.zero_()
    return found


def _unseeded(loss, features):
    generator = torch.Generator()
    generator.seed()
    return torch.rand((), generator=generator)


def _first(features):
    return next(iter(features.common.values())).values


LOSSES = {
    "list": gives(lambda loss, found, features, batch: list(found.values())),
    "relabels": gives(_relabels),
    "nan-gradient": adds(lambda loss, features: nan_gradient(loss.map.weight).sum()),
    "unseeded-terms": adds(_unseeded),
    "other-in-float64": adds(lambda loss, features: float(_first(features).dtype == torch.float64)),
    "nan-gradient-bf16": adds(lambda loss, features: nan_gradient(_first(features)).sum() if torch.is_autocast_enabled("cpu") else 0.0),
}
METRICS = {
    "other-tasks": metric("other-tasks", tasks=("classification",)),
    "no-range": metric("no-range", good, limits=(1.0, 0.0)),
    "mean-of-classes": metric("mean-of-classes", lambda p, y: float(np.nanmean(classes(p, y))), tasks=("classification",), per_class=True),
}


def features(change):
    """An extractor that returns what `change` makes of the features of a good one."""

    class Changed(kit_extractors.Good):
        def forward(self, raw):
            return change(self, super().forward(raw), raw)

    return Changed


class Widthless(kit_extractors.Good):
    def __init__(self, config):
        super().__init__(config)
        self.width = 0


class Wordless(kit_extractors.Good):
    def __init__(self, config):
        super().__init__(config)
        self.vocabulary = None


class FloatIds(kit_extractors.Good):
    def prepare(self, path_or_text):
        return super().prepare(path_or_text).float()


class Halves(kit_extractors.Waves):
    def prepare(self, path_or_text):
        return super().prepare(path_or_text)[::2]


class Untuned(kit_extractors.Good):
    def __init__(self, config):
        super().__init__(config)
        self.requires_grad_(False)


class Digestless(kit_extractors.Good):
    def digest(self):
        return None


class Numbered(kit_extractors.Good):
    count = 0

    def __init__(self, config):
        super().__init__(config)
        Numbered.count += 1
        self.number = Numbered.count

    def change(self, values, mask):
        return values + self.number


class NoSuffixes(kit_extractors.Waves):
    suffixes = ()


class CapitalSuffix(kit_extractors.Waves):
    suffixes = (".WAV",)


class FlatImages(kit_extractors.Images):
    def prepare(self, path_or_text):
        return super().prepare(path_or_text).flatten(2)


class Rateless(kit_extractors.Good):
    frame_rate = 0.0


class SpanOutside(kit_extractors.Good):
    def spans(self, text):
        return [(start, end + 1) for start, end in super().spans(text)]


def ready(change):
    """An extractor whose sample is what `change` makes of a good one's."""

    class Changed(kit_extractors.Ready):
        def prepare(self, path_or_text):
            return change(super().prepare(path_or_text))

    return Changed


class OneDigestReady(kit_extractors.Ready):
    def digest(self):
        return "ready"


READY = {
    "restless": ready(lambda values: values + torch.rand(())),
    "wide-ready": ready(lambda values: values[:, :5]),
    "nan-ready": ready(lambda values: values / 0 * 0),
    "empty-ready": ready(lambda values: values[:0]),
    "one-digest-ready": OneDigestReady,
}
EXTRACTORS = {
    "no-suffixes": NoSuffixes,
    "capital-suffix": CapitalSuffix,
    "flat-images": FlatImages,
    "rateless": Rateless,
    "span-outside": SpanOutside,
    "widthless": Widthless,
    "wordless": Wordless,
    "float-ids": FloatIds,
    "halves": Halves,
    "untuned": Untuned,
    "digestless": Digestless,
    "numbered": Numbered,
    "whole-values": features(lambda self, found, raw: Sequence(found.values.long(), found.mask)),
    "float-mask": features(lambda self, found, raw: Sequence(found.values, found.mask.float())),
    "no-frames": features(lambda self, found, raw: Sequence(found.values, found.mask & False)),
    "infinite": features(lambda self, found, raw: Sequence(found.values / found.mask.unsqueeze(-1), found.mask)),
    "sees-padding": features(lambda self, found, raw: Sequence(found.values, found.mask | (raw.values == 7))),
    "mates": features(lambda self, found, raw: Sequence(found.values * raw.mask.any(1).all(), found.mask)),
    "nan-gradient": features(lambda self, found, raw: Sequence(found.values + nan_gradient(found.values), found.mask)),
}


class Eager(Executor):
    def submit(self, runs):
        return super().submit(list(runs) or [None])


class Wordy(Executor):
    def submit(self, runs):
        return ["failed" for _ in runs]


EXECUTORS = {"eager": Eager, "wordy": Wordy}
