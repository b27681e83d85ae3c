"""SLaD as an mmbench plugin: the backbone `slad` and its losses."""
