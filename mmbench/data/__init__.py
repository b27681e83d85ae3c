"""Data sets: manifests, file formats, the memory-mapped store, checks, transforms and the simulator. Imports no torch."""
