"""A third party's plugin: the stage `wordcount` over a data set and the measure `at_least_words` of what it counted."""

from collections.abc import Iterable

from hrmctl import InputSpec, MeasureSpec, OutputSpec, StageSpec, hookimpl
from hrmctl_wordcount.params import AtLeastParams, WordcountParams


@hookimpl
def hrmctl_stages() -> Iterable[StageSpec]:
    return [
        StageSpec(
            name="wordcount",
            summary="count the words of a data set",
            params=WordcountParams,
            target="hrmctl_wordcount.stage:run",
            inputs={"data": InputSpec("dataset", "rows of JSON with a text each")},
            outputs={"report": OutputSpec("report", "words and how often each occurs, JSON")},
        )
    ]


@hookimpl
def hrmctl_measures() -> Iterable[MeasureSpec]:
    return [
        MeasureSpec(
            name="at_least_words",
            summary="whether enough words were counted, and how many more than asked for",
            params=AtLeastParams,
            target="hrmctl_wordcount.measure:at_least_words",
            accepts=("measurement/v1",),
            returns={"enough": "1 when there are at least `words`, else 0", "spare": "words above those asked for"},
        )
    ]
