"""The picture of a range test, however short it was."""

from pathlib import Path

import pytest
from PIL import Image

from rayft.cli.lr_chart import draw_chart
from rayft.plan.lr_range import LossCurve
from rayft.runtime.find_lr import FoundRate


@pytest.mark.parametrize("losses", [(1.1,), (1.1, 0.9), (1.1, 0.9, 0.7)])
def test_a_test_that_ended_at_once_is_drawn(tmp_path: Path, losses: tuple[float, ...]) -> None:
    rates = (1e-7, 2e-7, 4e-7)[: len(losses)]
    found = FoundRate(
        phase="probe",
        start="pretrained weights",
        device="cpu",
        curve=LossCurve(rates=rates, losses=losses, exploded=True),
        peak=0.01,
        suggestion=None,
        setting=None,
    )

    draw_chart(found, tmp_path / "x.png")

    with Image.open(tmp_path / "x.png") as image:
        assert image.format == "PNG"
