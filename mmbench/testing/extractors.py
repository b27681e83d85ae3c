"""Checks of extractors. They need hyperparameters with which one can be built: weights in a local folder, say."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import Tensor

from mmbench.batch import Sequence
from mmbench.errors import ConfigError
from mmbench.interfaces import FeatureExtractor
from mmbench.testing import samples, tensors
from mmbench.testing.checks import Failed, Skipped, Subject, expect
from mmbench.testing.tensors import expect_close, expect_finite
from mmbench.training.seeds import seed_everything

EXACT, BF16, GPU = 1e-4, 0.1, 1e-3
LENGTHS = {"tokens": (9, 5, 1, 7), "waveform": (1600, 900, 1100, 1300), "frames": (3, 1, 2, 2), "features": (6, 4, 1, 3)}
SENTENCE = "it was a good film and i loved it"


def given(subject: Subject) -> bool:
    """Whether there are hyperparameters to build the extractor with."""
    fields = subject.entry.load_config().model_fields.values()
    return bool(subject.options) or not any(field.is_required() for field in fields)


def build(subject: Subject, **changes: Any) -> FeatureExtractor:
    """The extractor in training mode. Raises `Skipped` where there are no hyperparameters to build it with, or its weights cannot be had."""
    if not given(subject):
        raise Skipped("no hyperparameters to build it with (configs)")
    cls: Any = subject.entry.load()
    if not (isinstance(cls, type) and issubclass(cls, FeatureExtractor)):
        raise Failed(f"expected a subclass of mmbench.interfaces.FeatureExtractor at {subject.component.target}; seen {cls!r}")
    seed_everything(0, "conformance")
    try:
        built: FeatureExtractor = cls(subject.config(**changes))
    except ConfigError as error:
        raise Skipped(f"it cannot be built here: {error}") from error
    return built.train()


def tuned(subject: Subject) -> FeatureExtractor:
    """The extractor with ``finetune``. Raises `Skipped` where it has no such option."""
    if "finetune" not in subject.entry.load_config().model_fields:
        raise Skipped("it has no option finetune")
    return build(subject, finetune=True)


def kind_of(subject: Subject) -> str:
    """What the extractor's `forward` reads: ``tokens``, ``waveform``, ``frames`` or ``features``."""
    return next(iter(subject.component.needs))


def gives_ids(subject: Subject) -> bool:
    """Whether it gives token ids, so that nothing reads its `forward`."""
    return "tokens" in subject.component.provides


@contextmanager
def sample(subject: Subject, extractor: FeatureExtractor) -> Iterator[Path | str]:
    """Something for `prepare`: a sentence, or a file. Raises `Skipped` where no file of its kind can be made."""
    if not extractor.suffixes:
        expect(kind_of(subject) in ("tokens", "features"), "suffixes, the endings of the files that prepare reads", "none")
        yield SENTENCE
        return
    wrong = [suffix for suffix in extractor.suffixes if not suffix.startswith(".") or suffix != suffix.lower()]
    expect(not wrong, "suffixes in small letters with their dot", wrong)
    with tempfile.TemporaryDirectory() as folder:
        yield samples.recording(Path(folder), extractor.suffixes)


def prepared(subject: Subject, extractor: FeatureExtractor) -> Tensor:
    """One sample, prepared."""
    with sample(subject, extractor) as given_sample:
        return extractor.prepare(given_sample)


def raw(subject: Subject, extractor: FeatureExtractor, noise: bool = False) -> Sequence:
    """Four samples of raw input; `noise` is what stands in the padding. Raises `Skipped` for an extractor that gives token ids."""
    if gives_ids(subject):
        raise Skipped("it gives token ids: no more than its preparation is read")
    kind = kind_of(subject)
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    lengths = torch.tensor(LENGTHS[kind])
    mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)  # (B, T)
    if kind == "tokens":
        most = extractor.vocabulary or 20
        values, junk = (torch.randint(1, most, mask.shape, generator=each) for each in (generator, other))
    else:
        inner = {"waveform": lambda: (), "frames": lambda: prepared(subject, extractor).shape[1:], "features": lambda: (extractor.width,)}[kind]()
        values, junk = (torch.randn(*mask.shape, *inner, generator=each) for each in (generator, other))
    return Sequence(torch.where(_fits(mask, values), values, junk if noise else 0), mask)


def _fits(mask: Tensor, values: Tensor) -> Tensor:
    """A mask (B, T) with a dimension of 1 for each further one of the values."""
    return mask.view(*mask.shape, *[1] * (values.ndim - 2))


@torch.no_grad()
def evaluated(extractor: FeatureExtractor, given_raw: Sequence) -> Sequence:
    """The features in evaluation mode."""
    found: Sequence = extractor.eval()(given_raw)
    return found


