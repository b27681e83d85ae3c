"""DecAlign as an mmbench plugin: the backbone `decalign` and its alignment losses."""
