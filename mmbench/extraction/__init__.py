"""``mmbench extract``: from transcripts and recordings to a data set of features, clip by clip. Imports torch in its worker processes and for checks.

`config` what is asked for, and whether it can be done; `media` files and their digests; `worker` and `pool` the processes; `words` and `assemble`
the data set; `run` all of it in order; `times` an aligner.
"""
