"""A store of activations is complete or invisible, and what was finished is kept."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rayft.errors import CacheError, DataError
from rayft.storage import lease
from rayft.storage.location import Location
from rayft.store import shards
from rayft.store.activation_list import list_stores
from rayft.store.activation_use import building_place_of, in_use, place_of
from rayft.store.activations import ActivationStore
from rayft.store.cache import ShardCache
from rayft.store.manifest import MANIFEST_NAME
from tests.unit.store.building import NUM_ROWS, Making, build, build_once, rows_at

CAN_MOUNT = subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0
needs_mounts = pytest.mark.skipif(not CAN_MOUNT, reason="unshare -rm needs more rights")


@pytest.fixture(autouse=True)
def _short_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_ROWS_PER_SHARD", 6)


@pytest.fixture
def root(place: Location) -> Location:
    return place / "storage/.stores"


def contents(folder: Location) -> dict[str, bytes]:
    return {entry.path: (folder / entry.path).read_bytes() for entry in folder.files()}


def child(code: str, *, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with shards of 6 rows."""
    lines = "from rayft.store import shards; shards.MAX_ROWS_PER_SHARD = 6\n"
    words = [sys.executable, "-c", lines + textwrap.dedent(code)]
    if before:
        words = ["unshare", "-rm", "sh", "-c", f'{before} && exec "$@"', "sh", *words]
    return subprocess.run(words, check=False, capture_output=True, text=True, env={**os.environ})


def test_a_built_store_gives_its_rows_and_is_built_once(root: Location, tmp_path: Path) -> None:
    cache = ShardCache(folder=tmp_path / "cache", budget=10**9)

    with in_use(root, "abc") as use:
        first = build(use)
        again = build(use, making=(idle := Making()))
        store = ActivationStore.open(use.place, cache)
        rows = store.gather([19, 0, 7])

    assert np.array_equal(rows, rows_at("abc", 0, NUM_ROWS)[[19, 0, 7]])
    assert (first.rows_made, first.rows_reused) == (20, 0)
    assert (again.rows_made, again.rows_reused, idle.made) == (0, 20, [])
    assert [name for name in use.place.children() if not name.startswith("shard")] == [
        MANIFEST_NAME
    ]
    assert len(use.place.children()) == 5
    assert store.manifest.about["cut"] == "layer3"
    store.verify()


def test_a_build_that_fails_leaves_nothing_visible_and_the_next_goes_on(root: Location) -> None:
    def fail(index: int) -> None:
        if index == 1:
            raise DataError

    with in_use(root, "abc") as use:
        with pytest.raises(DataError):
            build(use, making=Making(before=fail))
        assert not (use.place / MANIFEST_NAME).exists()
        with pytest.raises(DataError):
            ActivationStore.open(use.place)
        built = build(use, making=(making := Making()))

    assert making.made == [1, 0]
    assert (built.rows_made, built.rows_reused) == (12, 8)
    assert contents(use.place) == contents(build_once(root / "clean", "abc"))


def test_two_that_want_the_same_store_build_it_once(tmp_path: Path) -> None:
    root = Location(str(tmp_path / "stores"))
    meet = threading.Barrier(3)

    def one(_: int) -> tuple[int, int]:
        with in_use(root, "abc") as use:
            meet.wait()
            built = build(use)
            return built.rows_made, built.rows_reused

    with ThreadPoolExecutor(3) as threads:
        found = sorted(threads.map(one, range(3)))

    assert found == [(0, 20), (0, 20), (20, 0)]


def test_two_processes_that_want_the_same_store_build_it_once(tmp_path: Path) -> None:
    root = Location(str(tmp_path / "stores"))
    code = f"""
        from rayft.storage.location import Location
        from rayft.store.activation_use import in_use
        from tests.unit.store.building import build

        with in_use(Location({root.url!r}), "abc") as use:
            print(build(use).rows_made)
    """
    with ThreadPoolExecutor(2) as threads:
        found = [done.stdout for done in threads.map(child, [code, code])]

    assert sorted(found) == ["0\n", "20\n"]


def test_a_build_that_lost_its_lock_commits_nothing(
    bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.1)
    root = bucket / "lost/.stores"

    def lose(index: int) -> None:
        if index == 0:
            (root / "locks/activations-abc.lock").write_bytes(b"{}")
            # The next renewal finds it.
            time.sleep(0.5)

    with (
        in_use(root, "abc") as use,
        pytest.raises(CacheError, match="was lost to another process"),
    ):
        build(use, making=Making(before=lose))

    (left,) = list_stores(root)
    assert left.state == "unfinished"


