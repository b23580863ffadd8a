"""A place that cannot hold runs is refused, with the way out."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from rayft.errors import DataError, Problem
from rayft.storage import client
from rayft.storage.check import check_storage
from rayft.storage.location import Location
from tests.unit.storage.proxy import Deed, Proxy, proxy_before_s3


@pytest.fixture
def folder(bucket: Location) -> Location:
    """An empty folder of the bucket."""
    return bucket / uuid4().hex


@pytest.fixture
def proxy(bucket: Location) -> Iterator[Proxy]:
    with proxy_before_s3() as found:
        yield found


def _refusal(place: Location) -> Problem:
    with pytest.raises(DataError) as caught:
        check_storage(place, setting="storage_path")
    (problem,) = caught.value.problems
    assert problem.where == "storage_path"
    assert "\n" not in str(problem.what)
    return problem


class TestFolders:
    def test_one_that_is_not_there_yet_will_do_and_is_not_made(self, tmp_path: Path) -> None:
        check_storage(Location(str(tmp_path / "new" / "runs")), setting="storage_path")

        assert list(tmp_path.iterdir()) == []

    def test_one_below_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")

        problem = _refusal(Location(str(tmp_path / "file" / "runs")))

        assert str(tmp_path / "file") in problem.what

    @pytest.mark.parametrize("inner", ["", "runs/new"])
    def test_one_that_is_closed_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str
    ) -> None:
        # Root may write everywhere, so the answer of the system is given in its place.
        def access(path: Path, mode: int) -> bool:
            return Path(path) in tmp_path.parents or (Path(path) == tmp_path and mode == os.F_OK)

        monkeypatch.setattr(os, "access", access)

        problem = _refusal(Location(str(tmp_path / inner)))

        assert problem.what == f"no permission to write to {tmp_path}"
        assert problem.fix == "choose another storage_path, or change the permission"


class TestObjectStores:
    def test_a_good_one_is_left_as_it_was(self, folder: Location) -> None:
        (folder / "file").write_bytes(b"1")

        check_storage(folder, setting="storage_path")
        check_storage(folder.parent, setting="storage_path")

        assert folder.children() == ["file"]
        assert not [name for name in folder.parent.children() if name.startswith(".probe")]

    def test_a_missing_bucket_is_named_with_how_to_make_it(self, bucket: Location) -> None:
        problem = _refusal(Location("s3://no-such-bucket/runs"))

        assert "there is no bucket s3://no-such-bucket" in problem.what
        assert "`aws s3 mb s3://no-such-bucket`" in problem.fix
        assert "`aws s3 ls s3://no-such-bucket`" in problem.fix

    def test_missing_credentials_are_told_with_how_to_test_them(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(client, "RETRY_S", 0.2)

        problem = _refusal(folder)

        assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in problem.what
        assert "role of the machine" in problem.what
        assert "~/.aws is not read" in problem.what
        assert "aws configure export-credentials" in problem.fix
        assert "`aws sts get-caller-identity`" in problem.fix

    @pytest.mark.parametrize("method", ["PUT", "GET", "POST"])
    def test_every_right_that_is_needed_is_tried(
        self, folder: Location, proxy: Proxy, method: str
    ) -> None:
        def decide(asked: str, path: str) -> Deed:
            proxy.answer = (403, b"<Error><Code>AccessDenied</Code></Error>")
            if asked != method:
                proxy.answer = None
            return "pass"

        proxy.deed = decide

        problem = _refusal(folder)

        assert "refused the access: AccessDenied" in problem.what
        assert "s3:PutObject, s3:GetObject, s3:DeleteObject and s3:ListBucket" in problem.fix

    def test_the_right_to_list_is_tried(self, folder: Location, proxy: Proxy) -> None:
        def decide(asked: str, path: str) -> Deed:
            listing = "list-type" in path
            proxy.answer = (403, b"<Error><Code>AccessDenied</Code></Error>") if listing else None
            return "pass"

        proxy.deed = decide

        assert "refused the access" in _refusal(folder).what

    def test_a_wrong_region_is_told(self, folder: Location, proxy: Proxy) -> None:
        proxy.answer = (301, b"<Error><Code>PermanentRedirect</Code></Error>")

        problem = _refusal(folder)

        assert "another region (AWS_REGION is us-east-1)" in problem.what
        assert "get-bucket-location --bucket rayft-test" in problem.fix

    def test_a_store_out_of_reach_is_told_in_time(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        begun = time.monotonic()

        problem = _refusal(folder)

        assert "cannot be reached: Connection refused" in problem.what
        assert "AWS_ENDPOINT_URL" in problem.fix
        assert time.monotonic() - begun < 10

    @pytest.mark.parametrize(
        "ignored", [("if-none-match",), ("if-match",), ("if-none-match", "if-match")]
    )
    def test_a_store_that_ignores_conditions_is_refused(
        self, folder: Location, proxy: Proxy, ignored: tuple[str, ...]
    ) -> None:
        proxy.strip = ignored

        problem = _refusal(folder)

        assert "ignores the conditions of puts" in problem.what
        assert "overwrite each other's checkpoints" in problem.what
        assert "half-written" in problem.what
        assert folder.children() == []

    def test_a_store_that_knows_no_conditions_is_refused(
        self, folder: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        proxy.answer = (501, b"<Error><Code>NotImplemented</Code></Error>")

        assert "ignores the conditions of puts" in _refusal(folder).what
