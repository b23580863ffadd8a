"""Random views of training images, made on the worker's device (`augment_on: device`).

Random numbers are drawn here on the host, a few for each row; pixels stay on the device.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from rayft.feed.pending import Pending
from rayft.feed.prepare import Mix
from rayft.plan.run_plan import RunPlan
from rayft.spec.mix import acting
from rayft.transforms.augment import Augmentation, make_augmentation
from rayft.transforms.mix import Mixing
from rayft.transforms.operation import moved


@final
@dataclass(frozen=True, slots=True)
class DeviceViews:
    """The `augment:` and `mix:` lists of a run, for images on a device."""

    augment: Augmentation
    mixing: Mixing | None

    def __call__(self, stored: Tensor, pending: Pending) -> tuple[Tensor, Mix | None]:
        """Return the images [n, H, W, C] of a batch as uint8, and what was put into them.

        Args:
            stored: [m, S, S, C] uint8, the images that travelled.
            pending: what is to be made of them.
        """
        rows, partners = pending.rows, pending.partners
        images = self.augment.of_tensor(stored, rows.row_ids, epoch=rows.views)
        if self.mixing is None or partners is None:
            return images, None
        mine = rows[pending.own]
        images, shares = self.mixing(
            images[moved(pending.own, images)],
            images[moved(partners.places, images)],
            mine.row_ids,
            epoch=mine.views,
        )
        return images, Mix(labels=partners.labels, shares=shares)


def make_device_views(plan: RunPlan) -> DeviceViews | None:
    """Return what the device does to training images; None where they come ready."""
    spec = plan.spec
    if spec.augment_on == "host":
        return None
    augment = make_augmentation(spec.augment, image_size=plan.model.image_size, seed=spec.seed)
    mixes = acting(spec.mix)
    return DeviceViews(augment, Mixing(mixes, spec.seed) if mixes else None)
