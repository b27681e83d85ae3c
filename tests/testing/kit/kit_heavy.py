"""An entry module, and a config, that import torch."""

import kit_data
import torch  # noqa: F401

from mmbench import Component, ComponentConfig, hookimpl


class Config(ComponentConfig):
    pass


class Format(kit_data.Folder):
    pass


@hookimpl
def mmbench_components():
    yield Component("executor", "heavy", "kit_rest:Executor", "a test")
