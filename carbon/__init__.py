"""The decision: when and where a job runs. No Prefect import anywhere below this package.

::

    outlook = look([TypicalDay()], zones, home_zone, now, deadline)
    decision = plan(Request(workload, policy, fleet, outlook, now=now, deadline=deadline))
    print(decision.headline)
"""

from __future__ import annotations

from carbon._clock import Clock, ReplayClock, SystemClock
from carbon._decision import Decision, Option, Placement, Refusal, Reservation, Rule
from carbon._errors import (
    BadInput,
    CarbonAwareError,
    DeadlinePassed,
    NoSignal,
    ResidencyError,
    Unavailable,
    UnknownRegion,
    UnknownZone,
)
from carbon._fleet import Fleet, Pool, PoolType
from carbon._look import look
from carbon._outlook import Outlook, Provenance, SignalSource
from carbon._planner import plan
from carbon._policy import CarbonPolicy, Strategy
from carbon._regions import Figure, Region, Source, region, regions
from carbon._replay import ReplaySource
from carbon._request import Request
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal
from carbon._typical import TypicalDay
from carbon._workload import Hardware, Need, Stage, Urgency, Workload

__all__ = [
    "Accounting",
    "BadInput",
    "CarbonAwareError",
    "CarbonPolicy",
    "Clock",
    "DeadlinePassed",
    "Decision",
    "Figure",
    "Fleet",
    "Hardware",
    "IntensitySeries",
    "Kind",
    "Need",
    "NoSignal",
    "Option",
    "Outlook",
    "Placement",
    "Pool",
    "PoolType",
    "PriceSeries",
    "Provenance",
    "Refusal",
    "Region",
    "ReplayClock",
    "ReplaySource",
    "Request",
    "Reservation",
    "ResidencyError",
    "Rule",
    "Signal",
    "SignalSource",
    "Source",
    "Stage",
    "Strategy",
    "SystemClock",
    "TypicalDay",
    "Unavailable",
    "UnknownRegion",
    "UnknownZone",
    "Urgency",
    "Workload",
    "look",
    "plan",
    "region",
    "regions",
]
