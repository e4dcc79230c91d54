"""The command `hrmctl power`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from hrmctl.cli.common import JsonOption, print_json

_NONE = 3
_SHARE = "Share of problems"
_DISCORDANT = (
    "Share of the problems on which the two models part: one passes, the other does not. 0.2 is usual, less for models "
    "that are alike. Read it off hrmctl compare RUN_A RUN_B: only A plus only B, divided by all problems."
)


@dataclass(frozen=True, slots=True)
class Asked:
    """The command line: what is given, None where it is not."""

    n: int | None
    effect: float | None
    discordant: float | None
    at_least: float | None
    rate: float | None
    seeds: int | None
    sd_seeds: float | None
    shared: float
    alpha: float
    power: float
    comparisons: int
    method: Literal["wilson", "exact"]

    @property
    def alpha_each(self) -> float:
        """The strictest level that Holm's method asks of one of the comparisons."""
        return self.alpha / self.comparisons


def power(
    n: Annotated[int | None, typer.Option(min=1, help="Problems.")] = None,
    effect: Annotated[
        float | None, typer.Option(min=1e-6, max=1, help="Difference of pass@1 that is to be shown, 0.05 for 5 points.")
    ] = None,
    discordant: Annotated[float | None, typer.Option(min=1e-6, max=1, help=_DISCORDANT)] = None,
    at_least: Annotated[
        float | None, typer.Option(min=1e-6, max=0.999999, help="Lower bound of one proportion that is to be shown.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0, max=1, help=f"{_SHARE} that the model truly passes.")] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Trainings of each model, with different seeds.")] = None,
    sd_seeds: Annotated[
        float | None, typer.Option(min=0, help="Standard deviation of the difference between seeds.")
    ] = None,
    shared: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the variance of problems that all seeds have in common.")
    ] = 1.0,
    alpha: Annotated[float, typer.Option(min=1e-9, max=0.5, help="Two-sided level; intervals have 1 - alpha.")] = 0.05,
    power: Annotated[float, typer.Option(min=0.01, max=0.9999, help="Probability to show what is there.")] = 0.8,
    comparisons: Annotated[int, typer.Option(min=1, help="Comparisons that Holm's correction is for.")] = 1,
    method: Annotated[Literal["wilson", "exact"], typer.Option(help="Interval of one proportion.")] = "wilson",
    as_json: JsonOption = False,
) -> int:
    """What a number of problems can show, and how many are needed (docs/statistics.md).

    Paired comparison: --discordant with --n (detectable difference), --effect (problems needed) or both (power). One
    proportion: --at-least with --n (passes needed), --rate (problems needed) or both (power). Exit code: 0 answered, 2
    misuse, 3 there is no such number.
    """
    asked = Asked(
        n, effect, discordant, at_least, rate, seeds, sd_seeds, shared, alpha, power, comparisons, method
    )  # fmt: skip
    result = answer(asked)
    print_json(result) if as_json else print(sentence(result))
    return _NONE if result[result["answer"]] is None else 0


def answer(asked: Asked) -> dict[str, Any]:
    """The result as `--json` prints it. Raises InputError where the question is not one."""
    _check(asked)
    if asked.at_least is not None:
        return _proportion(asked, asked.at_least)
    if asked.seeds is not None:
        return _clustered(asked)
    return _paired(asked, asked.discordant or 0.0)


def _check(asked: Asked) -> None:
    from hrmctl import InputError

    paired = {"--discordant": asked.discordant, "--effect": asked.effect, "--seeds": asked.seeds}
    single = {"--at-least": asked.at_least, "--rate": asked.rate}
    mixed = [name for name, value in paired.items() if value is not None] if asked.at_least is not None else []
    if mixed:
        raise InputError(f"--at-least is of one proportion, {mixed[0]} of a paired comparison; give one")
    if asked.at_least is None and asked.rate is not None:
        raise InputError("--rate is of one proportion; say what is to be shown with --at-least")
    if asked.at_least is None and asked.discordant is None:
        raise InputError(f"give {' or '.join([next(iter(paired)), next(iter(single))])}; see hrmctl power --help")
    if asked.n is None and asked.effect is None and asked.rate is None:
        raise InputError(f"give --n, or {'--rate' if asked.at_least is not None else '--effect'} to learn n")
    if asked.effect is not None and asked.discordant is not None and asked.effect > asked.discordant:
        raise InputError(f"--effect {asked.effect:g} is more than --discordant {asked.discordant:g} allows")
    if (asked.seeds is None) != (asked.sd_seeds is None):
        raise InputError("--seeds and --sd-seeds go together; clustered_delta reports sd_seeds")