KILLS = {
    "between shards": "making.before = lambda index: die() if index == 1 else None",
    "in the middle of a shard": """
        def fsync(descriptor):
            if "shard-00001.arrow." in os.readlink(f"/proc/self/fd/{descriptor}"):
                die()
            real(descriptor)
        real, os.fsync = os.fsync, fsync
    """,
    "before its record": """
        activation_work.asdict = lambda record: die() if record.rows == 2 else asdict(record)
    """,
    "before the commit": "activation_build.commit_directory = lambda *_: die()",
    "after the commit": "Location.delete = lambda place: die()",
}


@pytest.mark.parametrize(
    ("when", "kept"),
    [
        ("between shards", 8),
        ("in the middle of a shard", 8),
        ("before its record", 0),
        ("before the commit", 20),
        ("after the commit", 20),
    ],
)
def test_a_killed_build_is_invisible_or_complete_and_its_shards_are_kept(
    tmp_path: Path, when: str, kept: int
) -> None:
    root = Location(str(tmp_path / "stores"))
    code = f"""
        import os, signal
        from dataclasses import asdict
        from rayft.storage.location import Location
        from rayft.store import activation_build, activation_work
        from rayft.store.activation_use import in_use
        from tests.unit.store.building import Making, build

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        making = Making()
        {textwrap.indent(textwrap.dedent(KILLS[when]), " " * 8).strip()}
        with in_use(Location({root.url!r}), "abc") as use:
            build(use, making=making)
    """
    killed = child(code)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (left,) = list_stores(root)
    assert left.state == ("whole" if when == "after the commit" else "unfinished")
    assert place_of(root, "abc").path.exists() == (when == "after the commit")
    assert left.about["backbone"] == "torchvision/resnet18"

    with in_use(root, "abc") as use:
        built = build(use)

    assert built.rows_reused == kept
    found = contents(use.place)
    clean = contents(build_once(root / "clean", "abc"))
    assert {name: found[name] for name in clean} == clean


def test_a_build_killed_in_an_object_store_goes_on(bucket: Location) -> None:
    root = bucket / "killed/.stores"
    code = f"""
        import os, signal
        from rayft.storage import lease
        from rayft.storage.location import Location
        from rayft.store.activation_use import in_use
        from tests.unit.store.building import Making, build

        lease.EXPIRES_S = 1.0
        def die(index):
            if index == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        with in_use(Location({root.url!r}), "abc") as use:
            build(use, making=Making(before=die))
    """
    killed = child(code)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (place_of(root, "abc") / MANIFEST_NAME).exists()

    with in_use(root, "abc") as use:
        built = build(use)

    assert (built.rows_made, built.rows_reused) == (12, 8)


def _stopped(root: Location) -> Location:
    """Leave shards 1 to 3 of 4."""

    def fail(index: int) -> None:
        if index == 0:
            raise DataError

    with in_use(root, "abc") as use, pytest.raises(DataError):
        build(use, making=Making(before=fail))
    return building_place_of(root, "abc")


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "no record", "bad record"])
def test_a_shard_that_is_not_as_it_was_finished_is_made_again(tmp_path: Path, damage: str) -> None:
    root = Location(str(tmp_path / "stores"))
    shard = _stopped(root).path / "shard-00002.arrow"
    record = shard.with_name("shard-00002.arrow.json")
    content = bytearray(shard.read_bytes())
    match damage:
        case "changed":
            content[len(content) // 2] ^= 1
            shard.write_bytes(content)
        case "cut":
            shard.write_bytes(content[:100])
        case "missing":
            shard.unlink()
        case "no record":
            record.unlink()
        case _:
            record.write_text("{")

    with in_use(root, "abc") as use:
        built = build(use, making=(making := Making()))

    assert making.made == [2, 0]
    assert built.rows_reused == 8
    assert contents(use.place) == contents(build_once(root / "clean", "abc"))


def test_what_was_left_of_another_layout_is_not_used(root: Location) -> None:
    _stopped(root)

    with in_use(root, "abc") as use:
        built = build(use, num_rows=19)

    assert (built.rows_made, built.rows_reused) == (19, 0)


def _damage(place: Location, damage: str) -> None:
    shard = place / "shard-00001.arrow"
    match damage:
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-8])
        case "missing":
            shard.delete()
        case "manifest":
            (place / MANIFEST_NAME).write_bytes(b"{}")
        case _:
            (place / MANIFEST_NAME).delete()


