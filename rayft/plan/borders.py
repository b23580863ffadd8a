"""Borders that operations mirror: an image must be large enough for them."""

from rayft.errors import Problem, SpecError
from rayft.spec.augment import AugmentSpec
from rayft.spec.augment_motion import RandomCrop
from rayft.spec.augment_tone import GaussianBlur


def check_borders(specs: tuple[AugmentSpec, ...], *, image_size: int) -> None:
    """Refuse an `augment:` list that mirrors more of an image than there is.

    Args:
        specs: the list.
        image_size: height and width of the run's images in pixels. A phase with an `image_size` of
            its own scales them after the list.

    Raises:
        SpecError: one problem for each such operation.
    """
    problems = [
        problem
        for place, spec in enumerate(specs)
        if (problem := _border_problem(spec, f"augment.{place}", image_size))
    ]
    if problems:
        raise SpecError(*problems)


def _border_problem(spec: AugmentSpec, where: str, image_size: int) -> Problem | None:
    match spec:
        case RandomCrop(padding_mode="reflect", padding=padding) if padding >= image_size:
            return Problem(
                f"{where}.padding",
                f"{padding} pixels cannot be mirrored from an image of {image_size} pixels",
                f"set it to {image_size - 1} or less, or set padding_mode to constant",
            )
        case GaussianBlur(kernel_size=size) if size // 2 >= image_size:
            return Problem(
                f"{where}.kernel_size",
                f"half of {size} pixels cannot be mirrored from an image of {image_size} pixels",
                f"set it to {2 * image_size - 1} or less",
            )
        case _:
            return None
