"""Errors of the trigger on Prefect, below :class:`carbon.CarbonAwareError`.

::

    CarbonAwareError
    ├── StageFailed         a dispatched stage ended in anything but Completed
    ├── NotDeployed         a deployment that should exist does not
    └── PrefectUnavailable  the Prefect API did not answer
"""

from __future__ import annotations

import httpx

from carbon import CarbonAwareError, Unavailable


class StageFailed(CarbonAwareError):
    """A dispatched stage did not complete; the entry run fails with its name and reason.

    Args:
        stage: Name of the stage.
        pool: Pool that it ran in.
        run_name: Name of its flow run.
        state: Name of its last state, e.g. ``Crashed``.
        reason: Message of that state.
    """

    def __init__(self, stage: str, pool: str, run_name: str, state: str, reason: str) -> None:
        self.stage = stage
        self.pool = pool
        self.run_name = run_name
        self.state = state
        self.reason = reason
        super().__init__(
            f"Stage {stage!r} in pool {pool!r} ended as {state} (flow run {run_name!r}): "
            f"{reason or 'no reason was given'}"
        )


class NotDeployed(CarbonAwareError):
    """A deployment that the trigger needs is not on the Prefect server."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Deployment {name!r} does not exist. Run `carbon pools apply`, then "
            "`prefect deploy --all`."
        )


class PrefectUnavailable(Unavailable):
    """The Prefect API did not answer or refused the request."""

    @classmethod
    def of(cls, error: httpx.HTTPError) -> PrefectUnavailable:
        """Build the error for an API that did not answer, or not with what was asked for.

        Of the error only its kind is told: an address may hold a secret.
        """
        if not isinstance(error, httpx.HTTPStatusError):
            return cls(
                f"The Prefect API did not answer ({type(error).__name__}). Check PREFECT_API_URL "
                "and the server."
            )
        status = error.response.status_code
        if status == httpx.codes.NOT_FOUND and not error.request.url.path.startswith("/api"):
            return cls.other()
        denied = status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
        fix = "Check PREFECT_API_KEY." if denied else "Try again, or look at the server's log."
        return cls(f"The Prefect API answered with HTTP status {status}. {fix}")

    @classmethod
    def other(cls) -> PrefectUnavailable:
        """Build the error for an address where something else answers."""
        return cls("There is no Prefect API at PREFECT_API_URL: its address ends in /api.")

    @classmethod
    def unnamed(cls) -> PrefectUnavailable:
        """Build the error for an API that nobody named; Prefect would make up a server."""
        return cls(
            "No Prefect API is named. Set PREFECT_API_URL, e.g. to http://127.0.0.1:4200/api, or "
            "choose a profile with `prefect profile use`."
        )
