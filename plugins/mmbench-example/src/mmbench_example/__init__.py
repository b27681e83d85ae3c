"""A plugin package for mmbench."""
