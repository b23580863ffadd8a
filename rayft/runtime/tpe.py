"""Optuna's tree-structured Parzen estimator, asked without a memory of its own.

Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization", section 4; several
trials at a time as in Optuna's `constant_liar`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from rayft.plan.sampling import Values
from rayft.plan.trials import Json
from rayft.spec.space import AnyDomain, Choice, LogUniform, Uniform, WholeNumber, canonical, holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A point that was begun, and what came of it."""

    values: Values
    ended: bool
    value: float | None
    """What it reached, finite; None where it has not ended, or has failed."""


def suggestions(
    space: Mapping[str, AnyDomain],
    tried: Sequence[Tried],
    *,
    maximizes: bool,
    seeds: Sequence[int],
) -> Iterator[Values]:
    """Yield a suggestion for each seed; equal arguments give equal suggestions.

    Args:
        space: the domain of each setting.
        tried: points in the order of their trials. Those that failed count as worse than any
            other, those that have not ended as bad ones; those outside of the space do not count.
        maximizes: whether more is better.
        seeds: numbers from 0 to 2**32 - 1.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximizes else "minimize")
    distributions = {path: _distribution(domain) for path, domain in space.items()}
    for one in tried:
        if (params := _params(space, one.values)) is not None:
            study.add_trial(_trial(one, params, distributions))
    for seed in seeds:
        study.sampler = TPESampler(n_startup_trials=1, seed=seed)
        asked = study.ask(distributions)
        yield {path: _value(space[path], asked.params[path]) for path in space}
        # It was not taken: the next suggestion need not keep away from it.
        study.tell(asked, state=TrialState.FAIL)


def _trial(
    tried: Tried, params: dict[str, Json], distributions: dict[str, BaseDistribution]
) -> FrozenTrial:
    state = TrialState.RUNNING
    if tried.ended:
        # A trial that was pruned before it reported anything ranks behind all that have a value.
        state = TrialState.PRUNED if tried.value is None else TrialState.COMPLETE
    return create_trial(
        state=state,
        value=tried.value if tried.ended else None,
        params=params,
        distributions=distributions,
    )


def _distribution(domain: AnyDomain) -> BaseDistribution:
    match domain:
        case Uniform(uniform=(low, high)):
            return FloatDistribution(low, high)
        case LogUniform(loguniform=(low, high)):
            return FloatDistribution(low, high, log=True)
        case WholeNumber(ends=(low, high)):
            return IntDistribution(low, high)
        case Choice():
            # By place in the list, as Optuna takes only plain values.
            return CategoricalDistribution(range(len(domain.choice)))
        case _:
            assert_never(domain)


def _params(space: Mapping[str, AnyDomain], values: Values) -> dict[str, Json] | None:
    """Return what Optuna calls a point; None where it does not lie in the space."""
    if values.keys() != space.keys():
        return None
    if not all(holds(domain, values[path]) for path, domain in space.items()):
        return None
    return {path: _param(domain, values[path]) for path, domain in space.items()}


def _param(domain: AnyDomain, value: Json) -> Json:
    if isinstance(domain, Choice):
        return [canonical(choice) for choice in domain.choice].index(canonical(value))
    return value


def _value(domain: AnyDomain, param: Json) -> Json:
    if isinstance(domain, Choice):
        assert isinstance(param, int)
        return domain.choice[param]
    return param
