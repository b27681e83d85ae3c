"""The core's own plugin: the floors. Imports no torch."""
