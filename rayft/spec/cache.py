"""The `cache:` section: what is done with the part of the network that does not train."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rayft.spec.base import Spec
from rayft.spec.size import SizeText


class CacheSpec(Spec):
    """Whether what the frozen layers make of each row is kept, and in which form.

    The frozen prefix of a phase is what lies below the lowest group that trains. It answers the
    same to the same view of a row in every epoch, so it is enough to run it once.
    """

    mode: Literal["auto", "off", "require"] = "auto"
    """`auto` keeps it where the plan expects that to be faster and it fits into `budget`; `off`
    runs the frozen layers in every epoch; `require` refuses a run in which no phase can keep it."""
    budget: SizeText | Literal["auto"] = "auto"
    """Most bytes of all kept rows under a `storage_path`, those of other runs included; what was
    used longest ago makes room. `auto` is 30 % of what is free on the disk, or kept already; in an
    object store it is what `data.local_cache` has room for beside the rows."""
    views: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = "auto"
    """Random views of each row that are kept, where there is augmentation; epochs take them in
    turn. `auto` weighs their time against that of new views in every epoch."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Numbers that are kept. `auto` is what the frozen layers compute in. What is beyond 65,504,
    where fp16 ends, is an error."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.mode != "off":
            return self
        for name in ("budget", "views", "dtype"):
            if getattr(self, name) != "auto":
                raise ValueError(f"{name} has no effect while mode is off; remove it")
        return self
