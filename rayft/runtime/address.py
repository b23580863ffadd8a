"""Which cluster is meant: the one that `RAY_ADDRESS` names, or one of rayft's own."""

import os
import socket

from rayft.errors import ClusterError, Problem

_WAIT_S = 10.0
_OWN = ("", "local")


def named_cluster() -> str | None:
    """Return the address of the cluster that the environment names, or None where it names none."""
    address = os.environ.get("RAY_ADDRESS", "")
    return None if address in _OWN else address


def check_address(address: str) -> None:
    """Check that a driver can connect to a cluster there: Ray itself needs two minutes to say no.

    Raises:
        ClusterError: it is not the address of a head, or nothing answers there.
    """
    if "://" in address:
        raise _refused(
            f"{address} is the address of a service for clients, and a run needs a node of the "
            "cluster under it",
            "submit the command to it, ray job submit --address http://HEAD:8265 --working-dir . "
            "-- rayft train SPEC, or unset RAY_ADDRESS",
        )
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise _refused(f"{address} is no address", "use auto, or HOST:PORT of the head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_WAIT_S).close()
    except OSError as error:
        raise nothing_there(address, str(error)) from error


def nothing_there(address: str, reason: str) -> ClusterError:
    """Return the error for an address where no cluster answers."""
    return _refused(
        f"no Ray cluster answers at {address}: {reason}",
        "start one with ray start --head, correct RAY_ADDRESS, or unset it to use this machine",
    )


def _refused(what: str, fix: str) -> ClusterError:
    return ClusterError(Problem("RAY_ADDRESS", what, fix))
