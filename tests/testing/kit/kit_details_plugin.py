"""Entry module of the components of `kit_details`, and of records that declare something wrong."""

from __future__ import annotations

from kit_plugin import BOUNDS, FIELDS, extractor, loss, metric, model

from mmbench import Component, hookimpl

MODELS = """not-returned wrong-fused infinite one-encoded one-unimodal wide-unimodal whole-values float-mask says-vectors foreign mates vectors spread
    nan-gradient nan-gradient-bf16 other-in-float64 elsewhere""".split()  # noqa: SIM905
LOSSES = "list relabels nan-gradient unseeded-terms other-in-float64 nan-gradient-bf16".split()  # noqa: SIM905
EXTRACTORS = """widthless wordless float-ids untuned digestless numbered whole-values float-mask no-frames infinite sees-padding mates
    nan-gradient rateless span-outside""".split()  # noqa: SIM905


@hookimpl
def mmbench_components():
    details = "kit_details:"
    for name in MODELS:
        yield Component("model", name, f"{details}MODELS[{name}]", "a test", "kit_config:Model", "none", provides=FIELDS)
    yield Component("model", "two-widths", f"{details}TwoWidths", "a test", "kit_config:Model", "none", provides=FIELDS | {"common"})
    common = {"needs": frozenset({"common"}), "terms": ("pull", "push"), "bounds": BOUNDS}
    for name in LOSSES:
        yield Component("loss", name, f"{details}LOSSES[{name}]", "a test", paper="none", **common)
    for name in EXTRACTORS:
        yield Component("extractor", name, f"{details}EXTRACTORS[{name}]", "a test", "kit_config:Extractor", needs=frozenset({"tokens"}))
    for name, reads in {"halves": "waveform", "no-suffixes": "waveform", "capital-suffix": "waveform", "flat-images": "frames"}.items():
        yield Component("extractor", name, f"{details}EXTRACTORS[{name}]", "a test", "kit_config:Extractor", needs=frozenset({reads}))
    for name in ("restless", "wide-ready", "nan-ready", "empty-ready", "one-digest-ready"):
        yield Component("extractor", name, f"{details}READY[{name}]", "a test", "kit_config:Ready", needs=frozenset({"features"}))
    for target in ("Hasty", "Digestless"):
        yield Component("aligner", target.lower(), f"kit_data:{target}", "a test")
    for target in ("kit_data:Nervous", "kit_data:Vague", "kit_heavy:Format"):
        yield Component("dataset-format", target.partition(":")[2].lower(), target, "a test")
    yield extractor("Good", "gives-features", provides=frozenset({"features"}))
    yield extractor("Good", "ids-of-sound", needs=frozenset({"waveform"}), provides=frozenset({"tokens"}))
    yield model("Good", "of-text", modalities=("text",))
    for name, tasks in {"other-tasks": ("regression",), "no-range": ("regression",), "mean-of-classes": ("classification",)}.items():
        yield Component("metric", name, f"{details}METRICS[{name}]", "a test", tasks=tasks)
    for name in ("eager", "wordy"):
        yield Component("executor", name, f"{details}EXECUTORS[{name}]", "a test")
    yield loss("Good", "provides", provides=frozenset({"common"}))
    yield metric("good", tasks=())
    yield model("Good", "no-modality", min_modalities=0)
    yield model("Good", "list-of-fields", config="ListOfFields")
    yield loss("Good", "reversed-bound", bounds={"pull": (1.0, 0.0)})
    yield extractor("Good", "reads-both", needs=frozenset({"tokens", "waveform"}))