@pytest.mark.parametrize("damage", ["cut", "missing", "manifest", "no manifest"])
def test_a_damaged_store_is_built_anew(root: Location, damage: str) -> None:
    place = build_once(root, "abc")
    whole = contents(place)
    _damage(place, damage)

    with in_use(root, "abc") as use:
        built = build(use)

    assert built.rows_made == NUM_ROWS
    assert contents(place) == whole


def test_a_damaged_store_that_another_uses_stays(tmp_path: Path) -> None:
    root = Location(str(tmp_path / "stores"))
    place = build_once(root, "abc")
    _damage(place, "cut")

    with (
        in_use(root, "abc"),
        in_use(root, "abc") as use,
        pytest.raises(CacheError, match=rf"damaged, and used by process {os.getpid()}"),
    ):
        build(use)

    assert (place / MANIFEST_NAME).exists()


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder to mount a small disk on, in another process."""
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


@needs_mounts
def test_a_full_disk_ends_with_one_error_and_nothing_is_corrupt(mounted: Path) -> None:
    code = f"""
        from pathlib import Path
        from rayft.errors import CacheError
        from rayft.storage.location import Location
        from rayft.store.activation_list import list_stores
        from rayft.store.activation_room import remove_stores
        from rayft.store.activation_use import in_use
        from tests.unit.store.building import Making, build

        shards.MAX_ROWS_PER_SHARD = 4000
        disk = Path({str(mounted)!r})
        root = Location(str(disk / "storage/.stores"))

        def others_fill(index):
            # What others write meanwhile leaves room for two shards and a half.
            if index == 1:
                disk.joinpath("others").write_bytes(b"x" * (4 * 2**20 - 192_000 * 5 // 2 - 50_000))

        with in_use(root, "abc") as use:
            try:
                build(use, making=Making(before=others_fill), num_rows=12_000)
            except CacheError as error:
                print(error)
                print(error.exit_code, len(error.problems))
        (left,) = list_stores(root)
        print(left.state, left.stored_bytes > 2 * 192_000, left.expected_bytes)
        disk.joinpath("others").unlink()
        with in_use(root, "abc") as use:
            print(build(use, num_rows=12_000).rows_reused)
        print(remove_stores(root, ["abc"]), [*Path(root.url, "activations").glob("*abc*")])
        for key in ("d1", "e2"):
            with in_use(root, key) as use:
                print(build(use, num_rows=50_000).removed)
        with in_use(root, "abc") as use:
            try:
                build(use, num_rows=120_000)
            except CacheError as error:
                print(error)
    """
    found = child(code, before=f"mount -t tmpfs -o size=4m none {mounted}")

    assert found.returncode == 0, found.stderr
    refusal, fix, *lines = found.stdout.splitlines()
    assert refusal.endswith("activations cannot be kept here: No space left on device")
    assert "free space there" in fix
    assert lines[:4] == ["2 1", "unfinished True 576000", "8000", "{} []"]
    assert lines[4:6] == ["()", "('d1',)"]
    assert "too large for the free space of the disk, beside the stores in use" in lines[6]


@needs_mounts
def test_a_folder_that_cannot_be_written_is_refused_as_a_cache(mounted: Path) -> None:
    code = f"""
        import subprocess
        from rayft.errors import CacheError
        from rayft.storage.location import Location
        from rayft.cli.main import app
        from rayft.store.activation_room import remove_stores
        from rayft.store.activation_use import in_use, uses_of
        from tests.unit.store.building import build_once

        root = Location({str(mounted / "storage/.stores")!r})
        build_once(root, "abc")
        (uses_of(root, "abc") / "left.lock").write_bytes(b"process 7")
        subprocess.run(["mount", "-o", "remount,ro", {str(mounted)!r}], check=True)
        def use():
            with in_use(root, "abc"):
                print("it can be used")

        for attempt in (use, lambda: remove_stores(root, ["abc"])):
            try:
                attempt()
            except CacheError as error:
                print(error.problems[0].what)
        app(["cache", "ls", {str(mounted / "storage")!r}])
    """
    found = child(code, before=f"mount -t tmpfs none {mounted}")

    refused = "activations cannot be kept here: Read-only file system"
    first, second, _, listed, *_ = found.stdout.splitlines()
    assert (first, second) == (refused, refused), found.stderr
    assert listed.startswith("abc  ")
    assert listed.endswith("who uses it cannot be told")