def features(subject: Subject) -> None:
    """Raw input becomes float features (B, T', width) with their mask, at least one real frame each, and zeros where there is none."""
    extractor = build(subject)
    expect(isinstance(extractor.width, int) and extractor.width > 0, "a width", getattr(extractor, "width", None))
    if kind_of(subject) == "tokens":
        expect(isinstance(extractor.vocabulary, int), "the size of the vocabulary of an extractor that reads tokens", extractor.vocabulary)
    expect(extractor.frame_rate is None or extractor.frame_rate > 0, "frames per second, or None", extractor.frame_rate)
    found = evaluated(extractor, raw(subject, extractor))
    size = len(LENGTHS[kind_of(subject)])
    shape = tuple(found.values.shape)
    expect(len(shape) == 3 and (shape[0], shape[2]) == (size, extractor.width), f"values ({size}, T', {extractor.width})", shape)
    expect(found.values.is_floating_point(), "float features", found.values.dtype)
    fits = found.mask.dtype == torch.bool and found.mask.shape == shape[:2]
    expect(fits, f"a bool mask {shape[:2]}", f"{found.mask.dtype} {tuple(found.mask.shape)}")
    expect(found.mask.any(1).all(), "a real frame of each sample", found.mask.sum(1).tolist())
    expect_finite(found.values, "values", "four samples")
    expect(not found.values[~found.mask].any(), "zeros where no frame is real", "other values")


def padding(subject: Subject) -> None:
    """What stands in padding changes nothing."""
    extractor = build(subject)
    clean, noisy = (evaluated(extractor, raw(subject, extractor, noise)) for noise in (False, True))
    expect(torch.equal(clean.mask, noisy.mask), "the same mask", "another")
    expect_close(noisy.values, clean.values, EXACT, "the same features with noise in the padding", "four samples")


def batch_of_one(subject: Subject) -> None:
    """A sample alone, padded as before, gets the features that it gets among others."""
    extractor = build(subject)
    given_raw = raw(subject, extractor)
    together = evaluated(extractor, given_raw)
    for sample in range(len(given_raw.mask)):
        alone = evaluated(extractor, Sequence(given_raw.values[sample : sample + 1], given_raw.mask[sample : sample + 1]))
        expect_close(alone.values, together.values[sample : sample + 1], EXACT, "the same features alone", f"sample {sample}")


def empty_sample(subject: Subject) -> None:
    """A sample without real input gets finite features and does not change the others."""
    extractor = build(subject)
    given_raw = raw(subject, extractor)
    whole = evaluated(extractor, given_raw)
    mask = given_raw.mask.clone()
    mask[0] = False
    real = mask.view(*mask.shape, *[1] * (given_raw.values.ndim - 2))
    found = evaluated(extractor, Sequence(torch.where(real, given_raw.values, 0), mask))
    expect_finite(found.values, "values", "no real input in the first sample")
    expect_close(found.values[1:], whole.values[1:], EXACT, "the same features of the other samples", "no real input in the first sample")


def preparation(subject: Subject) -> None:
    """One sample becomes token ids, a waveform, images or features of one shape, finite, and the same each time."""
    extractor, kind = build(subject).eval(), kind_of(subject)
    found = prepared(subject, extractor)
    seen = f"{found.dtype} {tuple(found.shape)}"
    expect(found.ndim and len(found), "one frame or more", seen)
    if kind == "tokens":
        expect(found.ndim == 1 and found.dtype == torch.long, "token ids (T,) of type long", seen)
        most = extractor.vocabulary or 0
        expect(int(found.min()) >= 0 and int(found.max()) < most, f"ids below {most}", f"up to {int(found.max())}")
    elif kind == "waveform":
        count = samples.SAMPLES
        expect(found.shape == (count,) and found.is_floating_point(), f"{count} float samples", seen)
    elif kind == "frames":
        expect(found.ndim == 4 and found.is_floating_point(), "float images (T, C, H, W)", seen)
    else:
        fits = found.ndim == 2 and found.shape[1] == extractor.width and found.is_floating_point()
        expect(fits, f"float features (T, {extractor.width})", seen)
    expect_finite(found, "sample", "preparation")
    expect_close(prepared(subject, extractor), found, 0.0, "the same preparation of the same sample", "prepared twice")


