"""The stage `import`: bring in a model from the hub or a local folder, and prove that it is whole."""

from __future__ import annotations

from hrmctl import InputSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_import.params import ImportParams


@hookimpl
def hrmctl_stages() -> list[StageSpec]:
    return [
        StageSpec(
            name="import",
            summary="bring in a causal language model (hub name or local folder) and verify every tensor of it",
            params=ImportParams,
            target="hrmctl_import.stage:run",
            inputs={"folder": InputSpec("model", "a local model folder in transformers' format", required=False)},
            outputs={"model": OutputSpec("model", "the verified model: safetensors, configuration and tokenizer only")},
            code=("hrmctl_models",),
        )
    ]
