"""Executing a plan.

`execute` schedules and caches, `worker` runs one stage in its own process, `record` keeps a run's files, `judge`
turns evidence into verdicts, `pipeline` puts them together.
"""
