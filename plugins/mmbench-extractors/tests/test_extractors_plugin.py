"""The entry module and the configs: no torch, complete declarations."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from pydantic import ValidationError

from mmbench_extractors.config import HFAudioConfig, HFTextConfig
from mmbench_extractors.plugin import mmbench_components

COMPONENTS = {component.name: component for component in mmbench_components()}


def _load(target):
    module, name = target.split(":")
    return getattr(import_module(module), name)


def test_entry_module_and_configs_import_no_torch():
    configs = sorted({component.config.partition(":")[0] for component in COMPONENTS.values()})
    code = (
        f"import sys, {', '.join(configs)}\n"
        "from mmbench_extractors import plugin\nlist(plugin.mmbench_components())\n"
        "print([name for name in ('torch', 'transformers', 'soundfile', 'av', 'opensmile', 'cv2', 'mediapipe') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", COMPONENTS)
def test_declarations_hold(name):
    component = COMPONENTS[name]
    target, config = _load(component.target), _load(component.config)
    assert component.kind in ("extractor", "aligner")
    if component.kind == "extractor":
        assert target.component == name
        assert len(component.needs) == len(component.modalities) == 1
    for field in config.model_fields.values():
        assert field.description
        assert field.json_schema_extra["source"]


def test_options_are_checked():
    with pytest.raises(ValidationError, match="model"):
        HFTextConfig()
    with pytest.raises(ValidationError):
        HFTextConfig(model="m", output="pooled")
    with pytest.raises(ValidationError):
        HFAudioConfig(model="m", freeze_layers=-1)
    with pytest.raises(ValidationError):
        HFAudioConfig(model="m", max_tokens=5)
