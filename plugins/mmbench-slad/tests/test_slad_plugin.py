"""The entry module and the configs: no torch, complete declarations."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mmbench.component import FIELDS
from mmbench_slad import config
from mmbench_slad.plugin import mmbench_components

COMPONENTS = {component.name: component for component in mmbench_components()}


def _load(target):
    module, name = target.split(":")
    return getattr(import_module(module), name)


def test_entry_module_and_configs_import_no_torch():
    code = "import sys, mmbench_slad.config\nfrom mmbench_slad import plugin\nlist(plugin.mmbench_components())\nprint('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize("name", COMPONENTS)
def test_declarations_hold(name):
    component = COMPONENTS[name]
    target, options = _load(component.target), _load(component.config)
    assert component.summary
    assert component.paper
    assert component.needs | component.provides <= set(FIELDS)
    assert component.terms == getattr(target, "terms", ())
    assert component.tasks == (("regression", "classification") if component.kind == "model" else ("regression",))
    for field in options.model_fields.values():
        assert field.description
        assert field.json_schema_extra["source"]
    if hasattr(options, "needs"):
        assert options().needs() == component.needs


def test_needs_follow_the_options():
    assert config.SladContrastiveConfig(label_weights=False).needs() == {"common"}
    assert config.SladRepulsiveConfig(labels="annotated").needs() == {"unique"}
    assert config.SladMultilabelConfig(labels="annotated").needs() == {"common"}


@pytest.mark.parametrize(
    ("cls", "options", "reason"),
    [
        (config.SLaDConfig, {"width": 100}, "not a multiple"),
        (config.SLaDConfig, {"dropout": 1.0}, "less than 1"),
        (config.SladContrastiveConfig, {"top_k": 0}, "greater than or equal to 1"),
        (config.SladContrastiveConfig, {"temperature": 0.0}, "greater than 0"),
        (config.SladContrastiveConfig, {"labels": "own"}, "'predicted' or 'annotated'"),
        (config.SladRepulsiveConfig, {"margin": 1.5}, "less than or equal to 1"),
        (config.SladMultilabelConfig, {"bandwidth": 0.5}, "not permitted"),
        (config.UnimodalRegressionConfig, {"target": "own"}, "own_if_present"),
    ],
)
def test_options_are_checked(cls, options, reason):
    with pytest.raises(ValidationError, match=reason):
        cls(**options)


CONFIGS = Path(__file__).parents[3] / "configs"
TABLE_3 = ["1111", "0111", "1011", "1101", "1110", "0011", "0101", "0110", "1001", "1010", "1100", "0001", "0100", "0010", "0000"]


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the configs are shipped with mmbench, not with this plugin")
def test_ablation_has_the_rows_of_table_3():
    """Each variant leaves the losses, and their weights omega, that the row's marks name (omega, L_con, L_rep, L_ml)."""
    variants = yaml.safe_load((CONFIGS / "base" / "slad_ablation_rows.yaml").read_text())["sweep"]["variant"]
    assert len(variants) == len(TABLE_3)
    for changes, (omega, *terms) in zip(variants.values(), TABLE_3, strict=True):
        names = ("slad_contrastive", "slad_repulsive", "slad_multilabel")
        on = [name for name, mark in zip(names, terms, strict=True) if mark == "1"]
        expected = {f"losses.{name}": None for name in names if name not in on}
        expected |= {f"losses.{name}.label_weights": False for name in on if omega == "0" and name != "slad_multilabel"}
        assert changes == expected


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the configs are shipped with mmbench, not with this plugin")
def test_grid_has_the_axes_of_figure_4():
    temperature, top_k = yaml.safe_load((CONFIGS / "base" / "slad_temperature_topk_grid.yaml").read_text())["sweep"].values()
    assert temperature["values"] == [0.1, 0.2, 0.3, 0.4]
    assert {key.split(".")[1] for key in temperature["keys"]} == {
        name for name, component in COMPONENTS.items() if "temperature" in _load(component.config).model_fields
    }
    assert top_k == {"key": "losses.slad_contrastive.top_k", "values": [1, 2, 3, 4, 5, 6]}
