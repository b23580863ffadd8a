"""From the `data:` section's sources to the ordered rows behind them."""

from pathlib import Path
from typing import assert_never

from rayft.data.csv_source import list_csv
from rayft.data.folder_source import list_folder
from rayft.data.listing import Listing
from rayft.data.parquet_source import list_parquet
from rayft.data.python_source import list_python
from rayft.data.torchvision_source import list_torchvision
from rayft.data.webdataset_source import list_webdataset
from rayft.spec.data import RGB
from rayft.spec.sources import (
    CsvSource,
    FolderSource,
    ParquetSource,
    PythonSource,
    SourceSpec,
    TorchvisionSource,
    WebDatasetSource,
)
from rayft.storage.location import Location


def list_source(
    spec: SourceSpec, *, base_dir: Path, memory: Location | None = None, channels: int = RGB
) -> Listing:
    """List the rows of a source in their order, without decoding any image.

    Args:
        spec: the source.
        base_dir: the folder that relative paths start from.
        memory: a folder to remember what was costly to find out, such as the index of a tar file
            in an object store; it may be deleted at any time.
        channels: those of the images, for sources that hand over decoded ones.

    Raises:
        DataError: the source is missing, empty or breaks its contract, with every problem
            that was found.
    """
    match spec:
        case FolderSource():
            return list_folder(spec, base_dir=base_dir)
        case ParquetSource():
            return list_parquet(spec, base_dir=base_dir)
        case CsvSource():
            return list_csv(spec, base_dir=base_dir)
        case TorchvisionSource():
            return list_torchvision(spec, base_dir=base_dir)
        case WebDatasetSource():
            return list_webdataset(spec, base_dir=base_dir, memory=memory)
        case PythonSource():
            return list_python(spec, base_dir=base_dir, channels=channels)
        case _:
            assert_never(spec)
