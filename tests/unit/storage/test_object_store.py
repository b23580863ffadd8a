"""What can happen in an object store and not on a disk."""

import datetime
import ipaddress
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from rayft.storage import client, faults
from rayft.storage.client import PART_BYTES
from rayft.storage.location import Changed, Location, StorageFault
from tests.s3 import s3_client
from tests.unit.storage.proxy import Deed, Proxy, proxy_before_s3

LARGE = os.urandom(1000) * 20_000


@pytest.fixture
def folder(bucket: Location) -> Location:
    """An empty folder of the bucket."""
    return bucket / uuid4().hex


@pytest.fixture
def proxy(bucket: Location) -> Iterator[Proxy]:
    with proxy_before_s3() as found:
        yield found


def _put(place: Location, suffix: str = "", content: bytes = b"") -> None:
    """Put an object under a name that rayft itself would not choose."""
    name = place.bucket.removeprefix("s3://")
    s3_client().put_object(Bucket=name, Key=place.key + suffix, Body=content)


def _only(method: str, deed: Deed, *, times: int) -> Callable[[str, str], Deed]:
    left = [deed] * times

    def decide(asked: str, path: str) -> Deed:
        return left.pop() if asked == method and left else "pass"

    return decide


class TestFolderMarks:
    def test_they_are_no_files(self, folder: Location) -> None:
        for name in ("", "empty", "full", "full/inner"):
            _put(folder / name if name else folder, suffix="/")
        _put(folder / "full/file", content=b"1")
        _put(folder / "really-empty")

        assert [entry.path for entry in folder.files()] == ["full/file", "really-empty"]
        assert folder.children() == ["empty", "full", "really-empty"]
        assert (folder / "full").children() == ["file", "inner"]
        assert not (folder / "empty").exists()

    def test_deleting_a_folder_spares_a_file_of_its_name(self, folder: Location) -> None:
        _put(folder / "name", content=b"a file")
        _put(folder / "name", suffix="/")
        _put(folder / "name/inner", content=b"1")

        (folder / "name").delete_tree()

        assert (folder / "name").read_bytes() == b"a file"
        assert (folder / "name").files() == []


class TestListing:
    def test_many_come_in_pages_and_go_in_pages(self, folder: Location) -> None:
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for number in range(1100):
            name = folder.bucket.removeprefix("s3://")
            backend.put_object(name, f"{folder.key}/{number:05d}", b"x")

        found = folder.files()

        assert [entry.path for entry in found] == [f"{number:05d}" for number in range(1100)]
        assert len(folder.children()) == 1100
        folder.delete_tree()
        assert folder.files() == []

    @pytest.mark.parametrize("name", ["a//b", "tab\there", "a/../b"])
    def test_a_name_that_is_no_path_is_told(self, folder: Location, name: str) -> None:
        _put(folder, suffix=f"/{name}", content=b"1")

        with pytest.raises(StorageFault, match="bad name") as caught:
            folder.files()

        assert caught.value.errno == faults.BAD_NAME
        s3_client().delete_object(
            Bucket=folder.bucket.removeprefix("s3://"), Key=f"{folder.key}/{name}"
        )

    def test_a_bucket_is_a_folder(self, folder: Location) -> None:
        bucket = folder.parent
        (folder / "file").write_bytes(b"1")

        assert folder.name in bucket.children()
        assert f"{folder.name}/file" in [entry.path for entry in bucket.files()]
        assert bucket.stat() is None
        for use in (bucket.read_bytes, bucket.delete, lambda: bucket.write_bytes(b"1")):
            with pytest.raises(IsADirectoryError):
                use()


