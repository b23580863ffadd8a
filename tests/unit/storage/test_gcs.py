"""Google Cloud Storage, whose conditions are other than those of S3."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from rayft.errors import DataError
from rayft.storage import client, faults, lease
from rayft.storage.check import check_storage
from rayft.storage.location import Changed, FileEntry, Location, StorageFault
from rayft.storage.lock import locked
from tests.gcs import gcs_server


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Location]:
    with gcs_server(tmp_path_factory.mktemp("gcs")) as address:
        yield Location(address)


@pytest.fixture
def folder(bucket: Location) -> Location:
    """An empty folder of the bucket."""
    return bucket / uuid4().hex


def test_what_is_written_is_read_and_listed(folder: Location, tmp_path: Path) -> None:
    file = folder / "a b%20#é/file"
    (tmp_path / "source").write_bytes(b"content")

    file.upload(tmp_path / "source")
    file.download(tmp_path / "copy")

    content, version = file.read_versioned()
    assert content == (tmp_path / "copy").read_bytes() == b"content"
    assert folder.files() == [FileEntry("a b%20#é/file", 7, version)]
    assert folder.children() == ["a b%20#é"]
    with file.open(version=version) as opened:
        opened.seek(3)
        assert opened.read(2) == b"te"
    folder.delete_tree()
    assert folder.files() == []
    file.delete()


def test_only_the_first_creates(folder: Location) -> None:
    assert (folder / "file").create(b"one")
    assert not (folder / "file").create(b"two")

    assert (folder / "file").read_bytes() == b"one"


def test_versions_are_those_of_a_listing_and_are_compared(folder: Location) -> None:
    file = folder / "file"
    file.write_bytes(b"one")
    (entry,) = folder.files()

    assert file.replace(b"two", version=entry.version)
    assert not file.replace(b"three", version=entry.version)
    with pytest.raises(Changed):
        file.read_bytes(version=entry.version)

    assert file.read_bytes(version=file.read_versioned()[1]) == b"two"
    assert not (folder / "missing").replace(b"1", version=entry.version)


def test_no_step_of_many_writers_is_lost(folder: Location) -> None:
    file = folder / "count"
    file.write_bytes(b"0")

    def count(_: int) -> None:
        while True:
            content, version = file.read_versioned()
            if file.replace(str(int(content) + 1).encode(), version=version):
                return

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(20)))

    assert file.read_bytes() == b"20"


def test_two_may_delete_a_tree_at_once(folder: Location) -> None:
    for number in range(40):
        (folder / f"tree/{number}").write_bytes(b"1")

    with ThreadPoolExecutor(3) as threads:
        for deletion in [threads.submit((folder / "tree").delete_tree) for _ in range(3)]:
            deletion.result()

    assert folder.files() == []


def test_a_missing_bucket_is_told(bucket: Location) -> None:
    place = Location("gs://no-such-bucket/file")

    for use in (place.stat, place.read_bytes, place.files, lambda: place.create(b"1")):
        with pytest.raises(StorageFault, match="there is no bucket gs://no-such-bucket"):
            use()
    with pytest.raises(DataError, match="gcloud storage buckets create gs://no-such-bucket"):
        check_storage(place, setting="storage_path")


def test_a_good_bucket_passes_the_check(folder: Location) -> None:
    check_storage(folder, setting="storage_path")

    assert folder.files() == []


def test_credentials_that_are_missing_are_told(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_SERVICE_ACCOUNT")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    monkeypatch.setattr(client, "RETRY_S", 0.2)

    with pytest.raises(StorageFault, match="no credentials") as caught:
        folder.files()

    assert caught.value.errno == faults.NO_CREDENTIALS
    assert "GOOGLE_APPLICATION_CREDENTIALS" in caught.value.strerror


def test_of_many_at_once_one_holds_a_lock(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.1)
    monkeypatch.setattr(lease, "LOOK_S", 0.02)
    inside: list[int] = []
    ready = threading.Barrier(4)

    def enter(number: int) -> None:
        ready.wait()
        with locked(folder / "lock", holder=str(number), wait=True) as held:
            inside.append(number)
            assert inside == [number]
            ready_to_leave = threading.Event()
            ready_to_leave.wait(0.3)
            held.check()
            inside.remove(number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(enter, range(4)))
