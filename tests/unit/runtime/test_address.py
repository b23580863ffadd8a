"""The address of a cluster is checked before Ray tries it for two minutes."""

import socket

import pytest

from rayft.errors import ClusterError
from rayft.runtime.address import check_address, named_cluster


@pytest.mark.parametrize("address", ["", "local"])
def test_some_addresses_name_no_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)

    assert named_cluster() is None


def test_no_address_names_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    assert named_cluster() is None


def test_an_address_names_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")

    assert named_cluster() == "auto"


def test_an_address_that_answers_passes_and_so_does_auto() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")
    check_address("auto")


@pytest.mark.parametrize(
    ("address", "what", "fix"),
    [
        ("http://127.0.0.1:8265", "a service for clients", "ray job submit"),
        ("ray://127.0.0.1:10001", "a service for clients", "ray job submit"),
        ("head", "head is no address", "HOST:PORT"),
        ("head:gcs", "head:gcs is no address", "HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1", "unset it"),
    ],
)
def test_an_address_of_something_else_is_refused(address: str, what: str, fix: str) -> None:
    with pytest.raises(ClusterError) as caught:
        check_address(address)

    (problem,) = caught.value.problems
    assert problem.where == "RAY_ADDRESS"
    assert what in problem.what
    assert fix in problem.fix
