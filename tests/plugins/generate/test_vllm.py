"""The vLLM engine against a stand-in for `vllm` that serves a real model, and against servers that fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hrmctl_models
import pytest
import torch
from hrmctl_models.generate import generate
from hrmctl_models.loading import QUANTIZED_MARK
from hrmctl_models.vllm import Server, dtype_of, iter_generate

from hrmctl import InputError, StageError
from tests.plugins.generate.helpers import PROMPTS, tiny, tokenizer
from tests.plugins.generate.vllm_helpers import Standin, gone, runs, settled

LINE = "    return x + 1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "qwen2-tiny"
    hrmctl_models.save(tiny("qwen2-tiny").model, tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Standin]]:
    """A server of the real model, one for the module because transformers takes long to import."""
    standin = Standin(tmp_path_factory.mktemp("standin"))
    with pytest.MonkeyPatch.context() as patch:
        _install(standin, patch)
        with Server(folder, dtype=dtype_of(folder)) as server:
            yield server, standin


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Standin]:
    """Installs a stand-in that only sends fixed tokens, and fails in the way that is named."""

    def install(mode: str) -> Standin:
        made = Standin(tmp_path / "bin")
        _install(made, monkeypatch)
        monkeypatch.setenv("STANDIN", mode)
        monkeypatch.setenv("STANDIN_TOKENS", json.dumps(tokenizer()(LINE)["input_ids"]))
        return made

    return install


def _install(standin: Standin, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HRMCTL_VLLM", str(standin.path))
    patch.setenv("STANDIN_RECORD", str(standin.record))
    patch.setenv("OMP_NUM_THREADS", "1")
    patch.setenv("PYTHONPATH", "/of/another/python")


def _collect(source: Server | Path, prompts: list[str], **settings: Any) -> list[list[Any]]:
    results: list[list[Any]] = [[] for _ in prompts]
    for index, samples in iter_generate(source, prompts, **settings):
        assert not results[index]
        results[index] = samples
    return results


# --- the same meaning as the other engine -----------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stop": ("\n", "x")},
        {"complete": lambda index, text: len(text) > 3 + index % 5},
        {"repetition_penalty": 1.3},
    ],
)
def test_greedy_completions_are_those_of_the_other_engine(
    served: tuple[Server, Standin], folder: Path, more: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {"n": 2, "temperature": 0, "max_new_tokens": 24, **more}
    loaded = hrmctl_models.load(folder, device="cpu")
    ours = generate(loaded, PROMPTS, **settings)
    asked = settled(served[1])
    theirs = _collect(served[0], PROMPTS, **settings)
    assert theirs == ours
    reasons = {samples[0].reason for samples in theirs}
    assert ("stop" in reasons) == ("stop" in more or "complete" in more)
    settled(served[1], asked + len(PROMPTS))
    assert len(served[1].rows("seed")) == asked + len(PROMPTS), "a greedy prompt is asked for once"


def test_samples_do_not_depend_on_order_or_number_of_requests(served: tuple[Server, Standin]) -> None:
    settings: dict[str, Any] = {"n": 3, "temperature": 0.9, "max_new_tokens": 10, "top_k": 40, "seed": 5}
    asked = settled(served[1])
    together = _collect(served[0], PROMPTS[:6], batch_size=18, **settings)
    settled(served[1], asked + 18)
    rows = served[1].rows("seed")[asked:]
    assert len({row["seed"] for row in rows}) == 18
    assert all(0 <= row["seed"] < 2**63 for row in rows)
    assert len({sample.tokens for samples in together for sample in samples}) > 12
    assert all(0 < sample.seconds < 600 for samples in together for sample in samples)
    backwards = _collect(served[0], PROMPTS[5::-1], batch_size=1, **settings)
    assert backwards[::-1] == together
    assert _collect(served[0], PROMPTS[:6], **{**settings, "seed": 6}) != together


def test_prompts_reach_the_server_as_our_tokens(served: tuple[Server, Standin]) -> None:
    prompt = "# naïve → <eos>\n"
    before = settled(served[1])
    _collect(served[0], [prompt], temperature=0, max_new_tokens=1)
    settled(served[1], before + 1)
    assert served[1].rows("seed")[-1]["prompt"] == tokenizer()(prompt)["input_ids"]


def test_a_prompt_that_fills_the_window_is_refused_and_one_that_nearly_does_is_cut(
    served: tuple[Server, Standin], folder: Path
) -> None:
    window = hrmctl_models.load(folder, device="cpu").model.config.max_position_embeddings
    ids = tokenizer()("x = 1\n" * window)["input_ids"]
    nearly, full = tokenizer().decode(ids[: window - 3]), tokenizer().decode(ids[:window])
    assert len(tokenizer()(nearly)["input_ids"]) == window - 3
    cut, refused = _collect(served[0], [nearly, full], n=2, temperature=0, max_new_tokens=8)
    assert [(len(sample.tokens), sample.reason) for sample in cut] == [(3, "length")] * 2
    assert [(sample.text, sample.tokens, sample.reason) for sample in refused] == [("", (), "refused")] * 2


def test_nothing_listens_beyond_the_loopback_and_the_environment_is_its_own(served: tuple[Server, Standin]) -> None:
    server, standin = served
    [row] = standin.rows("argv")
    assert row["argv"][row["argv"].index("--host") + 1] == "127.0.0.1"
    assert row["argv"][row["argv"].index("--dtype") + 1] == "float32"
    assert row["pythonpath"] is None
    assert server.version == "0.0.stand-in"
    inodes = {os.readlink(link)[8:-1] for link in Path(f"/proc/{row['pids'][0]}/fd").iterdir() if _is_socket(link)}
    table = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = [fields[1] for fields in table if fields[3] == "0A" and fields[9] in inodes]
    assert [address.partition(":")[0] for address in listening] == ["0100007F"]


def _is_socket(link: Path) -> bool:
    try:
        return os.readlink(link).startswith("socket:[")
    except OSError:
        return False


def test_a_sample_is_ended_on_the_server_as_soon_as_it_is_complete(
    folder: Path, standin: Callable[[str], Standin]
) -> None:
    made = standin("fixed")
    steps: list[int] = []
    with Server(folder, dtype="float32") as server:
        results = _collect(
            server,
            PROMPTS[:2],
            n=2,
            max_new_tokens=2000,
            complete=lambda index, text: text.count("\n") > 1,
            on_step=steps.append,
        )
        settled(made, 4)
    assert {sample.text for samples in results for sample in samples} == {LINE * 2}
    assert {sample.reason for samples in results for sample in samples} == {"stop"}
    sent = [row["sent"] for row in made.rows("sent")]
    assert len(sent) == 4
    assert max(sent) < 1000
    assert sum(steps) == sum(len(sample.tokens) for samples in results for sample in samples)


def test_leaving_the_iteration_ends_the_requests_and_the_server_of_a_folder(
    folder: Path, standin: Callable[[str], Standin]
) -> None:
    made = standin("fixed")
    for _ in iter_generate(folder, PROMPTS, n=3, max_new_tokens=20, batch_size=5):
        break
    assert gone(made.pids())


def test_what_on_step_raises_passes_through_and_nothing_is_left(
    folder: Path, standin: Callable[[str], Standin]
) -> None:
    made = standin("hangs")

    def cancel(tokens: int) -> None:
        if not tokens and made.rows("pids"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(iter_generate(folder, PROMPTS[:3], on_step=cancel))
    assert gone(made.pids())


# --- servers that fail ------------------------------------------------------------------------------


def test_no_vllm_is_one_line_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HRMCTL_VLLM", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StageError, match=r"^no vLLM here .*pip install vllm.* HRMCTL_VLLM=[^\n]*$"):
        list(iter_generate(folder, PROMPTS[:1]))


def test_a_server_that_ends_at_its_start_is_told_with_its_cause(
    folder: Path, standin: Callable[[str], Standin], tmp_path: Path
) -> None:
    standin("crashes")
    log = tmp_path / "vllm.log"
    with pytest.raises(StageError, match=r"ended \(ValueError: Model architectures .* not supported\); see .*log"):
        Server(folder, dtype="float32", log=log).__enter__()
    assert "root cause above" in log.read_text()


def test_a_server_that_dies_midway_is_told_with_its_cause(folder: Path, standin: Callable[[str], Standin]) -> None:
    made = standin("dies")
    with (
        pytest.raises(StageError, match=r"ended \(RuntimeError: CUDA error: an illegal memory access"),
        Server(folder, dtype="float32") as server,
    ):
        list(iter_generate(server, PROMPTS, n=2, max_new_tokens=50))
    assert gone(made.pids())


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refuses", "status 400, .*max_model_len is 16"),
        ("errs", "out of blocks"),
        ("ends early", "ended after 5 of 9 tokens"),
        ("old", "install a newer vLLM"),
        ("hangs", "no token for 0.5 s"),
    ],
)
def test_an_answer_that_is_none_is_an_error(
    mode: str, words: str, folder: Path, standin: Callable[[str], Standin]
) -> None:
    made = standin(mode)
    with Server(folder, dtype="float32") as server, pytest.raises(StageError, match=words):
        _collect(server, PROMPTS[:2], max_new_tokens=9, stall_seconds=0.5 if mode == "hangs" else 30)
    assert gone(made.pids())


def test_a_slow_start_is_waited_for_and_can_be_cancelled(folder: Path, standin: Callable[[str], Standin]) -> None:
    made = standin("slow")
    waits: list[float] = []
    with Server(folder, dtype="float32", on_wait=lambda: waits.append(time.monotonic())) as server:
        assert len(waits) > 3
        [[sample]] = _collect(server, PROMPTS[:1], max_new_tokens=4)
        assert len(sample.tokens) == 4
    assert gone(made.pids())
    made.record.unlink()

    def cancel() -> None:
        if made.rows("pids"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Server(folder, dtype="float32", on_wait=cancel).__enter__()
    assert gone(made.pids())


def test_a_start_without_end_is_given_up(folder: Path, standin: Callable[[str], Standin]) -> None:
    made = standin("slow")
    with pytest.raises(StageError, match=r"not ready after 0\.7 s"):
        Server(folder, dtype="float32", start_seconds=0.7).__enter__()
    assert gone(made.pids())


def test_a_stranger_on_the_port_gets_no_prompt(folder: Path, standin: Callable[[str], Standin]) -> None:
    made = standin("impostor")
    with pytest.raises(StageError, match="another program answers"):
        Server(folder, dtype="float32").__enter__()
    assert not made.rows("seed")


def test_a_server_that_will_not_end_is_killed_with_its_children(
    folder: Path, standin: Callable[[str], Standin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hrmctl_models.vllm_server._GRACE_SECONDS", 0.3)
    made = standin("stubborn")
    with Server(folder, dtype="float32"):
        assert all(map(runs, made.pids()))
    assert gone(made.pids())


def test_the_server_does_not_outlive_a_killed_user(folder: Path, standin: Callable[[str], Standin]) -> None:
    made = standin("stubborn")
    program = (
        "import sys, time; from pathlib import Path; from hrmctl_models.vllm_server import Server\n"
        "with Server(Path(sys.argv[1]), dtype='float32'): print('ready', flush=True); time.sleep(60)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    user = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, env=environment)
    assert user.stdout is not None
    assert user.stdout.readline() == b"ready\n"
    assert all(map(runs, made.pids()))
    user.send_signal(signal.SIGKILL)
    user.communicate()
    assert gone(made.pids())


# --- what is refused before anything starts ---------------------------------------------------------


def test_parameters_out_of_range_are_refused_at_once(folder: Path) -> None:
    for wrong in ({"n": 0}, {"batch_size": -1}, {"temperature": -1.0}, {"stop": ("",)}):
        with pytest.raises(InputError):
            iter_generate(folder, PROMPTS, **wrong)  # type: ignore[arg-type]


def test_folders_that_vllm_would_read_wrong_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "prefix_lm": True}))
    with pytest.raises(StageError, match="prefix language model"):
        iter_generate(copy, PROMPTS)
    (copy / QUANTIZED_MARK).write_text("{}")
    with pytest.raises(StageError, match="quantized format"):
        dtype_of(copy, "float32")
    with pytest.raises(StageError, match="cannot be read"):
        iter_generate(tmp_path / "nothing", PROMPTS)


def test_the_dtype_is_that_of_the_weights(folder: Path, tmp_path: Path) -> None:
    assert dtype_of(folder) == "float32"
    assert dtype_of(folder, "bfloat16") == "bfloat16"
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    silent = {name: value for name, value in config.items() if name not in ("dtype", "torch_dtype")}
    (copy / "config.json").write_text(json.dumps(silent))
    assert dtype_of(copy) == "float32"
    (copy / "config.json").write_text(json.dumps({**silent, "dtype": "bfloat16"}))
    assert dtype_of(copy) == "bfloat16"


# --- the real one -----------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.skipif(
    not shutil.which(os.environ.get("HRMCTL_VLLM") or "vllm"), reason="no vllm; set HRMCTL_VLLM to its executable"
)
def test_the_real_vllm_writes_what_the_other_engine_writes(folder: Path) -> None:
    loaded = hrmctl_models.load(folder, device="cpu")
    with Server(folder, dtype=dtype_of(folder)) as server:
        assert server.version
        theirs = _collect(server, PROMPTS, temperature=0, max_new_tokens=24)
        ours = generate(loaded, PROMPTS, temperature=0, max_new_tokens=24)
        # Other kernels round otherwise, and a near-tie may fall the other way.
        same = sum(a[0].tokens == b[0].tokens for a, b in zip(theirs, ours, strict=True))
        assert same >= 0.9 * len(PROMPTS)
        settings: dict[str, Any] = {"n": 4, "temperature": 0.8, "max_new_tokens": 24, "seed": 3}
        sampled = _collect(server, PROMPTS, **settings)
        assert len({sample.tokens for samples in sampled for sample in samples}) > 2 * len(PROMPTS)
        ended = _collect(server, PROMPTS, n=2, stop=("\n",), max_new_tokens=24)
        assert all("\n" not in sample.text for samples in ended for sample in samples)
