"""A tuner for mmbench: Optuna."""