def _paired(asked: Asked, discordant: float) -> dict[str, Any]:
    from hrmctl_statistics.power import detectable, mcnemar_power, problems_needed

    n, effect, power, alpha = asked.n, asked.effect, asked.power, asked.alpha_each
    if n is None:
        wanted, n = "n", problems_needed(effect or 0.0, discordant, alpha, power)
    elif effect is None:
        wanted, effect = "effect", detectable(n, discordant, alpha, power)
    else:
        wanted, power = "power", mcnemar_power(n, discordant, effect, alpha)
    found = {"n": n, "discordant": discordant, "effect": effect, "power": power}
    return {"test": "mcnemar", "answer": wanted, **found, **_levels(asked)}


def _levels(asked: Asked) -> dict[str, Any]:
    return {"alpha": asked.alpha, "comparisons": asked.comparisons, "alpha_each": asked.alpha_each}


def _clustered(asked: Asked) -> dict[str, Any]:
    from hrmctl import InputError
    from hrmctl_statistics.power import clustered, clustered_problems

    discordant, seeds, sd = asked.discordant or 0.0, asked.seeds or 2, asked.sd_seeds or 0.0
    about = (seeds, discordant, sd, asked.shared)
    n, effect = asked.n, asked.effect
    if n is not None and effect is not None:
        raise InputError("with --seeds give --n or --effect, not both")
    if n is None:
        wanted, n = "n", clustered_problems(effect or 0.0, *about, asked.alpha_each, asked.power)
    else:
        wanted, effect = "effect", clustered(n, *about).detectable(1 - asked.alpha_each, asked.power)
    found = {"n": n, "seeds": seeds, "sd_seeds": sd, "discordant": discordant, "shared": asked.shared}
    return {"test": "clustered", "answer": wanted, **found, "effect": effect, "power": asked.power, **_levels(asked)}


def _proportion(asked: Asked, at_least: float) -> dict[str, Any]:
    from hrmctl_statistics.power import passes_needed, proportion_power, rate_needed, trials_needed

    level, n, rate, power = 1 - asked.alpha_each, asked.n, asked.rate, asked.power
    if n is None:
        wanted, n = "n", trials_needed(rate or 0.0, at_least, level, power, asked.method)
    elif rate is None:
        wanted, rate = "passes", rate_needed(n, at_least, level, power, asked.method)
    else:
        wanted, power = "power", proportion_power(n, rate, at_least, level, asked.method)
    passes = None if n is None else passes_needed(n, at_least, level, asked.method)
    found = {"n": n, "at_least": at_least, "passes": passes, "rate": rate, "power": power}
    return {"test": asked.method, "answer": wanted, **found, **_levels(asked)}


def sentence(result: dict[str, Any]) -> str:
    """The answer in words."""
    of = f"α {result['alpha_each']:.3g}"
    sure = f"{100 * result['power']:.1f} % power at {of}"
    if "at_least" in result:
        return _of_proportion(result, sure)
    design = f"{100 * result['discordant']:g} % of the problems discordant"
    if result["test"] == "clustered":
        design += f", {result['seeds']} seeds that differ by {result['sd_seeds']:g}"
    points = "no difference" if result["effect"] is None else f"a difference of {100 * result['effect']:.2f} points"
    if result["n"] is None:
        return f"no number of problems shows {points} with {sure}: {design}"
    return f"{result['n']} problems show {points} with {sure}: {design}"


def _of_proportion(result: dict[str, Any], sure: str) -> str:
    bound = f"a lower bound ({result['test']}) of {100 * result['at_least']:g} %"
    if result["n"] is None:
        return f"no number of problems shows {bound} with {sure}: the true rate is {100 * result['rate']:g} %"
    if result["passes"] is None:
        return f"{result['n']} passes of {result['n']} problems do not give {bound}"
    text = f"{result['passes']} of {result['n']} problems must pass for {bound}"
    if result["rate"] is None:
        return text
    return f"{text}; a true rate of {100 * result['rate']:.2f} % gets there with {sure}"
