"""The entry module and the configs: no torch, complete declarations."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from pydantic import ValidationError

from mmbench.component import FIELDS
from mmbench_decalign.config import DecAlignConfig
from mmbench_decalign.plugin import mmbench_components

COMPONENTS = {component.name: component for component in mmbench_components()}


def _load(target):
    module, name = target.split(":")
    return getattr(import_module(module), name)


def test_entry_module_and_configs_import_no_torch():
    code = (
        "import sys, mmbench_decalign.config\nfrom mmbench_decalign import plugin\nlist(plugin.mmbench_components())\nprint('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize("name", COMPONENTS)
def test_declarations_hold(name):
    component = COMPONENTS[name]
    target, config = _load(component.target), _load(component.config)
    assert component.summary
    assert component.paper
    assert component.needs | component.provides <= set(FIELDS)
    assert component.terms == getattr(target, "terms", ())
    for field in config.model_fields.values():
        assert field.description
        assert field.json_schema_extra["source"]
    if component.kind == "model":
        assert config().provides() == component.provides


def test_options_are_checked():
    with pytest.raises(ValidationError, match="not a multiple"):
        DecAlignConfig(width=30, heads=8)
    with pytest.raises(ValidationError):
        DecAlignConfig(output_dropout=1.0)
    with pytest.raises(ValidationError):
        DecAlignConfig(sequence_length="texts")
    assert DecAlignConfig(decouple=False).provides() == {"encoded"}
