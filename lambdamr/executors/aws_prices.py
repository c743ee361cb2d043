"""What AWS asks for an invocation, by region.

On-demand list prices in USD without free tiers, volume discounts, data transfer, logs and storage:
AWS Lambda, Amazon S3 (Standard) and Amazon SQS pricing pages, as of 2026-01.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lambdamr.runtimes.envelope import Meter

AS_OF = "2026-01"


@dataclass(frozen=True, slots=True)
class Prices:
    """USD, for one unit each. The defaults are those of us-east-1."""

    gb_second: Mapping[str, float] = field(
        default_factory=lambda: {"x86_64": 0.0000166667, "arm64": 0.0000133334}
    )
    request: float = 0.20e-6
    put: float = 5.0e-6  # S3 PUT and LIST
    get: float = 0.4e-6  # S3 GET and HEAD
    message: float = 0.4e-6  # SQS

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
"""For regions that are not in the table: no region that we know asks for more."""


def prices(region: str) -> Prices:
    """The prices of a region; those of a dear one if we do not know it."""
    return BY_REGION.get(region, DEAREST)
