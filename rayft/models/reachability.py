"""Ask whether a download could start, without waiting long for the answer."""

import http.client
import threading
import urllib.error
import urllib.request


def why_unreachable(url: str, *, timeout_s: float) -> str | None:
    """Return why the file at `url` cannot be had, or None when its server offers it.

    Proxies from the environment are used. The question runs in a thread that is left alone after
    `timeout_s`, because looking up a host name has no time limit of its own.
    """
    answer: list[str | None] = []
    asking = threading.Thread(
        target=lambda: answer.append(_ask(url, timeout_s)), name="reachability", daemon=True
    )
    asking.start()
    asking.join(timeout_s)
    return answer[0] if answer else f"no answer within {timeout_s:g} s"


def _ask(url: str, timeout_s: float) -> str | None:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  the libraries' https URLs
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return str(error)
    except (OSError, http.client.HTTPException) as error:
        return str(error)
