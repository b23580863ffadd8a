"""Images of other sizes than those a model is planned for: which it takes, and what they tell."""

from collections.abc import Mapping

import torch

from rayft.errors import ModelError, Problem
from rayft.models.backbone import make_backbone
from rayft.models.model import assemble_model
from rayft.spec.model import BackboneSpec, ModelSpec


def check_image_sizes(spec: ModelSpec, *, image_size: int, others: Mapping[str, int]) -> None:
    """Check that a model made for one size of images takes others as well.

    Args:
        spec: the `model:` section.
        image_size: height and width in pixels that the model is made for.
        others: further sizes by their path in the spec.

    Raises:
        ModelError: it does not take one of them.
    """
    if not others:
        return
    with torch.device("meta"):
        model = assemble_model(spec, num_classes=2, image_size=image_size).eval()
        for where, size in others.items():
            try:
                model(torch.empty(1, 3, size, size))
            except (RuntimeError, AssertionError, ValueError) as error:
                what = (
                    f"{spec.backbone.name} for images of {image_size} px cannot take images of "
                    f"{size} px: {error}"
                )
                fix = "choose another size, or remove it"
                raise ModelError(Problem(where, what, fix)) from error


def check_sums(backbone: BackboneSpec, usual_size: int) -> None:
    """Check that maps that are summed are of one size still, by images of the usual size.

    Small images may hide it: a map of one pixel is added to a larger one as if it were as large.

    Args:
        backbone: the section; its strides are changed, or layers are left out.
        usual_size: height and width in pixels of images that leave larger maps.

    Raises:
        ModelError: they are not.
    """
    with torch.device("meta"):
        try:
            make_backbone(backbone).eval()(torch.empty(1, 3, usual_size, usual_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            what = f"maps that belong together are of different sizes: {error}"
            fix = "name whole blocks or groups, not parts of a block"
            setting = "strides" if backbone.strides else "drop"
            raise ModelError(Problem(f"model.backbone.{setting}", what, fix)) from error
