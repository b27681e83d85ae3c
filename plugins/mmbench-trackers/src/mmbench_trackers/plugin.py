"""Entry module: the trackers. Imports neither TensorBoard nor MLflow."""

from __future__ import annotations

from collections.abc import Iterable

from mmbench import Component, hookimpl


@hookimpl
def mmbench_components() -> Iterable[Component]:
    """One tracker for each tool."""
    yield Component(
        "tracker",
        "tensorboard",
        "mmbench_trackers.tensorboard:TensorBoard",
        "event files under <out>/<experiment>/tensorboard",
        extras=("tensorboard",),
        install="mmbench-trackers[tensorboard]",
    )
    yield Component(
        "tracker",
        "mlflow",
        "mmbench_trackers.mlflow:MLflow",
        "MLflow runs in <out>/mlflow.db, or where MLFLOW_TRACKING_URI says",
        extras=("mlflow", "sqlalchemy", "alembic"),
        install="mmbench-trackers[mlflow]",
    )
