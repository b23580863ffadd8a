"""`rayft preview` as people and scripts see it, and the pixels of the sheet."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from rayft.cli.main import app
from rayft.cli.preview import draw_sheet, header
from rayft.data.prepare import PreparedDataset
from rayft.feed.prepare import make_training_prepare, training_rows
from rayft.feed.tickets import training_tickets
from rayft.runtime.preview import preview
from rayft.spec.run import RunSpec
from rayft.store.dataset import open_dataset
from tests.laws.harness import SIZE, make_spec, make_test_plan, pictures
from tests.laws.harness import prepare as prepare_rows


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    return write_spec(tmp_path)


def write_spec(folder: Path, **changes: Any) -> Path:
    storage = str(folder / "results")
    spec = make_spec(storage_path=storage, scaling={"num_workers": 0}, **changes)
    raw = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["preview", *map(str, words)])


def prepared(spec: RunSpec, folder: Path) -> PreparedDataset:
    return prepare_rows(spec, folder / "stores")


def test_it_prepares_the_rows_and_says_what_comes_next(spec_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.png"

    found = call(spec_file, "--rows", 3, "--views", 2, "-o", output)

    assert found.exit_code == 0, found.output
    assert "preparing rows: 90 of 90" in found.output
    assert f"{output}: 3 rows, 2 views of each" in found.output
    assert f"next: rayft train {spec_file}" in found.output
    with Image.open(output) as image:
        assert image.format == "PNG"
    again = call(spec_file, "--rows", 3, "--views", 2, "-o", output)
    assert "preparing rows" not in again.output


def test_scripts_read_one_line(spec_file: Path, tmp_path: Path) -> None:
    found = call(spec_file, "seed=5", "-o", tmp_path / "sheet.png", "--json")

    result = json.loads(found.stdout)
    assert (result["status"], result["views"], len(result["rows"])) == ("written", 6, 8)
    assert result["output"] == str(tmp_path / "sheet.png")


PROBE = {"name": "probe", "train": ["heads"], "for": "4 epochs", "lr": 0.01}
TOP = {"name": "top", "train": ["heads", "last 2"], "for": "1 epochs", "lr": 0.01}
FEW = {"phases": [PROBE, TOP], "cache": {"mode": "require", "views": 3}}


@pytest.mark.parametrize(
    ("changes", "titles"),
    [
        ({}, ("epoch 0", "epoch 1", "epoch 2")),
        (FEW, ("epoch 0", "epoch 1", "epoch 2", "epoch 3, as 0", "epoch 4, as 1")),
    ],
)
def test_views_are_the_bytes_that_training_sees(
    tmp_path: Path, changes: dict[str, Any], titles: tuple[str, ...]
) -> None:
    spec = make_spec(**changes)
    ready = prepared(spec, tmp_path)
    num_views = len(titles)

    found = preview(spec, ready, split="train", num_rows=7, num_views=num_views)

    epochs = list(seen_in_each_epoch(spec, ready))
    assert len(epochs) == num_views
    for images, views in zip(epochs, found.views, strict=True):
        for row_id, view in zip(found.row_ids.tolist(), views, strict=True):
            assert images[row_id] == [view.tobytes()]
    assert found.seen_in == titles


def uneven() -> Iterator[Any]:
    """Yield the harness's pictures, 36 of a common class and 4 of a rare one."""
    for number, row in enumerate(pictures(40)):
        yield {**row, "label": "common" if number < 36 else "rare"}


