"""One attempt at the stage, as a process of its own: `python -m tests.plugins.eval.attempt FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from hrmctl_eval.params import EvalParams

from tests.plugins.eval.helpers import evaluate

PARAMS = EvalParams(samples=4, k=(1, 4), temperature=1.6, max_new_tokens=24, batch_size=4)

if __name__ == "__main__":
    evaluate(Path(sys.argv[1]), PARAMS)