def spans(subject: Subject) -> None:
    """The spans of a transcript are one for each frame, each within the text."""
    extractor = build(subject).eval()
    if extractor.suffixes:
        raise Skipped("it reads no text")
    found = extractor.spans(SENTENCE)
    if found is None:
        raise Skipped("its frames stand for no characters")
    frames = prepared(subject, extractor)
    if not gives_ids(subject):
        frames = evaluated(extractor, Sequence(frames.unsqueeze(0), torch.ones(1, len(frames), dtype=torch.bool))).values[0]
    expect(len(found) == len(frames), f"{len(frames)} spans, one for each frame", len(found))
    wrong = [span for span in found if not 0 <= span[0] <= span[1] <= len(SENTENCE)]
    expect(not wrong, f"spans within 0 and {len(SENTENCE)}", wrong[:3])


def frozen(subject: Subject) -> None:
    """Without ``finetune`` nothing is trained, and training mode gives the features of evaluation mode."""
    extractor = build(subject)
    given_raw = raw(subject, extractor)
    asked = [name for name, _ in tensors.trainable(extractor)]
    expect(not asked, "no parameter that is trained", ", ".join(asked[:3]))
    before = evaluated(extractor, given_raw).values
    expect_close(extractor.train()(given_raw).values, before, 0.0, "the same features in training mode", "four samples")


def gradients(subject: Subject) -> None:
    """With ``finetune`` every trainable parameter gets a finite gradient that is not zero, in one of four steps."""
    extractor = tuned(subject)
    expect(any(True for _ in tensors.trainable(extractor)), "something that finetune trains", "nothing")
    given_raw = raw(subject, extractor)
    reached = set()
    for _ in range(4):
        extractor.zero_grad()
        found = extractor.train()(given_raw).values
        (found * torch.randn(found.shape, generator=torch.Generator().manual_seed(5))).sum().backward()
        for name, parameter in tensors.trainable(extractor):
            if parameter.grad is not None:
                expect_finite(parameter.grad, f"gradient of {name}", "four samples")
                reached |= {name} if parameter.grad.any() else set()
    lost = [name for name, _ in tensors.trainable(extractor) if name not in reached]
    expect(not lost, "a gradient for every trainable parameter", f"none for {', '.join(lost[:5])}")


def digest(subject: Subject) -> None:
    """The digest is the same for two instances of one config, and another one when a weight changes, or, where there are none, an option."""
    first, second = build(subject), build(subject)
    found = first.digest()
    expect(isinstance(found, str) and found, "a digest", repr(found))
    expect(second.digest() == found, "the same digest of a second instance", "another")
    parameters = list(first.parameters())
    if not parameters:
        others = {name: build(subject, **{name: value}).digest() for name, value in _other_options(subject)}
        expect(not others or set(others.values()) != {found}, "another digest when an option changes", f"the same for another {', '.join(others)}")
        return
    with torch.no_grad():
        max(parameters, key=lambda each: each.numel()).add_(1.0)
    expect(first.digest() != found, "another digest when a weight changes", "the same")


def _other_options(subject: Subject) -> Iterator[tuple[str, Any]]:
    """Options with another value that the config accepts: choices, switches and numbers, but nothing that could name a file."""
    config = subject.config()
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if isinstance(value, bool):
            others: list[Any] = [not value]
        elif isinstance(value, (int, float)):
            others = [value + 1, value * 2, value / 2] if isinstance(value, float) else [value + 1, value + 2, value - 1]
        else:
            others = [choice for choice in choices if choice != value]
        for other in others:
            try:
                type(config).model_validate({**config.model_dump(), name: other})
            except ValidationError:
                continue
            yield name, other
            break


def state(subject: Subject) -> None:
    """The state goes through a file (weights_only) into a fresh instance, which then gives the same features."""
    extractor = tuned(subject)
    with torch.no_grad():
        for _, parameter in tensors.trainable(extractor):
            parameter.add_(0.01)
    fresh = tuned(subject)
    tensors.load_state(fresh, tensors.through_a_file(extractor), "finetune")
    given_raw = raw(subject, extractor)
    before, after = evaluated(extractor, given_raw).values, evaluated(fresh, given_raw).values
    expect_close(after, before, 0.0, "the same features from the loaded state", "finetune")


def bf16(subject: Subject) -> None:
    """Under bf16 autocast the features are about those of float32."""
    extractor = build(subject)
    given_raw = raw(subject, extractor)
    single = evaluated(extractor, given_raw).values
    with torch.autocast("cpu", torch.bfloat16):
        half = evaluated(extractor, given_raw).values
    expect_close(half, single, BF16, "about the same features under bf16", "four samples")


def gpu(subject: Subject) -> None:
    """A GPU gives what the CPU gives, up to 0.001."""
    with tensors.gpu() as device:
        extractor = build(subject)
        given_raw = raw(subject, extractor)
        cpu = evaluated(extractor, given_raw).values
        cuda = evaluated(extractor.to(device), Sequence(given_raw.values.to(device), given_raw.mask.to(device))).values
        expect_close(cuda, cpu, GPU, "the features of the CPU", "four samples")
