"""The decision: when and where a job runs. No Prefect import anywhere below this package.

::

    outlook = look([TypicalDay()], zones, home_zone, now, policy.deadline(now))
    decision = plan(Request(workload, policy, fleet, outlook, now=now))
    print(decision.headline)
"""

from __future__ import annotations

from carbon._belief import Belief
from carbon._calendar import Blackout
from carbon._clock import Clock, ReplayClock, SystemClock
from carbon._decision import (
    Decision,
    Option,
    Placement,
    Refusal,
    Relaxation,
    Reservation,
    Rule,
)
from carbon._errors import (
    AuthError,
    BadInput,
    BadResponse,
    CarbonAwareError,
    DeadlinePassed,
    NoData,
    NoSignal,
    NotAsked,
    PlanDenied,
    ProviderError,
    RateLimited,
    ResidencyError,
    Transient,
    Unavailable,
    UnknownRegion,
    UnknownZone,
)
from carbon._findings import Fault, Finding
from carbon._fleet import CapacityHours, Fleet, Pool, PoolType
from carbon._look import look
from carbon._outlook import Outlook, Provenance, SignalSource
from carbon._planner import plan
from carbon._policy import CarbonPolicy, Strategy
from carbon._price_belief import PriceBelief
from carbon._refresh import refresh
from carbon._regions import Figure, Region, Source, region, regions
from carbon._replay import ReplaySource
from carbon._request import Request
from carbon._segment import Interruptible, Segment, SegmentRequest, Segments
from carbon._segments import segments
from carbon._series import Accounting, IntensitySeries, Kind, PriceSeries, Signal
from carbon._signals import Signals
from carbon._store import Store
from carbon._stored_source import Standing, StoredSource
from carbon._trust import Trust
from carbon._typical import TypicalDay
from carbon._workload import Hardware, Need, Stage, Urgency, Workload

__all__ = [
    "Accounting",
    "AuthError",
    "BadInput",
    "BadResponse",
    "Belief",
    "Blackout",
    "CapacityHours",
    "CarbonAwareError",
    "CarbonPolicy",
    "Clock",
    "DeadlinePassed",
    "Decision",
    "Fault",
    "Figure",
    "Finding",
    "Fleet",
    "Hardware",
    "IntensitySeries",
    "Interruptible",
    "Kind",
    "Need",
    "NoData",
    "NoSignal",
    "NotAsked",
    "Option",
    "Outlook",
    "Placement",
    "PlanDenied",
    "Pool",
    "PoolType",
    "PriceBelief",
    "PriceSeries",
    "Provenance",
    "ProviderError",
    "RateLimited",
    "Refusal",
    "Region",
    "Relaxation",
    "ReplayClock",
    "ReplaySource",
    "Request",
    "Reservation",
    "ResidencyError",
    "Rule",
    "Segment",
    "SegmentRequest",
    "Segments",
    "Signal",
    "SignalSource",
    "Signals",
    "Source",
    "Stage",
    "Standing",
    "Store",
    "StoredSource",
    "Strategy",
    "SystemClock",
    "Transient",
    "Trust",
    "TypicalDay",
    "Unavailable",
    "UnknownRegion",
    "UnknownZone",
    "Urgency",
    "Workload",
    "look",
    "plan",
    "refresh",
    "region",
    "regions",
    "segments",
]
