"""What can happen on a disk and not in an object store."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from rayft.storage.location import Changed, Location


@pytest.fixture
def folder(tmp_path: Path) -> Location:
    """An empty folder of this machine."""
    return Location(str(tmp_path))


class TestWriting:
    def test_it_is_on_the_disk_before_it_is_seen(
        self, folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "source").write_bytes(b"1")
        flushed: list[tuple[str, bool]] = []

        def fsync(descriptor: int) -> None:
            name = Path(f"/proc/self/fd/{descriptor}").readlink().name
            flushed.append((name, (tmp_path / "new" / "file").exists()))

        monkeypatch.setattr(os, "fsync", fsync)
        for write in (
            lambda file: file.write_bytes(b"1"),
            lambda file: file.create(b"1"),
            lambda file: file.upload(tmp_path / "source"),
            lambda file: (folder / "source").download(file.path),
        ):
            flushed.clear()
            write(folder / "new/file")

            assert flushed[0][0].startswith(".file.")
            assert not flushed[0][1]
            assert flushed[-1] == ("new", True)
            (tmp_path / "new" / "file").unlink()

    def test_a_full_disk_leaves_what_was_there(
        self, folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = folder / "file"
        file.write_bytes(b"old")
        version = file.read_versioned()[1]
        (tmp_path / "source").write_bytes(b"new")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        for write in (
            lambda: file.write_bytes(b"new"),
            lambda: file.replace(b"new", version=version),
            lambda: file.upload(tmp_path / "source"),
            lambda: (folder / "other").create(b"new"),
        ):
            with pytest.raises(OSError, match="No space"):
                write()

        assert file.read_bytes(version=version) == b"old"
        assert folder.children() == ["file", "source"]

    def test_a_disk_without_links_creates_once_too(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_links(self: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", no_links)

        made, ready = [], threading.Barrier(4)

        def create(content: bytes) -> None:
            ready.wait()
            if (folder / "file").create(content):
                made.append(content)

        threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [(folder / "file").read_bytes()] == made
        assert folder.children() == ["file"]


class TestVersions:
    def test_a_replaced_file_is_newer_whatever_the_clock_says(self, folder: Location) -> None:
        # Two writes of one tick would else have the same times, and could share an inode number.
        file = folder / "file"
        file.write_bytes(b"0")
        in_an_hour = time.time_ns() + 3600 * 10**9
        os.utime(file.path, ns=(in_an_hour, in_an_hour))

        assert file.replace(b"1", version=file.read_versioned()[1])
        assert file.replace(b"2", version=file.read_versioned()[1])

        assert file.path.stat().st_mtime_ns == in_an_hour + 2

    def test_content_changed_in_place_is_another_version(self, folder: Location) -> None:
        file = folder / "file"
        file.write_bytes(b"one")
        version = file.read_versioned()[1]
        state = file.path.stat()

        file.path.write_bytes(b"two")
        os.utime(file.path, ns=(state.st_atime_ns, state.st_mtime_ns))

        with pytest.raises(Changed):
            file.read_bytes(version=version)

    def test_an_opened_file_is_the_one_that_was_asked_for(self, folder: Location) -> None:
        file = folder / "file"
        file.write_bytes(b"one")

        with file.open(version=file.read_versioned()[1]) as opened:
            file.write_bytes(b"two")

            assert opened.read() == b"one"


class TestListing:
    def test_links_to_folders_are_not_followed(self, folder: Location, tmp_path: Path) -> None:
        (folder / "real/file").write_bytes(b"1")
        (tmp_path / "real" / "loop").symlink_to(tmp_path)
        (tmp_path / "folder-link").symlink_to("real")
        (tmp_path / "file-link").symlink_to("real/file")
        (tmp_path / ".hidden").write_bytes(b"22")

        found = [(entry.path, entry.size) for entry in folder.files()]

        assert found == [(".hidden", 2), ("file-link", 1), ("real/file", 1)]

    def test_a_link_to_nothing_is_listed_and_cannot_be_read(
        self, folder: Location, tmp_path: Path
    ) -> None:
        (tmp_path / "link").symlink_to("nowhere")

        assert [entry.path for entry in folder.files()] == ["link"]
        with pytest.raises(FileNotFoundError):
            (folder / "link").read_bytes()

    def test_what_is_no_file_is_not_listed(self, folder: Location, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")

        assert folder.files() == []
        assert not (folder / "pipe").exists()

    def test_a_linked_root_is_followed(self, folder: Location, tmp_path: Path) -> None:
        (folder / "real/file").write_bytes(b"1")
        (tmp_path / "link").symlink_to("real")

        assert [entry.path for entry in (folder / "link").files()] == ["file"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_a_closed_folder_is_told(self, folder: Location, tmp_path: Path) -> None:
        (tmp_path / "closed").mkdir(mode=0)

        with pytest.raises(PermissionError):
            folder.files()
        with pytest.raises(PermissionError):
            (folder / "closed").children()

    def test_a_listing_that_fails_is_told(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: str) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        monkeypatch.setattr(os, "scandir", refuse)

        with pytest.raises(PermissionError):
            folder.files()


class TestDeletion:
    def test_a_tree_that_cannot_be_deleted_is_told(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "tree/file").write_bytes(b"1")

        def refuse(path: str, **options: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        monkeypatch.setattr(os, "unlink", refuse)
        with pytest.raises(PermissionError):
            (folder / "tree").delete_tree()

    def test_two_may_delete_a_tree_at_once(self, folder: Location) -> None:
        for _ in range(5):
            for number in range(50):
                (folder / f"tree/{number}/file").path.parent.mkdir(parents=True)
                (folder / f"tree/{number}/file").path.write_bytes(b"1")
            threads = [threading.Thread(target=(folder / "tree").delete_tree) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert folder.children() == []


def test_there_is_no_file_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    below = Location(str(tmp_path / "file" / "below"))

    assert not below.exists()
    with pytest.raises(FileNotFoundError):
        below.read_bytes()
