"""Runs of mmbench as array jobs of Slurm."""
