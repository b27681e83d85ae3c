"""The plugin host: guarded loading, name conflicts, API versions, restriction before import."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mmbench.component import Component
from mmbench.errors import PluginError
from mmbench.installing import how_to_install
from mmbench.plugins import GROUP, build, catalogue

MODULE = """
from mmbench import Component, hookimpl
@hookimpl
def mmbench_components():
    yield Component("model", {name!r}, {target!r}, "a test", api={api})
"""


class Distribution:
    def __init__(self, name: str):
        self.name, self.version = name, "0.3"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(distribution: str, name: str = "m", target: str = "math:pi", api: int = 1, source: str | None = None) -> EntryPoint:
        module = f"plugin_{distribution}_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(source or MODULE.format(name=name, target=target, api=api))
        return EntryPoint(distribution, module, GROUP)._for(Distribution(distribution))

    return make


def test_components_are_found_and_loaded_on_use(plugin) -> None:
    found = build([plugin("one", "alpha")])
    entry = found.find("model", "alpha")
    assert (entry.key, entry.version) == ("one/alpha", "0.3")
    assert entry.load() == pytest.approx(3.14159265)
    assert found.find("model", "one/alpha") == entry


def test_two_claimants_of_a_name_must_be_told_apart(plugin) -> None:
    found = build([plugin("one", "alpha"), plugin("two", "alpha")])
    with pytest.raises(PluginError, match="claimed by 2 plugins; write one of: one/alpha, two/alpha"):
        found.find("model", "alpha")
    assert found.find("model", "two/alpha").distribution == "two"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("raise RuntimeError('no\\nway')", "RuntimeError: no way"),
        ("import absent_package_xyz", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        (
            "from mmbench import hookimpl\n@hookimpl\ndef mmbench_component():\n    return []\n",
            "unknown hook",
        ),
        ("from mmbench import hookimpl\n@hookimpl\ndef mmbench_components():\n    yield 3\n", "yields a int where a Component is expected"),
        (MODULE.format(name="x", target="a:b", api=2), "its component 'x' was written for plugin API 2; this mmbench has API 1"),
        (MODULE.format(name="x", target="a:b", api=1).replace('"model"', '"modle"'), "unknown kind 'modle'"),
        (MODULE.format(name="x", target="a:b", api=1) + '    yield Component("model", "x", "c:d", "again")\n', "declares model 'x' twice"),
    ],
)
def test_a_broken_plugin_is_reported_and_harms_no_other(plugin, source: str, problem: str) -> None:
    found = build([plugin("broken", source=source), plugin("good", "alpha")])
    assert problem in found.plugins[0].problem
    assert found.find("model", "alpha").distribution == "good"
    with pytest.raises(PluginError) as caught:
        found.find("model", "missing")
    assert "The plugin broken 0.3 could not be loaded" in str(caught.value)


def test_unknown_names_are_met_with_a_suggestion(plugin) -> None:
    with pytest.raises(PluginError, match="Did you mean 'alpha'"):
        build([plugin("one", "alpha")]).find("model", "alhpa")


def test_a_target_that_cannot_be_imported_is_named(plugin) -> None:
    found = build([plugin("one", "alpha", "absent_module_xyz:Class"), plugin("two", "beta", "math:absent")])
    with pytest.raises(PluginError, match="model 'one/alpha' cannot be loaded: importing 'absent_module_xyz:Class' failed"):
        found.find("model", "alpha").load()
    with pytest.raises(PluginError, match="two/beta"):
        found.find("model", "beta").load()


def test_what_installs_an_extra_names_its_packages_and_else_the_folder(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mmbench_faces-1.dist-info").mkdir()
    declared = """Requires-Dist: numpy
Requires-Dist: av>=15; extra == 'video'
Requires-Dist: mmbench-faces[video]; extra == 'faces'
Requires-Dist: opencv<5,>=4.8 ; extra == "faces"
"""
    (tmp_path / "mmbench_faces-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mmbench-faces\nVersion: 1\n" + declared)
    monkeypatch.syspath_prepend(tmp_path)
    assert how_to_install("mmbench-faces[faces]") == "pip install 'av>=15' 'opencv<5,>=4.8'"
    assert how_to_install("mmbench-faces[hands]") == "pip install './plugins/mmbench-faces[hands]' in the folder of the repository"
    assert how_to_install("mmbench-absent") == "pip install './plugins/mmbench-absent' in the folder of the repository"
    assert how_to_install("mmbench[absent]") == "pip install '.[absent]' in the folder of the repository"
    needy = Component("extractor", "needy", "json:dumps", "a test", extras=("cv2",), install="mmbench-faces[faces]")
    assert needy.how_to_install("cv2") == "pip install 'av>=15' 'opencv<5,>=4.8'"


def test_restriction_is_applied_before_import(tmp_path) -> None:
    code = "import sys; from mmbench.plugins import catalogue; print([p.name for p in catalogue().plugins], 'mmbench_decalign.plugin' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"MMBENCH_PLUGINS": "", "PATH": "/usr/bin", "HOME": str(tmp_path)},
        check=True,
    )
    assert done.stdout.strip() == "['mmbench'] False"
    unknown = subprocess.run(
        [sys.executable, "-m", "mmbench", "plugins"],
        capture_output=True,
        text=True,
        env={"MMBENCH_PLUGINS": "nobody", "PATH": "/usr/bin", "HOME": str(tmp_path)},
        check=False,
    )
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: MMBENCH_PLUGINS names nobody, which is not installed; installed: ")


def test_every_installed_component_is_whole() -> None:
    for entry in catalogue().entries:
        component = entry.component
        assert isinstance(component, Component)
        assert component.summary, entry.key
        assert entry.load_config().model_config["extra"] == "forbid", entry.key
        assert entry.load_config().model_config["frozen"], entry.key
        for name, field in entry.load_config().model_fields.items():
            assert field.description, f"{entry.key}: {name} has no description"
