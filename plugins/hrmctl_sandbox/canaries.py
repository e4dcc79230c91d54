"""Four small attacks that go through the real sandbox before any program does."""

from __future__ import annotations

import os
import tempfile

from .sandbox import Sandbox, SandboxDied
from .session import Session

_SOURCE = """
import os, socket

def read(path):
    with open(path) as stream:
        return stream.read()

def connect():
    socket.socket().close()
    return True

def fork():
    if os.fork() == 0:
        os._exit(0)
    return True

def kill():
    os.kill(os.getppid(), 0)
    os.kill(os.getppid(), 9)
    return True
"""
CANARIES = ("read", "connect", "fork", "kill")


def survived(sandbox: Sandbox) -> list[str]:
    """The canaries that got out: `read` a secret, `connect` a socket, `fork`, `kill` the parent."""
    with tempfile.NamedTemporaryFile("w", suffix=".canary") as secret:
        secret.write("secret")
        secret.flush()
        os.chmod(secret.name, 0o644)
        return [name for name in CANARIES if not _contained(sandbox, name, secret.name)]


def _contained(sandbox: Sandbox, name: str, path: str) -> bool:
    """Whether the attack ended in an OSError and left the sandbox alive."""
    session = sandbox.open()
    try:
        bound = session.load(_SOURCE, "", [name], [])
        bound[name](*((path,) if name == "read" else ()))
    except OSError:
        return True
    except BaseException:
        return False
    finally:
        _close(sandbox, session)
    return False


def _close(sandbox: Sandbox, session: Session) -> None:
    try:
        sandbox.close_session(session)
    except SandboxDied:
        sandbox.replace()
