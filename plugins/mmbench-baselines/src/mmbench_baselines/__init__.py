"""Baselines for mmbench, each in a folder of its own."""
