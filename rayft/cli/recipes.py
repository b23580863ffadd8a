"""The recipes of `rayft init`: what trains, how long and how regularised, by the size of the data.

`auto` goes by training rows per class, because how near the data are to what the backbone was
trained on is not known. Its direction follows three papers; the bounds, 20 and 500, are rules of
thumb of ours, to be tried against the neighbouring recipe.

* Kornblith et al. 2019 (https://arxiv.org/abs/1805.08974): with few rows, logistic regression on
  fixed features is as good as fine-tuning or better; with more, fine-tuning wins.
* Kumar et al. 2022 (https://arxiv.org/abs/2202.10054): a head trained first keeps fine-tuning from
  distorting the features, most where test data differ from training data.
* Kolesnikov et al. 2020 (https://arxiv.org/abs/1912.11370), section 3.3: fine-tuning all weights,
  for more steps the more rows there are.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

RecipeName = Literal["auto", "linear-probe", "lp-ft", "gradual", "full"]
Plain = Literal["linear-probe", "lp-ft", "gradual", "full"]

_ABOUT: Mapping[Plain, str] = {
    "linear-probe": "the head alone, on fixed features",
    "lp-ft": "the head first, then the upper groups with it",
    "gradual": "from the top down, one group after another",
    "full": "all weights learn, the lower ones slowly",
}
_FEW, _MANY = 20, 500
"""Rows of each class: below the first a linear probe, from the second on all weights."""
_LOWEST_SHARE = 0.05
"""Of the topmost group's rate, for the lowest group: layer decay as steep as is usual for twelve
blocks (0.75 each; He et al. 2022, https://arxiv.org/abs/2111.06377, appendix A)."""
_STEPS_FOR_EMA = 2_000
"""An average with decay 0.999 looks back over about a thousand steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What a recipe depends on."""

    rows: int
    """Training rows, about, once validation and test are taken out."""
    classes: int
    batch_size: int
    groups: int
    """Depth groups of the backbone."""
    image_size: int

    @property
    def rows_per_class(self) -> float:
        """Training rows of each class, on average."""
        return self.rows / max(1, self.classes)

    def epochs(self, steps: int, *, least: int, most: int) -> int:
        """Return the epochs that take about `steps` steps."""
        per_epoch = max(1, self.rows // self.batch_size)
        return min(most, max(least, math.ceil(steps / per_epoch)))

    def steps(self, epochs: int) -> int:
        """Return the steps of some epochs, about."""
        return epochs * max(1, self.rows // self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Sections of a spec as YAML, each with the reason above it."""

    name: Plain
    why: str
    """Why this recipe, in a sentence."""
    augment: str
    phases: str
    optimizer: str
    schedule: str
    ema: str
    head: str
    """Settings of the classification head."""
    head_why: str


def make_recipe(name: RecipeName, size: Size) -> Recipe:
    """Return a recipe for data of some size."""
    chosen, why = _choose(size) if name == "auto" else (name, _ABOUT[name])
    makers: dict[Plain, Callable[[Size], tuple[str, int]]] = {
        "linear-probe": _linear_probe,
        "lp-ft": _lp_ft,
        "gradual": _gradual,
        "full": _full,
    }
    phases, epochs = makers[chosen](size)
    head, head_why = _head(chosen, size)
    return Recipe(
        name=chosen,
        why=why,
        augment=_augment(chosen, size),
        phases=phases,
        optimizer=_optimizer(chosen, size),
        schedule=_schedule(chosen),
        ema=_ema(chosen, size.steps(epochs)),
        head=head,
        head_why=head_why,
    )


def _choose(size: Size) -> tuple[Plain, str]:
    rows = f"about {size.rows_per_class:,.0f} training rows in each class"
    if size.rows_per_class < _FEW:
        return "linear-probe", f"{rows}, fewer than {_FEW}: {_ABOUT['linear-probe']}"
    if size.rows_per_class < _MANY:
        return "lp-ft", f"{rows}, {_FEW} to {_MANY}: {_ABOUT['lp-ft']}"
    return "full", f"{rows}, {_MANY} or more: {_ABOUT['full']}"


def _linear_probe(size: Size) -> tuple[str, int]:
    epochs = size.epochs(500, least=4, most=30)
    return (
        "# The head alone: a convex problem that takes a high rate; about 500 steps.\n"
        "phases:\n"
        f"  - {{name: probe, train: [heads], for: {epochs} epochs, lr: 1e-2}}"
    ), epochs


def _lp_ft(size: Size) -> tuple[str, int]:
    epochs = size.epochs(600, least=4, most=8)
    decay = ", decay: 0.8" if math.ceil(size.groups / 3) > 1 else ""
    return (
        "# First the new head alone, so that its errors do not distort the backbone (Kumar et al.\n"
        "# 2022), then the upper part of the backbone at lower rates.\n"
        "phases:\n"
        "  - {name: probe, train: [heads], for: 2 epochs, lr: 1e-2}\n"
        f"  - {{name: finetune, train: [heads, top], for: {epochs} epochs, "
        f"lr: {{heads: 1e-3, backbone: 5e-4{decay}}}}}"
    ), epochs + 2


def _gradual(size: Size) -> tuple[str, int]:
    by = math.ceil(size.groups / 4)
    thaws = math.ceil(size.groups / by)
    epochs = thaws + size.epochs(1000, least=2, most=10)
    return (
        "# From the top down, so that no group moves before those above it fit (Howard & Ruder\n"
        f"# 2018): the head alone, then {by} more of {size.groups} groups in every epoch.\n"
        "phases:\n"
        f"  - name: thaw\n    train: [all]\n    for: {epochs} epochs\n"
        f"    unfreeze: {{by: {by} group{'s' if by > 1 else ''}, every: 1 epochs}}\n"
        f"    lr: {{heads: 1e-3, backbone: 5e-4{_decay(size)}}}"
    ), epochs


def _full(size: Size) -> tuple[str, int]:
    epochs = size.epochs(3000, least=5, most=30)
    return (
        f"# All weights; from group to group the rate falls, so that the lowest of {size.groups}\n"
        "# groups, which know edges and textures, hardly change. About 3,000 steps, or 5 epochs.\n"
        "phases:\n"
        f"  - {{name: finetune, train: [all], for: {epochs} epochs, "
        f"lr: {{heads: 1e-3, backbone: 3e-4{_decay(size)}}}}}"
    ), epochs


def _decay(size: Size) -> str:
    if size.groups < 2:
        return ""
    decay = _LOWEST_SHARE ** (1 / (size.groups - 1))
    return f", decay: {min(0.95, max(0.6, decay)):.2g}"


def _augment(name: Plain, size: Size) -> str:
    flip = "  - {kind: horizontal_flip}   # remove where left and right differ, as in text\n"
    match name:
        case "linear-probe" | "lp-ft":
            padding = max(4, size.image_size // 16)
            return (
                "# Random changes to training images, light ones: few weights learn, for few steps."
                f"\naugment:\n{flip}  - {{kind: random_crop, padding: {padding}}}"
            )
        case "gradual" | "full":
            strong = name == "full" and size.rows_per_class >= _MANY
            scale = "0.35" if strong else "0.6"
            why = "many steps" if strong else "few rows, seen often"
            return (
                f"# Random changes to training images, {'strong' if strong else 'medium'} ones: all"
                f" weights learn, for {why}.\naugment:\n"
                f"  - {{kind: random_resized_crop, scale: [{scale}, 1.0]}}\n{flip}"
                "  - {kind: color_jitter, brightness: 0.2, contrast: 0.2}"
                "   # remove where colour or light is what is told"
            )
        case _:
            assert_never(name)


def _optimizer(name: Plain, size: Size) -> str:
    heavy = name in {"gradual", "full"} and size.rows_per_class < _MANY
    decay = "0.1" if heavy else "0.05"
    why = "twice the usual: all weights learn from few rows" if heavy else "the usual one"
    return f"# Weight decay is {why}.\noptimizer: {{kind: adamw, weight_decay: {decay}}}"


def _schedule(name: Plain) -> str:
    if name == "full":
        why = "A longer warm-up than 5%: the new head's first gradients reach every weight."
        return f"# {why}\nschedule: {{kind: cosine, warmup: 10%}}"
    return "# A short warm-up, then down to 0.\nschedule: {kind: cosine, warmup: 5%}"


def _ema(name: Plain, steps: int) -> str:
    if name == "linear-probe":
        return "# No ema: a head alone converges without an average."
    if steps < _STEPS_FOR_EMA:
        return f"# No ema: an average over {steps:,} steps would hold much of their start."
    return f"# An average over the last thousand of some {steps:,} steps.\nema: {{decay: 0.999}}"


def _head(name: Plain, size: Size) -> tuple[str, str]:
    if name == "linear-probe" or size.rows_per_class < _MANY:
        why = "No label smoothing: it pays where many rows are learnt to the end."
        return "kind: classification, dropout: 0.2", why
    why = "Label smoothing against too great confidence after many steps."
    return "kind: classification, dropout: 0.2, label_smoothing: 0.1", why
