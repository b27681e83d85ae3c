"""The core's own plugin: the floors, the metrics, the formats of data sets and the local executor. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from mmbench.component import TASKS, Component
from mmbench.hookspecs import hookimpl

# Ridge regression by gradient steps: squared error with an L2 penalty (our choice, on the validation split of CMU-MOSI).
_FLOOR_TRAINING = {
    "task_loss": "mse",
    "epochs": 100,
    "batch_size": 64,
    "optimizer": {"name": "adam", "lr": 1e-3, "weight_decay": 0.03},
    "scheduler": {"name": "plateau", "patience": 3, "factor": 0.5},
    "early_stopping": 10,
}

_FORMATS = {
    "mmsa": "the pickle of the MMSA toolkit: a dict for each of train, valid and test",
    "mult": "the pickles of MulT: vision, text, audio, labels and ids of each split",
    "misa": "the folder of MISA: train.pkl, dev.pkl, test.pkl, and the vectors of the words",
    "folder": "a folder with label.csv and the features of each clip in a .npy or .npz file",
    "conversations": "a pickled tuple of dicts by dialogue, as for IEMOCAP, with features in it or a .npy for each utterance",
    "meld": "MELD's csv files with a .npy for each utterance, or its pickle by dialogue",
}
"""By name: `mmbench.data.formats.<name>` has the class ``<Name>Format``."""


@hookimpl
def mmbench_components() -> Iterator[Component]:
    """The components that every installation has."""
    yield Component(
        "model", "constant", "mmbench.floors:Constant", "the training split's median, or its most frequent class", floor=True, training={"epochs": 1}
    )
    yield Component(
        "model", "linear", "mmbench.floors:Linear", "masked mean of each modality, then one linear layer", floor=True, training=_FLOOR_TRAINING
    )
    yield Component(
        "executor",
        "local",
        "mmbench.executors.local:LocalExecutor",
        "runs in processes on this machine, some at once",
        config="mmbench.executors.config:LocalConfig",
    )
    yield Component(
        "aligner",
        "times",
        "mmbench.extraction.times:Times",
        "the times of words from a table that the user has",
        config="mmbench.extraction.times:TimesConfig",
    )
    for name, summary in _FORMATS.items():
        module = name.replace("-", "_")
        yield Component("dataset-format", name, f"mmbench.data.formats.{module}:{module.title().replace('_', '')}Format", summary)
    from mmbench.metrics import METRICS

    for metric in METRICS.values():
        tasks = tuple(task for task in TASKS if task in metric.tasks)
        yield Component("metric", metric.name, f"mmbench.metrics:METRICS[{metric.name}]", metric.summary, tasks=tasks)
