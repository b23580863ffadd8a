"""`rayft cache` as people and scripts see it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rayft.cli.main import app
from rayft.errors import DataError
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.activation_list import list_stores
from rayft.store.activation_room import make_room
from rayft.store.activation_use import LAST_USE, in_use, uses_of
from rayft.store.manifest import MANIFEST_NAME
from tests.unit.store.building import Making, build, build_once

FIRST, SECOND, THIRD = "a1" * 32, "a1b2" * 16, "c3" * 32


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 6)
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A `storage_path` with two stores, last used at the start of 1970 and of 2026."""
    root = Location(str(tmp_path / "results/.stores"))
    for key, seconds in ((FIRST, 60.0), (SECOND, 1767225600.0)):
        build_once(root, key)
        (uses_of(root, key) / LAST_USE).write_bytes(json.dumps({"time": seconds}).encode())
    return tmp_path / "results"


def root_of(storage: Path) -> Location:
    return Location(str(storage / ".stores"))


def keys(storage: Path) -> list[str]:
    return [entry.key for entry in list_stores(root_of(storage))]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["cache", *map(str, words)])


def result(found: Result) -> dict[str, object]:
    (line,) = found.stdout.splitlines()
    values: dict[str, object] = json.loads(line)
    return values


def damage(storage: Path, key: str) -> Path:
    path = storage / ".stores/activations" / key / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def leave_unfinished(storage: Path, key: str) -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise DataError

    with in_use(root_of(storage), key) as use, pytest.raises(DataError):
        build(use, making=Making(key, before=fail))


class TestList:
    def test_every_store_is_a_line_and_the_budget_is_told(self, storage: Path) -> None:
        with make_room(root_of(storage), key=THIRD, needed_bytes=0, budget=5 * 10**9):
            pass
        with in_use(root_of(storage), SECOND):
            found = call("ls", storage)

        assert found.exit_code == 0
        head, first, second, total, after = found.output.splitlines()
        assert head.split("  ")[0] == "key"
        assert first.split() == [
            "a1a1a1a1a1a1",
            "torchvision/resnet18",
            *("layer3", "0", "20", "fp32", "0.00", "MB", "1970-01-01", "00:01"),
        ]
        assert f"  in use by process {os.getpid()} on " in second
        assert total == f"2 stores, 0.01 MB of 5.00 GB, in {storage}"
        assert after == f"next: rayft cache verify {storage}"

    def test_scripts_read_one_line(self, storage: Path) -> None:
        leave_unfinished(storage, THIRD)

        values = result(call("ls", storage, "--json"))

        first, _, third = values["stores"]  # type: ignore[misc]
        assert (values["status"], values["budget"]) == ("listed", 10**9)
        assert (first["key"], first["state"], first["in_use_by"]) == (FIRST, "whole", [])
        assert (first["shape"], first["dtype"], first["num_rows"]) == ([6, 2], "fp32", 20)
        assert (first["last_used"], first["about"]["cut"]) == (60.0, "layer3")
        assert third["state"] == "unfinished"
        sizes = [store["stored_bytes"] for store in values["stores"]]  # type: ignore[attr-defined]
        assert values["bytes"] == sum(sizes)

    def test_what_is_of_no_use_is_what_to_remove_next(self, storage: Path) -> None:
        leave_unfinished(storage, THIRD)

        found = call("ls", storage)

        assert f"next: rayft cache rm {storage} c3c3c3c3c3c3\n" in found.output

    def test_where_nothing_is_kept_nothing_is_made(self, tmp_path: Path) -> None:
        found = call("ls", tmp_path / "none")

        assert found.exit_code == 0
        assert found.output.splitlines() == [
            f"0 stores, 0.00 MB, in {tmp_path / 'none'}",
            "next: rayft train SPEC",
        ]
        assert not (tmp_path / "none").exists()

    def test_the_default_is_that_of_a_spec(
        self, storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        storage.rename(tmp_path / "rayft_results")

        found = call("ls")

        assert f"2 stores, 0.01 MB of 1.00 GB, in {tmp_path}/rayft_results\n" in found.output
        assert found.output.endswith("next: rayft cache verify\n")

    def test_an_address_that_cannot_be_read_is_refused(self) -> None:
        found = call("ls", "ftp://there/results")

        assert found.exit_code == 2
        assert "error: STORAGE: ftp:// is of a kind that cannot be reached" in found.stderr

    def test_it_answers_without_torch(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from rayft.cli.main import app\n"
            "sys.modules['torch'] = sys.modules['ray'] = None\n"
            f"app(['cache', 'ls', {str(tmp_path)!r}])"
        )
        found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)

        assert found.returncode == 0, found.stderr


