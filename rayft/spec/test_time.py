"""The `test_time:` section: several views of each row in evaluation and prediction."""

from typing import Self

from pydantic import Field, model_validator

from rayft.spec.base import Spec


class TestTimeSpec(Spec):
    """Take the mean of a row's probabilities over several views of it.

    It costs one forward pass for each view, and holds for validation, test and `rayft predict`.
    """

    __test__ = False  # Its name begins like a test's.

    horizontal_flip: bool = False
    """Add each image mirrored left and right: twice as many views."""
    shift: int = Field(default=0, ge=0)
    """Add each image moved by so many pixels towards its four corners, its border repeated: five
    times as many views."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.horizontal_flip or self.shift):
            raise ValueError(
                "test_time has no effect with all its settings off; set one or remove it"
            )
        return self

    @property
    def num_views(self) -> int:
        """Views of each row."""
        return (2 if self.horizontal_flip else 1) * (5 if self.shift else 1)
