"""Requests per minute of each client address."""

import ipaddress
import math
import time

from kinema.serve.limits import RefusedError

# Clients that are remembered before those that may send a full minute's worth are forgotten.
_MOST_CLIENTS = 10_000


class Rates:
    """Token bucket per client: `per_minute` requests at once, and as many per minute after them.

    Args:
        per_minute: Requests of one client; 0 for no limit.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        # When the bucket of a client will be full again, in seconds of the monotonic clock.
        self._full_s: dict[str, float] = {}

    def check(self, client: str | None) -> None:
        """Counts a request.

        Raises:
            RefusedError: the client has sent too many (429).
        """
        if not self._per_minute:
            return
        now, name = time.monotonic(), client_of(client)
        if len(self._full_s) >= _MOST_CLIENTS:
            self._full_s = {other: full for other, full in self._full_s.items() if full > now}
        full_s = max(self._full_s.get(name, now), now) + 60 / self._per_minute
        # Rounded, because the sum of many small numbers is not exact.
        wait_s = round(full_s - now - 60, 6)
        if wait_s > 0:
            raise RefusedError(
                429,
                "too_many_per_minute",
                f"This client has sent more than {self._per_minute} requests in a minute, the "
                f"limit. Try again in {math.ceil(wait_s)} s.",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
        self._full_s[name] = full_s


def client_of(address: str | None) -> str:
    """Name of a client; one of IPv6 owns the 2^64 addresses of its network."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # gone already
        return "unknown"
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
