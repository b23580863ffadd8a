"""Findings about single pictures: blank, dark, light, blurred."""

import numpy as np
import numpy.typing as npt

from rayft.data.report.contents import PLAIN
from rayft.data.report.finding import Finding, FindingName, Proposal, examples_of
from rayft.data.report.measure import Measures
from rayft.data.report.rows import Ids, ReportRows

DARK_SHARE = 0.99
"""Share of a picture below a grey of 0.3 from which it is too dark: hardly a bright spot is left;
digits on black and stars in the sky have more."""
LIGHT_SHARE = 0.95
"""Share of a picture above a grey of 0.95 from which it is too light."""
BLUR_DEVIATIONS = 4.0
"""Robust standard deviations below the median of log sharpness from which a picture is blurred.
There is no absolute limit: sharpness depends on the subject, and on the size images are stored at.
Of a normal distribution 3 in 100,000 lie beyond."""


def picture_findings(rows: ReportRows, measures: Measures) -> list[Finding]:
    """Return what is found about single pictures."""
    masks = picture_masks(measures)
    return [
        _finding(
            rows,
            "blank",
            "blank images",
            "No channel's pixels have a standard deviation of 3 or more levels of 255.",
            _worst(masks["blank"], measures.contrast),
            [f"contrast {value * 255:.1f}" for value in measures.contrast.tolist()],
        ),
        _finding(
            rows,
            "dark",
            "too dark",
            f"{DARK_SHARE:.0%} of the picture is below a grey of 0.3, white being 1.",
            _worst(masks["dark"], measures.brightness),
            [f"brightness {value:.2f}" for value in measures.brightness.tolist()],
        ),
        _finding(
            rows,
            "light",
            "too light",
            f"{LIGHT_SHARE:.0%} of the picture is above a grey of 0.95, white being 1.",
            _worst(masks["light"], -measures.brightness),
            [f"brightness {value:.2f}" for value in measures.brightness.tolist()],
        ),
        _finding(
            rows,
            "blurred",
            "blurred",
            "Sharpness, the variance of the Laplacian over that of the pixels, lies as a logarithm "
            f"more than {BLUR_DEVIATIONS:g} robust standard deviations below the median of all.",
            _worst(masks["blurred"], measures.sharpness),
            [f"sharpness {value:.4f}" for value in measures.sharpness.tolist()],
        ),
    ]


def picture_proposals(measures: Measures) -> list[Proposal]:
    """Return the rows to leave out: blank ones. The others are for people to look at."""
    places = np.flatnonzero(picture_masks(measures)["blank"]).tolist()
    return [Proposal(place=place, reason="blank") for place in places]


def picture_masks(measures: Measures) -> dict[FindingName, npt.NDArray[np.bool_]]:
    """Return for each finding which rows [N] it is about; blank ones are nothing else."""
    blank = measures.contrast < PLAIN
    return {
        "blank": blank,
        "dark": (measures.dark >= DARK_SHARE) & ~blank,
        "light": (measures.light >= LIGHT_SHARE) & ~blank,
        "blurred": _blurred(measures.sharpness, ~blank),
    }


def _blurred(
    sharpness: npt.NDArray[np.float32], textured: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    if not textured.any():
        return textured
    # A picture without any edge has a logarithm, too.
    logs = np.log(sharpness.astype(np.float64) + 1e-6)
    middle = np.median(logs[textured])
    # 1.4826 makes the median deviation of a normal distribution its standard deviation.
    deviation = 1.4826 * np.median(np.abs(logs[textured] - middle))
    far: npt.NDArray[np.bool_] = logs < middle - BLUR_DEVIATIONS * deviation
    return far & textured if deviation else np.zeros_like(textured)


def _worst(mask: npt.NDArray[np.bool_], value: npt.NDArray[np.float32]) -> Ids:
    places = np.flatnonzero(mask)
    return places[np.argsort(value[places], kind="stable")]


def _finding(
    rows: ReportRows, name: FindingName, title: str, rule: str, places: Ids, details: list[str]
) -> Finding:
    seen = ((place, None, details[place]) for place in places.tolist())
    examples = examples_of(rows, seen)
    return Finding(name=name, title=title, rule=rule, count=len(places), examples=examples)
