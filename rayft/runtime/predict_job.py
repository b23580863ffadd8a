"""What one predicting command is to do, worked out before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, final

from rayft.data.predict_columns import Wanted
from rayft.data.predict_csv import CsvInput
from rayft.data.predict_files import FileInput
from rayft.data.predict_format import PartFormat
from rayft.data.predict_input import Chunk, InputRows, find_input
from rayft.data.predict_parquet_input import ParquetInput
from rayft.data.predict_parts import Parts
from rayft.engine.checkpoint_path import MANIFEST
from rayft.engine.checkpoint_reading import Checkpoint
from rayft.engine.ports import Json
from rayft.engine.predict import TrainedModel, trained_model
from rayft.errors import CheckpointError, Problem, SpecError
from rayft.plan.facts import DeviceName
from rayft.runtime.predict_scale import Scale, auto_batch_size, rows_per_part
from rayft.runtime.predict_worker import Work
from rayft.spec.data import FILE_CHANNELS
from rayft.storage.location import Location

FORMAT = 1
"""Version of the layout of the folder that is written."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """The options of the command."""

    image: str | None = None
    """Column of a table with the images; None finds it."""
    root: str | None = None
    """Folder that paths in a table are relative to; None takes the table's own."""
    columns: tuple[str, ...] | Literal["all"] = "all"
    """Columns of a table that go through; `all` is every one but encoded images."""
    prefix: str = ""
    """What the names of the added columns begin with."""
    top: int | None = None
    """List so many classes, best first, instead of the probability of all."""
    workers: int | Literal["auto"] = "auto"
    """Ray actors; 0 predicts in this process, `auto` follows from the machines."""
    batch_size: int | Literal["auto"] = "auto"
    """Rows of a batch; `auto` follows from the device, the image size and the input."""
    device: DeviceName | Literal["auto"] = "auto"
    """What the model computes on; `auto` takes a GPU where there is one, or one can be added."""

    def check(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises:
            SpecError: with every problem.
        """
        least = {"--top": (self.top, 1), "--workers": (self.workers, 0)}
        least["--batch-size"] = (self.batch_size, 1)
        problems = [
            Problem(option, f"expected {smallest} or more, found {value}", "raise it")
            for option, (value, smallest) in least.items()
            if isinstance(value, int) and value < smallest
        ]
        if problems:
            raise SpecError(*problems)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The checkpoint and the rows that were named."""

    folder: Location
    """The checkpoint's."""
    checkpoint: Checkpoint
    trained: TrainedModel
    rows: InputRows
    options: PredictOptions


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The work, cut into chunks."""

    source: Source
    work: Work
    scale: Scale
    chunks: Sequence[Chunk]


def find_source(
    folder: Location,
    checkpoint: Checkpoint,
    inputs: Sequence[str],
    *,
    options: PredictOptions,
    base_dir: Path,
) -> Source:
    """List the rows that there are to predict.

    Raises:
        CheckpointError: no image file holds the channels that the model sees.
        DataError: the rows cannot be listed.
    """
    trained = trained_model(checkpoint)
    _check_channels(trained, folder)
    data = trained.spec.data
    named = [getattr(each, "image", None) for each in (data.test, data.validation, data.train)]
    wanted = Wanted(
        image=options.image,
        columns=options.columns,
        usual_images=tuple(name for name in named if name),
    )
    rows = find_input(inputs, wanted=wanted, root=options.root, base_dir=base_dir)
    return Source(folder=folder, checkpoint=checkpoint, trained=trained, rows=rows, options=options)


def _check_channels(trained: TrainedModel, folder: Location) -> None:
    if trained.channels in FILE_CHANNELS:
        return
    what = f"it was trained on {trained.channels} channels, and image files hold 1, 3 or 4"
    fix = "use `rayft evaluate` with a python source that yields the arrays"
    raise CheckpointError(Problem(str(folder), what, fix))


def make_job(source: Source, target: Location, *, scale: Scale) -> Job:
    """Cut the rows into chunks, and fix all that decides what comes out.

    Args:
        source: checkpoint and rows.
        target: the folder to write.
        scale: who predicts; only the device changes what comes out.

    Raises:
        DataError: columns of the input have the name of an added one.
    """
    trained, rows, options = source.trained, source.rows, source.options
    columns = PartFormat(
        classes=trained.classes, carried=rows.carried, top=options.top, prefix=options.prefix
    )
    columns.check()
    batch_size = options.batch_size
    if batch_size == "auto":
        batch_size = auto_batch_size(
            rows.num_rows, image_size=trained.image_size, device=scale.device
        )
    part_rows = rows_per_part(
        rows.num_rows, num_classes=len(trained.classes), batch_size=batch_size
    )
    request: dict[str, Json] = {
        "format": FORMAT,
        "checkpoint": sha256((source.folder / MANIFEST).read_bytes()).hexdigest(),
        "input": {"rows": rows.num_rows, "names, sizes and times": rows.version},
        "columns": {**_table_settings(rows), "top": options.top, "prefix": options.prefix},
        "device": scale.device,
        "batch_size": batch_size,
        "rows_per_part": part_rows,
    }
    work = Work(
        trained=trained,
        columns=columns,
        parts=Parts(folder=target, request=request),
        device=scale.device,
        batch_size=batch_size,
        lanes=scale.lanes,
    )
    return Job(source=source, work=work, scale=scale, chunks=rows.chunks(part_rows))


def _table_settings(rows: InputRows) -> dict[str, Json]:
    match rows:
        case FileInput():
            return {}
        case CsvInput() | ParquetInput():
            return {
                "image": rows.columns.image,
                "root": str(rows.columns.named_root),
                "carried": [*rows.carried.names],
            }
