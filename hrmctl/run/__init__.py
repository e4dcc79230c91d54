"""Executing a plan: scheduling and cache (`execute`), one stage in its own process (`worker`), files of a run (`record`)."""
