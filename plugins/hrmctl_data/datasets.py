"""The published data sets that this plugin knows, with the checksums and sizes that it pins."""

from __future__ import annotations

from hrmctl import DatasetSpec

_MBPP = "https://raw.githubusercontent.com/google-research/google-research/master/mbpp"
_EVALPLUS = "https://github.com/evalplus"

DATASETS = (
    DatasetSpec(
        name="mbpp",
        summary="Mostly Basic Python Problems (Austin et al. 2021), the full set",
        url=f"{_MBPP}/mbpp.jsonl",
        sha256="ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        licence="CC-BY-4.0",
        splits={"prompt": 10, "test": 500, "validation": 90, "train": 374},
        target="hrmctl_data.benchmarks:mbpp",
    ),
    DatasetSpec(
        name="mbpp-sanitized",
        summary="Mostly Basic Python Problems, the hand-verified subset",
        url=f"{_MBPP}/sanitized-mbpp.json",
        sha256="7fec016546acaee11dbe14f9f0bb670e59f41919f7b522a59fba34871da78551",
        licence="CC-BY-4.0",
        splits={"prompt": 7, "test": 257, "validation": 43, "train": 120},
        target="hrmctl_data.benchmarks:mbpp",
    ),
    DatasetSpec(
        name="humaneval",
        summary="HumanEval (Chen et al. 2021)",
        url="https://raw.githubusercontent.com/openai/human-eval/master/data/HumanEval.jsonl.gz",
        sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
        licence="MIT",
        splits={"test": 164},
        target="hrmctl_data.benchmarks:humaneval",
    ),
    DatasetSpec(
        name="humaneval-plus",
        summary="HumanEval+ v0.1.10 (Liu et al. 2023): HumanEval with many more inputs",
        url=f"{_EVALPLUS}/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz",
        sha256="272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101",
        licence="Apache-2.0",
        splits={"test": 164},
        target="hrmctl_data.benchmarks:plus",
    ),
    DatasetSpec(
        name="mbpp-plus",
        summary="MBPP+ v0.2.0 (Liu et al. 2023): 378 tasks of MBPP with many more inputs",
        url=f"{_EVALPLUS}/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz",
        sha256="af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63",
        licence="Apache-2.0",
        splits={"test": 378},
        target="hrmctl_data.benchmarks:plus",
    ),
    DatasetSpec(
        name="wikitext-2",
        summary="WikiText-2 (Merity et al. 2016), the test split as tokenised, articles of running text",
        url="https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2/test.txt",
        sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        licence="CC-BY-SA-3.0",
        splits={"test": 62},
        target="hrmctl_data.texts:wikitext",
    ),
)
