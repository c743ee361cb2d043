"""What AWS asks for an invocation, by region.

On-demand list prices in USD, without free tiers, volume discounts, data transfer, logs and storage.
Checked in 2026-11 against what others quote of AWS's pages, the newest of it of 2026-09:

- Lambda: 0.0000166667 a GB-second on x86_64, 0.0000133334 on arm64, 0.20 a million requests, in
  all regions but af-south-1, ap-east-1, eu-south-1, me-south-1 and me-central-1 (the table that
  artillery 2.0.28 takes from aws.amazon.com/lambda/pricing). The INIT phase is billed since
  2025-08-01 (AWS Compute blog, 2025-04-29).
- S3 Standard: quotations of AWS's price list for us-east-1 (2025-10), eu-central-1 (2026-08-31),
  sa-east-1 (2026-09-26), ap-southeast-2 (2026-09-10), ap-northeast-1, ca-central-1, eu-west-2 and
  eu-west-3; of ap-northeast-2 the PUT only. The others in the table are not verified.
- SQS: 0.40 a million requests (us-west-1, ap-northeast-1, eu-west-2: price list, 2026-09).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lambdamr.errors import InputError
from lambdamr.runtimes.envelope import Meter

AS_OF = "2026-09"
"""Of the newest price that was checked."""

CHUNK = 64 << 10
"""Bytes of a message, or of an event past its first 256 KiB, that SQS and Lambda bill as a request:
from memory of their pricing pages; not found again."""


UNKNOWN: Meter = {
    "seconds": 0.0,
    "init": 0.0,
    "memory": 1769,  # MiB: one vCPU
    "arch": "x86_64",
    "puts": 0,
    "gets": 0,
}
"""Of a function that has not answered yet."""


@dataclass(frozen=True, slots=True)
class Prices:
    """USD, for one unit each. The defaults are those of us-east-1."""

    gb_second: Mapping[str, float] = field(
        default_factory=lambda: {"x86_64": 0.0000166667, "arm64": 0.0000133334}
    )
    request: float = 0.20e-6
    put: float = 5.0e-6  # S3 PUT and LIST
    get: float = 0.4e-6  # S3 GET and HEAD
    message: float = 0.4e-6  # SQS, for each 64 KiB

    def __post_init__(self) -> None:
        if missing := {"x86_64", "arm64"} - set(self.gb_second):
            raise InputError(
                f"gb_second must have a price for {' and '.join(sorted(missing))}, too"
            )

    def of(self, meter: Meter) -> float:
        """What an invocation costs: its duration is rounded up to the millisecond."""
        seconds = math.ceil(1000 * (meter["seconds"] + meter["init"])) / 1000
        rate = self.gb_second[meter["arch"]]
        return (
            self.request
            + seconds * meter["memory"] / 1024 * rate
            + meter["puts"] * self.put
            + meter["gets"] * self.get
        )

    def of_event(self, size: int) -> float:
        """What an asynchronous payload costs beside the invocation: 256 KiB of it nothing."""
        return max(0, math.ceil((size - 4 * CHUNK) / CHUNK)) * self.request


def _prices(x86: float, arm: float, requests: float, put: float, get: float) -> Prices:
    """From prices by GB-second, by million requests, and by thousand S3 requests."""
    return Prices({"x86_64": x86, "arm64": arm}, requests / 1e6, put / 1e3, get / 1e3)


_EVERYWHERE = (0.0000166667, 0.0000133334, 0.20)

BY_REGION: dict[str, Prices] = {
    "us-east-1": Prices(),
    "us-east-2": Prices(),
    "us-west-2": Prices(),
    "us-west-1": _prices(*_EVERYWHERE, 0.0055, 0.00044),
    "ca-central-1": _prices(*_EVERYWHERE, 0.0055, 0.00044),
    "eu-west-1": Prices(),
    "eu-north-1": Prices(),
    "eu-west-2": _prices(*_EVERYWHERE, 0.0053, 0.00042),
    "eu-west-3": _prices(*_EVERYWHERE, 0.0053, 0.00042),
    "eu-central-1": _prices(*_EVERYWHERE, 0.0054, 0.00043),
    "ap-south-1": Prices(),
    "ap-southeast-1": Prices(),
    "ap-southeast-2": _prices(*_EVERYWHERE, 0.0055, 0.00044),
    "ap-northeast-1": _prices(*_EVERYWHERE, 0.0047, 0.00037),
    "ap-northeast-2": _prices(*_EVERYWHERE, 0.0045, 0.00035),
    "sa-east-1": _prices(*_EVERYWHERE, 0.0070, 0.00056),
}

DEAREST = _prices(0.0000229200, 0.0000183360, 0.28, 0.0070, 0.00056)
"""For regions that are not in the table: Lambda as in ap-east-1, S3 as in sa-east-1, the dearest of
those above."""


def prices(region: str) -> Prices:
    """The prices of a region; those of a dear one if we do not know it."""
    return BY_REGION.get(region, DEAREST)
