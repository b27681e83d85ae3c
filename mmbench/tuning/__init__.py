"""Searches: a tuner chooses values of a config, trials are ordinary runs, and the best of them on validation is run in full. Imports no torch."""