class TestNoBucket:
    def test_it_is_not_taken_for_a_missing_file(self, bucket: Location, tmp_path: Path) -> None:
        file = Location("s3://no-such-bucket/folder/file")
        (tmp_path / "source").write_bytes(b"1")

        uses: list[Callable[[], object]] = [
            file.stat,
            file.exists,
            file.read_bytes,
            file.read_versioned,
            file.sha256,
            file.delete,
            file.children,
            file.files,
            file.delete_tree,
            lambda: file.write_bytes(b"1"),
            lambda: file.write_bytes(LARGE),
            lambda: file.create(b"1"),
            lambda: file.replace(b"1", version='"1"'),
            lambda: file.upload(tmp_path / "source"),
            lambda: file.download(tmp_path / "copy"),
            lambda: file.open().__enter__(),
        ]
        for use in uses:
            with pytest.raises(StorageFault) as caught:
                use()
            assert caught.value.errno == faults.NO_BUCKET
            assert caught.value.strerror == "there is no bucket s3://no-such-bucket"

    def test_it_is_looked_for_once(self, folder: Location, proxy: Proxy) -> None:
        for number in range(3):
            assert (folder / str(number)).stat() is None

        assert len([seen for seen in proxy.seen if seen.startswith("GET")]) == 1


class TestRefusals:
    ANSWER = (
        b"<Error><Code>%s</Code><Message>%s</Message><AWSAccessKeyId>key-of-the-test"
        b"</AWSAccessKeyId><StringToSign>AWS4 https://signed?X-Amz-Signature=1</StringToSign></Error>"
    )

    @pytest.mark.parametrize(
        ("status", "code", "cause"),
        [
            (403, b"AccessDenied", faults.REFUSED),
            (403, b"SignatureDoesNotMatch", faults.REFUSED),
            (400, b"ExpiredToken", faults.REFUSED),
            (401, b"Unauthorized", faults.REFUSED),
            (400, b"AuthorizationHeaderMalformed", faults.WRONG_REGION),
            (301, b"PermanentRedirect", faults.WRONG_REGION),
            (501, b"NotImplemented", faults.UNSUPPORTED),
            (400, b"InvalidRequest", faults.UNREACHABLE),
        ],
    )
    def test_they_are_told_in_one_line_without_secrets(
        self,
        folder: Location,
        proxy: Proxy,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        code: bytes,
        cause: int,
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        proxy.answer = (status, self.ANSWER % (code, b"Look at\n https://there?sig=1 first"))

        for use in (folder.read_bytes, folder.files, lambda: folder.create(b"1")):
            with pytest.raises(StorageFault) as caught:
                use()
            told = caught.value.strerror
            assert caught.value.errno == cause
            assert folder.bucket in told
            assert not any(text in told for text in ("\n", "<", "http", "key-of", "AWS4", "sig="))
            if cause == faults.REFUSED and status != 401:
                assert f"{code.decode()} (Look at the store first)" in told

    def test_a_deletion_that_is_refused_in_the_small_print_is_told(
        self, folder: Location, proxy: Proxy
    ) -> None:
        refusal = "<Error><Key>%s</Key><Code>AccessDenied</Code><Message>No</Message></Error>"
        answer = f"<DeleteResult>{refusal % folder.key}</DeleteResult>"
        proxy.answer = (200, answer.encode())

        with pytest.raises(StorageFault, match="refused the access: AccessDenied") as caught:
            folder.delete()

        assert caught.value.errno == faults.REFUSED

    def test_a_state_that_is_refused_is_no_missing_file(
        self, folder: Location, proxy: Proxy
    ) -> None:
        proxy.answer = (403, b"")

        with pytest.raises(StorageFault, match="refused the access: 403 Forbidden"):
            folder.exists()

    def test_without_credentials_it_is_told_where_they_were_looked_for(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
        monkeypatch.setattr(client, "RETRY_S", 0.5)
        begun = time.monotonic()

        with pytest.raises(StorageFault, match=r"no credentials .* AWS_ACCESS_KEY_ID") as caught:
            folder.files()

        assert caught.value.errno == faults.NO_CREDENTIALS
        assert time.monotonic() - begun < 10


class TestTransientFaults:
    def test_requests_are_tried_again(self, folder: Location, proxy: Proxy) -> None:
        (folder / "file").write_bytes(b"1")
        left = [(503, b"<Error><Code>SlowDown</Code></Error>")] * 2

        def decide(method: str, path: str) -> Deed:
            proxy.answer = left.pop() if left else None
            return "pass"

        proxy.deed = decide

        assert (folder / "file").read_bytes() == b"1"
        assert proxy.seen[-3:] == [proxy.seen[-1]] * 3

    @pytest.mark.parametrize("deed", ["refuse", "lose", "cut"])
    def test_a_connection_that_breaks_is_made_again(
        self, folder: Location, proxy: Proxy, tmp_path: Path, deed: Deed
    ) -> None:
        file = folder / "large"
        file.write_bytes(LARGE)

        proxy.deed = _only("GET", deed, times=2)
        file.download(tmp_path / "copy")
        proxy.deed = _only("GET", deed, times=1)
        content = file.read_bytes()
        proxy.deed = _only("GET", deed, times=1)
        with file.open() as opened:
            opened.seek(1000)
            piece = opened.read(2_000_000)

        assert (tmp_path / "copy").read_bytes() == content == LARGE
        assert piece == LARGE[1000:2_001_000]

    @pytest.mark.parametrize("deed", ["refuse", "lose"])
    def test_puts_are_tried_again(
        self, folder: Location, proxy: Proxy, tmp_path: Path, deed: Deed
    ) -> None:
        (tmp_path / "large").write_bytes(LARGE)

        proxy.deed = _only("PUT", deed, times=1)
        (folder / "small").write_bytes(b"1")
        proxy.deed = _only("PUT", deed, times=2)
        (folder / "large").upload(tmp_path / "large")

        assert (folder / "small").read_bytes() == b"1"
        assert (folder / "large").read_bytes() == LARGE

    @pytest.mark.parametrize("deed", ["refuse", "lose", "deny"])
    def test_a_condition_holds_though_the_answer_was_lost(
        self, folder: Location, proxy: Proxy, deed: Deed
    ) -> None:
        file = folder / "file"

        proxy.deed = _only("PUT", deed, times=2)
        assert file.create(b"one")
        assert not file.create(b"two")
        version = file.read_versioned()[1]
        proxy.deed = _only("PUT", deed, times=2)
        assert file.replace(b"three", version=version)
        assert not file.replace(b"four", version=version)

        assert file.read_bytes() == b"three"

    def test_a_conflict_of_conditions_is_tried_again(self, folder: Location, proxy: Proxy) -> None:
        left = [(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")]

        def decide(method: str, path: str) -> Deed:
            proxy.answer = left.pop() if left and method == "PUT" else None
            return "pass"

        proxy.deed = decide

        assert (folder / "file").create(b"1")
        assert (folder / "file").read_bytes() == b"1"

    def test_a_conflict_without_end_is_not_taken_for_an_object_of_another(
        self, folder: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.3)

        def decide(method: str, path: str) -> Deed:
            conflict = (409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
            proxy.answer = conflict if method == "PUT" else None
            return "pass"

        proxy.deed = decide

        with pytest.raises(StorageFault, match="ConditionalRequestConflict"):
            (folder / "file").create(b"1")

    def test_a_store_that_is_gone_is_given_up(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 1.0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        (tmp_path / "source").write_bytes(b"1")
        uses: list[Callable[[], object]] = [
            folder.stat,
            folder.files,
            lambda: folder.write_bytes(b"1"),
            lambda: folder.create(b"1"),
            lambda: folder.download(tmp_path / "copy"),
        ]

        for use in uses:
            begun = time.monotonic()
            with pytest.raises(StorageFault) as caught:
                use()
            assert caught.value.strerror == f"{folder.bucket} cannot be reached: Connection refused"
            assert time.monotonic() - begun < 8
        assert not (tmp_path / "copy").exists()

    def test_a_name_that_is_not_found_is_told(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://no-such-host.invalid")

        with pytest.raises(StorageFault, match=r"cannot be reached: .*(lookup|dns|resolve)"):
            folder.stat()

    def test_a_store_that_does_not_answer_is_given_up(
        self, folder: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 1.0)
        monkeypatch.setattr(client, "ANSWER_S", 0.5)
        proxy.delay_s = 3.0

        for use in (folder.stat, lambda: folder.create(b"1")):
            begun = time.monotonic()
            with pytest.raises(StorageFault, match="no answer in time"):
                use()
            assert time.monotonic() - begun < 6

    def test_a_slow_line_is_no_fault(
        self, folder: Location, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = folder / "file"
        file.write_bytes(LARGE[:1_000_000])
        monkeypatch.setattr(client, "ANSWER_S", 0.5)
        proxy.delay_s, proxy.bytes_per_read = 0.1, 100_000

        begun = time.monotonic()
        assert file.read_bytes() == LARGE[:1_000_000]
        file.download(tmp_path / "copy")

        assert time.monotonic() - begun > 1.0
        assert (tmp_path / "copy").stat().st_size == 1_000_000


class TestChange:
    def test_an_object_that_changes_while_it_is_copied_is_refused(
        self, folder: Location, proxy: Proxy, tmp_path: Path
    ) -> None:
        file = folder / "file"
        file.write_bytes(LARGE)

        def decide(method: str, path: str) -> Deed:
            if method == "GET":
                proxy.deed = lambda method, path: "pass"
                _put(file, content=LARGE[::-1])
            return "pass"

        proxy.deed = decide

        with pytest.raises(Changed):
            file.download(tmp_path / "copy")

        assert list(tmp_path.iterdir()) == []

    def test_an_open_file_stays_the_version_that_it_was(self, folder: Location) -> None:
        file = folder / "file"
        file.write_bytes(LARGE)

        with file.open() as opened:
            assert opened.read(10) == LARGE[:10]
            file.write_bytes(LARGE[::-1])
            opened.seek(PART_BYTES)
            with pytest.raises(Changed):
                opened.read(10)


class TestClient:
    def test_it_is_made_once_and_anew_for_other_settings(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = client.store_of(folder.bucket)

        assert client.store_of(folder.bucket) is first
        monkeypatch.setenv("AWS_SESSION_TOKEN", "another")
        assert client.store_of(folder.bucket) is not first

    def test_a_forked_process_is_told_and_does_not_hang(self, folder: Location) -> None:
        (folder / "file").write_bytes(b"1")
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                (folder / "file").read_bytes()
            except StorageFault as fault:
                os._exit(3 if "forked" in fault.strerror else 4)
            finally:
                os._exit(5)

        _, status = os.waitpid(child, 0)

        assert os.waitstatus_to_exitcode(status) == 3

    def test_plain_http_has_to_be_allowed(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        monkeypatch.delenv("AWS_ALLOW_HTTP")

        with pytest.raises(StorageFault):
            folder.files()

    def test_a_setting_that_makes_no_sense_is_told(
        self, folder: Location, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ALLOW_HTTP", "bananas")
        with pytest.raises(StorageFault, match="bananas"):
            folder.exists()

        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")
        with pytest.raises(StorageFault, match="AWS_CA_BUNDLE names /no/such/file"):
            folder.exists()

    def test_certificates_of_an_own_authority_are_trusted_when_named(
        self, folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client, "RETRY_S", 0.2)
        monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(tmp_path / "server.pem"))

        with proxy_before_s3(context):
            with pytest.raises(StorageFault, match=r"cannot be reached: .*UnknownIssuer"):
                folder.exists()
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "server.pem"))
            (folder / "file").write_bytes(b"1")
            monkeypatch.delenv("AWS_CA_BUNDLE")
            monkeypatch.setenv("AWS_ALLOW_INVALID_CERTIFICATES", "true")
            assert (folder / "file").read_bytes() == b"1"


def _certificate(file: Path) -> Path:
    """Write a key and a certificate for this machine that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rayft test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return file
