"""Runs of mmbench on Ray."""
