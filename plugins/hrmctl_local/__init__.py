"""The `local` executor: each stage in a process of its own on this machine."""

from collections.abc import Iterable

from hrmctl import ExecutorSpec, hookimpl


@hookimpl
def hrmctl_executors() -> Iterable[ExecutorSpec]:
    return [ExecutorSpec("local", "processes on this machine", "hrmctl_local.executor:LocalExecutor")]