UNEVEN = {
    "data": {
        "train": {"kind": "python", "function": f"{__name__}:uneven"},
        "image_size": SIZE,
        "order": "balanced",
    },
    "global_batch_size": 8,
}
ALL = {"name": "all", "train": ["all", "heads"], "for": "2 epochs", "lr": 0.01}


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"phases": [ALL]}, "use 4"),
        ({"phases": [PROBE], "cache": {"views": 3}}, "use 4, as 1"),
        ({"phases": [PROBE, ALL], "cache": {"views": 3}}, "use 4"),
    ],
)
def test_in_the_balanced_order_views_are_those_of_the_uses_of_each_row(
    tmp_path: Path, changes: dict[str, Any], title: str
) -> None:
    spec = make_spec(**UNEVEN, **changes)
    ready = prepared(spec, tmp_path)

    found = preview(spec, ready, split="train", num_rows=40, num_views=30)

    assert found.seen_in[4] == title
    used = dict.fromkeys(found.row_ids.tolist(), 0)
    for images in seen_in_each_epoch(spec, ready):
        for place, row_id in enumerate(found.row_ids.tolist()):
            first, last = used[row_id], used[row_id] + len(images[row_id])
            shown = [view.tobytes() for view in found.views[first:last, place]]
            assert sorted(shown) == sorted(images[row_id])
            used[row_id] = last
    assert max(used.values()) >= 10


def seen_in_each_epoch(spec: RunSpec, ready: PreparedDataset) -> Iterator[dict[int, list[bytes]]]:
    """Yield what training sees of each row in an epoch, as often as it is used."""
    plan = make_test_plan(spec, ready)
    split = open_dataset(ready.ref).splits["train"]
    seen: dict[int, dict[int, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    for phase in plan.phases:
        prepare = make_training_prepare(plan, phase, split, threads=1)
        for shards in training_tickets(plan, phase, training_rows(split), rank=0):
            for ticket in shards:
                images = prepare(ticket).images
                assert images is not None
                for row_id, image in zip(ticket.row_ids.tolist(), images, strict=True):
                    seen[ticket.epoch][row_id].append(image.tobytes())
    yield from seen.values()


def test_rows_are_of_as_many_classes_as_can_be(tmp_path: Path) -> None:
    spec = make_spec()
    ready = prepared(spec, tmp_path)

    found = preview(spec, ready, split="train", num_rows=5, num_views=1)

    assert found.classes == ("stripe0", "stripe1", "stripe2", "stripe0", "stripe1")
    everything = preview(spec, ready, split="train", num_rows=1000, num_views=1)
    split = open_dataset(ready.ref).splits["train"]
    assert sorted(everything.row_ids.tolist()) == split.row_ids.tolist()


def test_other_splits_show_what_evaluation_sees(tmp_path: Path) -> None:
    spec = make_spec()

    found = preview(spec, prepared(spec, tmp_path), split="test", num_rows=4, num_views=6)

    assert found.seen_in == ("evaluation",)
    assert np.array_equal(found.views[0], found.stored)
    assert header(spec, found, "test")[1:] == ["evaluation sees the middle"]


def test_every_image_stands_on_the_sheet_in_its_place(tmp_path: Path) -> None:
    spec = make_spec()
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=3, num_views=2)

    sheet = np.asarray(draw_sheet(found, header(spec, found, "train")))

    tops = []
    for row in range(3):
        for column, images in enumerate((found.stored, *found.views)):
            tile = images[row].repeat(3, axis=0).repeat(3, axis=1)
            strip = sheet[:, 12 + 102 * column : 12 + 102 * column + 96]
            matches = [y for y in range(len(strip) - 95) if np.array_equal(strip[y : y + 96], tile)]
            assert len(matches) == 1
            tops.append(matches[0])
    assert tops == sorted(tops)
    assert len(set(tops)) == 3


def test_the_header_names_the_operations_and_their_settings(tmp_path: Path) -> None:
    augment = [{"kind": "random_resized_crop"}, {"kind": "affine", "degrees": 12.5}]
    spec = make_spec(augment=augment, mix=[{"kind": "mixup"}])
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=3, num_views=1)

    lines = header(spec, found, "train")

    assert lines == [
        "run: train rows stored at 32 x 32, seen at 32 x 32, seed 3",
        "1. random_resized_crop: scale [0.35, 1], ratio [0.75, 1.333]",
        "2. affine: degrees 12.5, translate [0, 0], scale [1, 1], shear [0, 0], "
        "interpolation nearest",
        "before mixup",
    ]
    assert header(make_spec(augment=[]), found, "train")[1] == (
        "no augmentation: every epoch sees the same"
    )


