"""The measures as contracts know them: names, parameters, evidence, and every field that a clause may name."""

from __future__ import annotations

from hrmctl import MeasureSpec
from hrmctl_statistics import params

_INTERVAL = {"lo": "lower bound of the interval", "hi": "upper bound of the interval"}
_SAMPLED = {"n": "number of problems", "samples": "fewest samples of a problem"}
_RATE = {"value": "count / n", "count": "how many", **_INTERVAL}
_COMPARED = {
    "left": "value of the first measurement",
    "right": "value of the second measurement",
    "n": "fewer of the two sides' observations",
    "trials": "fewer of the two sides' trials, 0 without",
    "lo": "lower bound from the trials (absent without at least 5 on both sides)",
    "hi": "upper bound from the trials (absent without at least 5 on both sides)",
}

MEASURES = (
    MeasureSpec(
        name="value",
        summary="a measured value as it is",
        params=params.NoParams,
        target="hrmctl_statistics.measurements:value",
        accepts=("measurement/v1",),
        returns={
            "value": "the value",
            "unit": "its unit (absent where none is recorded)",
            "n": "observations behind it",
            "trials": "number of trials, 0 without",
            "min": "least trial (absent without trials)",
            "max": "greatest trial (absent without trials)",
            "median": "median trial (absent without trials)",
        },
    ),
    MeasureSpec(
        name="ratio",
        summary="first measurement divided by the second",
        params=params.CompareParams,
        target="hrmctl_statistics.measurements:ratio",
        accepts=("measurement/v1",),
        returns={"value": "left / right", **_COMPARED},
        arity=(2, 2),
    ),
    MeasureSpec(
        name="difference",
        summary="first measurement minus the second",
        params=params.CompareParams,
        target="hrmctl_statistics.measurements:difference",
        accepts=("measurement/v1",),
        returns={"value": "left - right", **_COMPARED},
        arity=(2, 2),
    ),
    MeasureSpec(
        name="chance",
        summary="loss of guessing uniformly: ln(vocabulary)",
        params=params.NoParams,
        target="hrmctl_statistics.measurements:chance",
        accepts=("measurement/v1",),
        returns={"value": "ln(vocabulary), nats", "vocabulary": "tokens", "n": "observations behind it"},
    ),
    MeasureSpec(
        name="pass_at_k",
        summary="unbiased pass@k over problems, with an interval",
        params=params.PassAtKParams,
        target="hrmctl_statistics.samples:pass_at_k",
        accepts=("samples/v1",),
        returns={"value": "pass@k", **_SAMPLED, **_INTERVAL, "ci": "how it was made: bootstrap, wilson, none"},
    ),
    MeasureSpec(
        name="pass_rate",
        summary="share of problems whose first sample passed, or of a count in n, with Wilson interval",
        params=params.RateParams,
        target="hrmctl_statistics.samples:pass_rate",
        accepts=("samples/v1", "measurement/v1"),
        returns={**_RATE, "n": "problems, or observations of the measurement"},
    ),
    MeasureSpec(
        name="paired_delta",
        summary="pass@k of the first minus the second on the same problems, with interval and p values",
        params=params.PairedDeltaParams,
        target="hrmctl_statistics.samples:paired_delta",
        accepts=("samples/v1",),
        returns={
            "value": "difference of pass@k, first minus second",
            **_INTERVAL,
            "p": "two-sided bootstrap p of no difference",
            "mcnemar_p": "exact two-sided McNemar p on first samples",
            **_SAMPLED,
            "both": "problems whose first sample passed on both sides",
            "only_a": "problems whose first sample passed on the first side only",
            "only_b": "problems whose first sample passed on the second side only",
            "neither": "problems whose first sample passed on neither side",
            "discordant": "only_a + only_b",
        },
        arity=(2, 2),
    ),
    MeasureSpec(
        name="outcome_rate",
        summary="share of samples with one class of outcome",
        params=params.OutcomeParams,
        target="hrmctl_statistics.samples:outcome_rate",
        accepts=("samples/v1",),
        returns={**_RATE, "n": "samples of all problems"},
    ),
    MeasureSpec(
        name="distinct",
        summary="mean share of different completions within a problem",
        params=params.NoParams,
        target="hrmctl_statistics.samples:distinct",
        accepts=("samples/v1",),
        returns={"value": "mean share", **_SAMPLED, "min_distinct": "fewest different completions of a problem"},
    ),
    MeasureSpec(
        name="mode",
        summary="mode the sandbox ran in",
        params=params.NoParams,
        target="hrmctl_statistics.samples:mode",
        accepts=("samples/v1",),
        returns={"value": "the mode, text", "n": "number of problems"},
    ),
    MeasureSpec(
        name="series",
        summary="both ends, extremes and slope of a curve",
        params=params.SeriesParams,
        target="hrmctl_statistics.curves:series",
        accepts=("series/v1",),
        returns={
            "first": "mean of the first window",
            "last": "mean of the last window",
            "min": "least value",
            "max": "greatest value",
            "n": "finite points",
            "slope": "least-squares slope per step",
            "drop": "(first - last) / |first| (absent where first is 0)",
            "nonfinite": "points recorded as null because they were not finite",
        },
    ),
    MeasureSpec(
        name="total_bytes",
        summary="bytes of the files that match",
        params=params.FilesParams,
        target="hrmctl_statistics.curves:total_bytes",
        accepts=("files/v1",),
        returns={"value": "bytes", "n": "files that match"},
    ),
    MeasureSpec(
        name="count",
        summary="number of files that match",
        params=params.FilesParams,
        target="hrmctl_statistics.curves:count",
        accepts=("files/v1",),
        returns={"value": "files that match", "n": "files listed"},
    ),
)
