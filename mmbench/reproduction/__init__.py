"""The tables and figures of papers, run again and written beside the published values. A target is a file of ``configs/papers``."""
