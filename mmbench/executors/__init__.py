"""Executors carry out runs; the core has the local one, cluster executors are plugins."""
