import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rayft.data.listing import Listing
from rayft.data.readers import FileRows, Unreadable, ValueRows
from rayft.data.sources import list_source
from rayft.errors import DataError
from rayft.spec.sources import PythonSource

ImageFile = Callable[..., bytes]
Module = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """Write a module `mine` into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "mine.py").write_text(text)
        return "mine:rows"

    yield write
    sys.modules.pop("mine", None)


def _list(function: str, base_dir: Path, **args: int) -> Listing:
    source = PythonSource(kind="python", function=function, args=args)
    return list_source(source, base_dir=base_dir)


def _refusal(function: str, base_dir: Path) -> str:
    with pytest.raises(DataError) as caught:
        _list(function, base_dir)
    return str(caught.value)


def test_rows_of_every_image_kind(module: Module, tmp_path: Path, image_file: ImageFile) -> None:
    (tmp_path / "a.png").write_bytes(image_file())
    function = module(
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "def rows(size):\n"
        "    yield {'image': np.zeros((size, size), np.uint8), 'label': 1}\n"
        "    yield {'image': Path('a.png').read_bytes(), 'label': np.int64(2)}\n"
        "    yield {'image': 'a.png', 'label': 10, 'group': 'x'}\n"
        "    yield {'image': Image.new('L', (size, size), 9), 'label': '10', 'group': None}\n"
        "    yield {'image': 'missing.png', 'label': 1}\n"
    )
    before = list(sys.path)

    listing = _list(function, tmp_path, size=3)

    array, encoded, path, picture, missing = listing.reader.read()
    assert isinstance(array, np.ndarray)
    assert array.shape == (3, 3)
    assert encoded == path == image_file()
    assert isinstance(picture, np.ndarray)
    assert picture.shape == (3, 3, 3)
    assert isinstance(missing, Unreadable)
    assert listing.classes == ("1", "2", "10")
    assert listing.groups is not None
    assert (listing.groups > 0).tolist() == [False, False, True, False, False]
    assert sys.path == before


def test_rows_that_are_all_paths_stay_on_disk(
    module: Module, tmp_path: Path, image_file: ImageFile
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(image_file())
    function = module(
        "from pathlib import Path\n"
        "def rows():\n"
        "    return [{'image': Path('a.png'), 'label': 'x'}, {'image': 'b.png', 'label': 'y'}]\n"
    )

    reader = _list(function, tmp_path).reader

    assert isinstance(reader, FileRows)
    assert list(reader.read()) == [image_file()] * 2


def test_a_missing_module_or_function_is_named(module: Module, tmp_path: Path) -> None:
    module("other = 1\n")

    assert "there is no module 'no_such'" in _refusal("no_such.place:rows", tmp_path)
    assert "has no function 'rows'" in _refusal("mine:rows", tmp_path)


@pytest.mark.parametrize("text", ["def rows():\n    yield {}['x']\n", "{}['x']\n"])
def test_the_users_own_error_is_told_with_its_place(
    module: Module, tmp_path: Path, text: str
) -> None:
    message = _refusal(module(text), tmp_path)

    assert "raised KeyError: 'x'" in message
    assert "mine.py, line" in message


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("{'image': b'x'}", "lacks label"),
        ("[1]", "not a mapping"),
        ("{'image': 5, 'label': 1}", "its image is a int"),
        ("{'image': np.zeros((2, 2)), 'label': 1}", "array of float64, not uint8"),
        ("{'image': b'x', 'label': 1.5}", "its label is a float"),
        ("{'image': b'x', 'label': float('nan')}", "1 rows have no label: row#0"),
        ("{'image': b'x', 'label': None}", "1 rows have no label: row#0"),
    ],
)
def test_rows_that_break_the_contract_are_named(
    module: Module, tmp_path: Path, row: str, fault: str
) -> None:
    function = module(f"import numpy as np\ndef rows():\n    yield {row}\n")

    assert fault in _refusal(function, tmp_path)


def test_no_rows_are_refused(module: Module, tmp_path: Path) -> None:
    assert "it has no row" in _refusal(module("def rows():\n    return []\n"), tmp_path)


def test_the_digits_are_rows() -> None:
    listing = _list("rayft.data.digits:rows", Path.cwd())

    assert isinstance(listing.reader, ValueRows)
    assert listing.num_rows == 1797
    assert listing.classes == tuple("0123456789")
    first = listing.reader.values[0]
    assert isinstance(first, np.ndarray)
    assert (first.shape, first.min(), first.max()) == ((8, 8), 0, 239)


def test_digits_without_scikit_learn_name_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    assert 'pip install "rayft[demo]"' in _refusal("rayft.data.digits:rows", tmp_path)
