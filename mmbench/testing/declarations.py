"""Checks of what a plugin declares: its records, its hyperparameters, and that neither needs torch. Imports no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from mmbench.component import FIELDS, TASKS
from mmbench.testing.checks import Context, Failed, Skipped, Subject, expect

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
HEAVY = ("torch", "torchaudio", "torchvision", "transformers", "ot")
READS = ("tokens", "waveform")
EXTRACTS = (*READS, "frames", "features")
UNKNOWN = "no_hyperparameter_has_this_name"

CHILD = """
import importlib, json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in given["heavy"]:
            raise AssertionError(f"it imports {name}")
sys.meta_path.insert(0, Refuse())
found = {}
def attempt(label, act):
    try:
        act()
        loaded = [name for name in given["heavy"] if name in sys.modules]
        found[label] = f"it imports {', '.join(loaded)}" if loaded else ""
    except BaseException as error:
        found[label] = " ".join(f"{type(error).__name__}: {error}".split())
def entry(module):
    module, _, attribute = module.partition(":")
    plugin = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        plugin = getattr(plugin, part)
    list(plugin.mmbench_components())
for module in given["modules"]:
    attempt(module, lambda: entry(module))
for target in given["targets"]:
    module, _, attribute = target.partition(":")
    attempt(target, lambda: getattr(importlib.import_module(module), attribute.partition("[")[0]))
json.dump(found, sys.stdout)
"""


def without_torch(context: Context) -> dict[str, str]:
    """By module and config class of the distribution: why it cannot be imported where there is no torch, or nothing. One process for all."""
    if "without torch" not in context.cache:
        given = {
            "path": sys.path,
            "heavy": HEAVY,
            "modules": [plugin.module for plugin in context.plugins],
            "targets": sorted(_light(context)),
        }
        done = subprocess.run([sys.executable, "-c", CHILD], input=json.dumps(given), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"expected an interpreter that ends well; seen exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        context.cache["without torch"] = json.loads(done.stdout[done.stdout.rindex("{") :])
    found: dict[str, str] = context.cache["without torch"]
    return found


def _light(context: Context) -> set[str]:
    """What must need no torch: config classes, and the formats of data sets."""
    components = [entry.component for entry in context.entries]
    configs = {component.config for component in components if component.config}
    return configs | {component.target for component in components if component.kind == "dataset-format"}


def loads(context: Context) -> None:
    """Every entry point of the distribution can be loaded and yields components."""
    for plugin in context.plugins:
        expect(not plugin.problem, f"that {plugin.module} can be loaded", plugin.problem, plugin.name)
        expect(plugin.components, f"components from {plugin.module}", "none", plugin.name)


def imports(context: Context) -> None:
    """An entry module imports neither torch nor what needs it."""
    for plugin in context.plugins:
        if plugin.problem:
            raise Skipped("it could not be loaded")
        problem = without_torch(context)[plugin.module]
        expect(not problem, f"that {plugin.module} is imported without {', '.join(HEAVY)}", problem)


def declaration(subject: Subject) -> None:
    """Name, summary, paper, needs, provides, modalities, terms, tasks and bounds are complete and make sense."""
    component = subject.component
    expect(NAME.fullmatch(component.name), "a name of small letters, digits, hyphens and underscores", repr(component.name))
    expect(component.summary.strip() and "\n" not in component.summary, "a summary of one line", repr(component.summary))
    if component.kind in ("model", "loss") and not component.floor:
        expect(component.paper.strip(), "a paper (for a method of your own: what it is)", "none")
    fields = {"model": READS, "loss": FIELDS, "extractor": EXTRACTS}.get(component.kind, ())
    unknown = sorted(need for need in component.needs if need not in fields and not (component.kind == "loss" and need.startswith("extra.")))
    expect(not unknown, f"needs among {', '.join(fields) or 'nothing'}", ", ".join(unknown))
    if component.kind == "extractor":
        expect(len(component.needs) == 1, "one kind of input that an extractor reads", ", ".join(component.needs) or "none")
        expect(component.provides <= {"tokens"}, "an extractor that provides tokens, or nothing", ", ".join(component.provides))
        expect(not component.provides or component.needs == {"tokens"}, "that what gives tokens reads tokens", ", ".join(component.needs))
    else:
        unknown = sorted(field for field in component.provides if field not in FIELDS and not field.startswith("extra."))
        expect(not unknown, f"fields provided among {', '.join(FIELDS)} and extra.<key>", ", ".join(unknown))
        expect(component.kind == "model" or not component.provides, "fields provided by models alone", ", ".join(component.provides))
        expect(not component.modalities, "modalities named by extractors alone", ", ".join(component.modalities))
    expect(component.tasks and set(component.tasks) <= set(TASKS), f"tasks among {', '.join(TASKS)}", component.tasks)
    expect(1 <= component.min_modalities <= 3, "one to three modalities at least", component.min_modalities)
    terms = component.terms or (component.name,)
    for term, bound in component.bounds.items():
        expect(component.kind == "loss" and term in terms, f"bounds of the terms {', '.join(terms)}", term)
        expect(len(bound) == 2 and bound[0] < bound[1], "a least and a greatest value", bound, term)


def config(subject: Subject) -> None:
    """Hyperparameters are described, need no torch, refuse unknown keys, cannot be changed, and come back from JSON as they were."""
    cls = subject.entry.load_config()
    target = subject.component.config
    if target is not None:
        problem = without_torch(subject.context)[target]
        expect(not problem, f"that {target} is imported without {', '.join(HEAVY)}", problem)
    for name, field in cls.model_fields.items():
        expect(field.description, f"a description of the hyperparameter {name!r}", "none")
    expect(cls.model_config.get("frozen"), f"a frozen {cls.__name__} (derive it from mmbench.ComponentConfig)", "one that can be changed")
    expect(_refuses(cls, {**subject.options, UNKNOWN: 1}), "that an unknown key is refused", f"{cls.__name__} takes {UNKNOWN!r}")
    if subject.component.kind in ("extractor", "aligner") and needs_weights(subject):
        return
    value = subject.config()
    again = cls.model_validate_json(value.model_dump_json(), strict=True)
    expect(again == value, f"that {value!r} comes back from JSON", repr(again))
    for name in ("needs", "provides"):
        if hasattr(value, name):
            declared, found = getattr(subject.component, name), getattr(value, name)()
            expect(isinstance(found, frozenset), f"a frozenset from {cls.__name__}.{name}()", repr(found))
            expect(found <= declared, f"that {cls.__name__}.{name}() narrows {sorted(declared)}", sorted(found))


def needs_weights(subject: Subject) -> bool:
    """Whether it cannot be built: a hyperparameter without a default, such as the name of a model, is not given."""
    return not subject.options and any(field.is_required() for field in subject.entry.load_config().model_fields.values())


def _refuses(cls: Any, values: dict[str, Any]) -> bool:
    try:
        cls.model_validate(values)
    except ValidationError as error:
        return any(problem["type"] == "extra_forbidden" for problem in error.errors())
    return False


def missing_packages(subject: Subject) -> list[str]:
    """The packages among the component's extras that are not installed."""
    return [package for package in subject.component.extras if find_spec(package) is None]