class TestRemove:
    def test_a_beginning_that_only_one_key_has_is_enough(self, storage: Path) -> None:
        found = call("rm", storage, "a1b")

        assert found.exit_code == 0
        assert found.output.splitlines() == [
            f"removed 1 store, 0.00 MB, from {storage}",
            f"next: rayft cache ls {storage}",
        ]
        assert keys(storage) == [FIRST]

    def test_an_unfinished_one_can_be_removed(self, storage: Path) -> None:
        leave_unfinished(storage, THIRD)

        values = result(call("rm", storage, THIRD, "--json"))

        assert (values["status"], values["removed"]) == ("removed", [THIRD])
        assert keys(storage) == [FIRST, SECOND]

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("a1", f"'a1' means {FIRST}, {SECOND}"),
            ("a1b3", "nothing is kept under 'a1b3'"),
            ("zz", "nothing is kept under 'zz'"),
        ],
    )
    def test_what_is_not_one_store_is_refused_and_nothing_goes(
        self, storage: Path, key: str, said: str
    ) -> None:
        found = call("rm", storage, FIRST, key)

        assert found.exit_code == 2
        assert f"error: KEY: {said}" in found.stderr
        assert ("did you mean `a1b2a1b2a1b2`?" in found.stderr) == (key == "a1b3")
        assert keys(storage) == [FIRST, SECOND]

    def test_a_folder_is_named_with_a_slash(
        self, storage: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(storage.parent)

        plain, slashed = call("rm", storage.name, "a1b"), call("rm", f"./{storage.name}", "a1b")

        assert (plain.exit_code, slashed.exit_code) == (2, 0)
        assert "fix: write ./results where it is the storage_path" in plain.stderr
        assert keys(storage) == [FIRST]

    def test_one_in_use_is_refused_with_the_reason(self, storage: Path) -> None:
        with in_use(root_of(storage), SECOND):
            found = call("rm", storage, FIRST, SECOND)

        assert found.exit_code == 2
        assert f"{SECOND}: it is in use by process {os.getpid()} on " in found.stderr
        assert keys(storage) == [FIRST, SECOND]

    def test_all_means_all_that_are_not_in_use(self, storage: Path) -> None:
        with in_use(root_of(storage), SECOND):
            found = call("rm", storage, "--all")

        assert found.exit_code == 0
        assert f"removed 1 store, 0.00 MB, from {storage}\n" in found.output
        assert "kept a1b2a1b2a1b2: in use by process " in found.output
        assert keys(storage) == [SECOND]

    @pytest.mark.parametrize("words", [(), (FIRST, "--all")])
    def test_keys_or_all_are_needed(self, storage: Path, words: tuple[str, ...]) -> None:
        found = call("rm", storage, *words)

        assert found.exit_code == 2
        assert "or give --all" in found.stderr
        assert keys(storage) == [FIRST, SECOND]

    def test_the_storage_may_be_an_object_store(self, bucket: Location) -> None:
        build_once(bucket / "results/.stores", FIRST)

        listed = call("ls", bucket / "results")
        found = call("rm", bucket / "results", "a1")

        assert f"1 store, 0.00 MB of 1.00 GB, in {bucket}/results\n" in listed.output
        assert f"removed 1 store, 0.00 MB, from {bucket}/results\n" in found.output
        assert list_stores(bucket / "results/.stores") == ()


class TestVerify:
    def test_whole_stores_are_read(self, storage: Path) -> None:
        leave_unfinished(storage, THIRD)

        found = call("verify", storage)

        assert found.exit_code == 0
        assert found.output.splitlines()[-2:] == [
            "read 2 stores, 0.01 MB; none is damaged",
            f"next: rayft cache ls {storage}",
        ]

    def test_a_damaged_one_is_named_and_how_to_drop_it(self, storage: Path) -> None:
        path = damage(storage, FIRST)
        (path.parents[1] / SECOND / MANIFEST_NAME).write_text("{")

        found = call("verify", storage)

        assert found.exit_code == 1
        assert f"error: {path}: its SHA-256 differs from the manifest's" in found.stderr
        assert f"rayft cache rm {storage} a1a1a1a1a1a1" in found.stderr
        assert f"{SECOND}/{MANIFEST_NAME}: is no manifest" in found.stderr
        assert found.stdout.endswith(f"next: rayft cache verify {storage} --remove\n")
        assert keys(storage) == [FIRST, SECOND]

    def test_keys_say_which_to_read(self, storage: Path) -> None:
        damage(storage, FIRST)

        assert call("verify", storage, "a1b").exit_code == 0
        assert call("verify", storage, "a1a", "a1b").exit_code == 1
        assert call("verify", storage, "d4").exit_code == 2

    def test_damaged_ones_are_removed_where_asked(self, storage: Path) -> None:
        damage(storage, FIRST)

        found = call("verify", storage, "--remove", "--json")

        values = result(found)
        assert (values["status"], values["removed"]) == ("verified", [FIRST])
        assert "read 2 stores, 0.01 MB; removed 1 store that was damaged\n" in found.stderr
        assert keys(storage) == [SECOND]

    def test_one_in_use_is_not_removed_although_damaged(self, storage: Path) -> None:
        damage(storage, FIRST)

        with in_use(root_of(storage), FIRST):
            found = call("verify", storage, "--remove")

        assert found.exit_code == 1
        assert "it was not removed, since it is in use by process " in found.stderr
        assert keys(storage) == [FIRST, SECOND]
