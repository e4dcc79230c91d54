"""The measure `at_least_words`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hrmctl import Evidence, MeasureError
from hrmctl_wordcount.params import AtLeastParams


def at_least_words(evidence: Sequence[Evidence], params: AtLeastParams) -> Mapping[str, int]:
    """Whether there are enough words. Raises MeasureError on a number of words that is none."""
    words = evidence[0].payload["value"]
    if words != int(words) or words < 0:
        raise MeasureError(f"{words} is no number of words")
    return {"enough": int(words >= params.words), "spare": int(words) - params.words}