def test_the_header_says_what_becomes_of_the_views_after_it(tmp_path: Path) -> None:
    spec = make_spec(mix=[{"kind": "mixup"}], phases=[PROBE | {"image_size": 16}, TOP], augment=[])
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=3, num_views=1)

    assert header(spec, found, "train")[2:] == [
        "before mixup",
        "before phase probe scales them to 16 x 16",
    ]


def test_the_header_of_a_balanced_order_says_that_uses_are_shown(tmp_path: Path) -> None:
    spec = make_spec(**UNEVEN)
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=3, num_views=1)

    assert header(spec, found, "train")[-1] == (
        "order balanced: each row's uses from the first, however many fall into an epoch"
    )


def test_a_long_header_and_one_small_column_still_fit(tmp_path: Path) -> None:
    spec = make_spec(augment=[{"kind": "trivial_augment"}] * 4)
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=1, num_views=1)

    wide = draw_sheet(found, header(spec, found, "train"))
    long = draw_sheet(replace(found, classes=("a" * 500,)), header(spec, found, "train"))

    assert wide.size == long.size
    assert wide.width == 12 + 96 + 6 + 96 + 12


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--rows", "0"], "--rows: expected 1 or more, found 0"),
        (["--views", "0"], "--views: expected 1 or more, found 0"),
        (["--split", "test", "--views", "2"], "--views: it has no effect on test rows"),
        (["-o", "/nowhere/at/all.png"], "/nowhere/at/all.png: its folder is not there"),
        (["augment=[{kind: gaussian_blur, kernel_size: 65}]"], "augment.0.kernel_size: half of 65"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_code_2(
    spec_file: Path, tmp_path: Path, words: list[str], what: str
) -> None:
    output = [] if "-o" in words else ["-o", str(tmp_path / "sheet.png")]

    found = call(spec_file, *words, *output)

    assert found.exit_code == 2, found.output
    assert what in found.stderr
    assert "fix: " in found.stderr
    assert not (tmp_path / "sheet.png").exists()
    assert "preparing rows" not in found.output


@pytest.mark.parametrize("folder", ["", "."])
def test_a_folder_is_no_place_for_the_sheet(spec_file: Path, tmp_path: Path, folder: str) -> None:
    output = folder or tmp_path

    found = call(spec_file, "-o", output)

    assert found.exit_code == 2, found.output
    assert found.stderr == (
        f"error: --output: {output} is a folder\n"
        f"  fix: name a file in it, such as {Path(output) / 'preview.png'}\n"
    )
    assert "preparing rows" not in found.output


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = write_spec(
        tmp_path,
        data={
            "train": {"kind": "python", "function": "tests.laws.harness:pictures"},
            "image_size": SIZE,
        },
    )

    found = call(file, "--split", "validation", "-o", tmp_path / "sheet.png")

    assert found.exit_code == 2
    assert "data.validation: there is no validation split; there is train" in found.stderr


def bands(*, channels: int) -> Iterator[Any]:
    """Yield the harness's pictures with more channels, or fewer."""
    for row in pictures():
        image = np.concatenate([row["image"], 255 - row["image"]], axis=2)
        yield {**row, "image": image[..., :channels]}


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        (1, None),
        (2, "the first of 2 channels is shown"),
        (4, "the first 3 of 4 channels are shown"),
        (6, "the first 3 of 6 channels are shown"),
    ],
)
def test_images_of_other_channels_are_shown_as_far_as_can_be(
    tmp_path: Path, channels: int, told: str | None
) -> None:
    function = f"{__name__}:bands"
    source = {"kind": "python", "function": function, "args": {"channels": channels}}
    spec = make_spec(data={"train": source, "image_size": SIZE, "channels": channels}, augment=[])
    found = preview(spec, prepared(spec, tmp_path), split="train", num_rows=1, num_views=1)

    lines = header(spec, found, "train")
    sheet = np.asarray(draw_sheet(found, lines))

    assert lines[1:-1] == ([told] if told else [])
    shown = found.stored[0][..., :3] if channels > 2 else found.stored[0][..., [0, 0, 0]]
    tile = shown.repeat(3, axis=0).repeat(3, axis=1)
    strip = sheet[:, 12 : 12 + 96]
    assert any(np.array_equal(strip[y : y + 96], tile) for y in range(len(strip) - 95))
