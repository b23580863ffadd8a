"""How much each setting matters for the result, as far as the trials can tell."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from rayft.plan.trials import Json
from rayft.runtime.sweep_plots.paper import GRID, INK, LINE, paper, png
from rayft.runtime.sweep_plots.scales import Choices, Scale, scale_of
from rayft.runtime.sweep_table import SweepTable, TrialRow
from rayft.runtime.sweep_words import short_names, value_text

FEWEST_TRIALS = 10
"""With fewer results, half of which are the best, nothing can be told from chance."""
_TOP_SHARE, _FEWEST_TOP = 0.4, 5
"""The best trials are compared with all. With fewer of them the estimate is noise: the best quarter
missed the one setting that mattered in 4 of 8 made-up sweeps of 16 and 24 trials, this share in 1.
"""
_SHUFFLES, _CLEAR = 100, 0.95
"""A setting matters clearly where it does more than in so many of the shuffles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much one setting matters."""

    path: str
    share: float
    """Of all that is beyond chance; 0 where nothing is."""
    is_clear: bool
    """Whether chance alone would hardly show as much."""


def importance_of(table: SweepTable) -> tuple[Importance, ...]:
    """Return how much each setting that varied matters, the most important first.

    A setting matters as far as its values among the best trials differ from its values among all.
    Some difference is there in any case, more for a number than for a choice; what results give
    that are dealt to the trials at random is taken off. Stopped trials count with what they had
    reached; a trial that lacks a setting is left out.

    Returns:
        Shares that add up to 1, or are all 0; nothing where fewer than `FEWEST_TRIALS` trials
        count, or nothing varied.

    Source:
        Watanabe, Bansal & Hutter 2023, PED-ANOVA (https://arxiv.org/abs/2304.10255), as in Optuna;
        chance by shuffling as in Altmann et al. 2010 (https://doi.org/10.1093/bioinformatics/btq134).
    """
    settings = table.head.settings
    rows = [row for row in table.rows if row.value is not None and row.values.keys() >= {*settings}]
    rows.sort(key=lambda row: row.trial)
    scales = {path: scale_of([row.values[path] for row in rows]) for path in settings if rows}
    scales = {path: scale for path, scale in scales.items() if _varies(scale)}
    if len(rows) < FEWEST_TRIALS or not scales:
        return ()
    results = np.array([row.value for row in rows], np.float64)
    losses = results if table.head.direction == "min" else -results
    with _quiet():
        study = _study(rows, scales)
        found = _differences(study, losses)
        draw = np.random.default_rng(0)
        chance = [_differences(study, draw.permutation(losses)) for _ in range(_SHUFFLES)]
    return _beyond_chance(found, chance)


def _differences(study: optuna.Study, losses: NDArray[np.float64]) -> dict[str, float]:
    """Return for each setting how much the best trials differ from all."""
    evaluator = PedAnovaImportanceEvaluator(
        target_quantile=max(_TOP_SHARE, _FEWEST_TOP / len(losses))
    )
    return optuna.importance.get_param_importances(
        study,
        evaluator=evaluator,
        target=lambda trial: float(losses[trial.number]),
        normalize=False,
    )


def _beyond_chance(
    found: Mapping[str, float], chance: Sequence[Mapping[str, float]]
) -> tuple[Importance, ...]:
    by_chance = {path: np.array([one[path] for one in chance]) for path in found}
    beyond = {path: max(0.0, found[path] - by_chance[path].mean()) for path in found}
    total = sum(beyond.values()) or 1.0
    shares = [
        Importance(
            path=path,
            share=float(value / total),
            is_clear=bool(found[path] > np.quantile(by_chance[path], _CLEAR)),
        )
        for path, value in beyond.items()
    ]
    return tuple(sorted(shares, key=lambda one: -one.share))


def draw_importance(table: SweepTable) -> bytes | None:
    """Return the picture as a PNG file; None where there are too few trials to tell."""
    found = importance_of(table)
    if not found:
        return None
    names = short_names(table.head.settings)
    with paper(7.0, 1.8 + 0.42 * len(found)) as axes:
        bars = axes.barh(
            [names[one.path] for one in found],
            [one.share for one in found],
            color=[LINE if one.is_clear else GRID for one in found],
            height=0.62,
        )
        axes.bar_label(bars, [f"{one.share:.0%}" for one in found], padding=4)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.1 * max(0.1, found[0].share))
        axes.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False, colors=INK)
        axes.set_title(f"{table.head.name}: what matters for {table.head.metric}")
        notes = ["each setting by itself, the best trials against all (PED-ANOVA), less chance"]
        if not all(one.is_clear for one in found):
            notes.append("grey: it may be chance; more trials would tell")
        return png(axes, notes)


def _varies(scale: Scale) -> bool:
    if isinstance(scale, Choices):
        return len(scale.texts) > 1
    return scale.high > scale.low


def _study(rows: Sequence[TrialRow], scales: Mapping[str, Scale]) -> optuna.Study:
    """Return the trials as Optuna knows them."""
    study = optuna.create_study()
    distributions = {path: _distribution(scale) for path, scale in scales.items()}
    for row in rows:
        params = {path: _param(scale, row.values[path]) for path, scale in scales.items()}
        trial = optuna.trial.create_trial(
            value=row.value, params=params, distributions=distributions
        )
        study.add_trial(trial)
    return study


def _distribution(scale: Scale) -> BaseDistribution:
    if isinstance(scale, Choices):
        return CategoricalDistribution(scale.texts)
    return FloatDistribution(scale.low, scale.high, log=scale.log)


def _param(scale: Scale, value: Json) -> Json:
    return value_text(value) if isinstance(scale, Choices) else value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling that a study was made, and that low values count as good."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", message="PedAnovaImportanceEvaluator")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
