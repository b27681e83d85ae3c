"""Trackers for mmbench: TensorBoard and MLflow."""
