"""`ClusterJob`: an operation whose work is a job on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import trio

from trio_turnstile import Channels, Phase, Scalable

from ._cluster import Cluster, Job
from ._jobs import JobResult, JobSpec


class ClusterJob(Scalable):
    """An operation whose work is a job on a cluster.

    It submits the job in ``work``, and waits for it in ``monitor``, while it holds its token. So
    the limit is how many jobs are on the cluster at a time. Subclasses can add ``prepare`` and
    ``cleanup``.

    With a ledger, a run that was killed finds its jobs again, and submits none of them twice.

    Args:
      cluster: the cluster to submit the job to.
      spec: what the job does, and what it needs. Its name is the identifier of the operation. The
        spec may be set later, in ``prepare``, if ``identifiers`` is defined.

    If the operation is cancelled or takes too long, the job is cancelled, unless it is detached.
    """

    def __init__(self, cluster: Cluster, spec: JobSpec | None = None) -> None:
        self.cluster = cluster
        self.spec = spec
        self.job: Job | None = None
        """The job of the last attempt."""
        self.result: JobResult | None = None
        """How the job ended."""
        self._recalled: Mapping[str, Any] = {}
        self._token = ""
        """The name of the job, even while it is being submitted."""

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The name of the job."""
        return (self.spec.name,) if self.spec is not None and self.spec.name else ()

    @property
    def goes_on(self) -> bool:
        """Whether the job is detached and has not ended, even while it is being submitted."""
        return self.cluster.is_detached(self._token)

    def recall(self, facts: Mapping[str, Any]) -> Phase:
        """Go on with the job that an earlier run submitted, or was about to submit."""
        self._recalled = facts
        if "job" in facts:
            return "monitor"
        return "work" if "token" in facts and self.spec is not None else "prepare"

    async def work(self, channels: Channels) -> None:
        """Submit the job."""
        if self.spec is None:
            raise ValueError("there is no job to submit: set spec in __init__ or in prepare")
        recalled, self._recalled = self._recalled, {}
        self._token = recalled.get("token") or self.cluster.token_for(self.spec)
        if "token" in recalled:
            self.job = await self.cluster.resubmit(self.spec, self._token)
        else:
            await channels.remember(token=self._token)
            self.job = await self.cluster.submit(self.spec, token=self._token)
        await channels.remember(job=self.job.id)

    async def monitor(self, channels: Channels) -> None:
        """Wait for the end of the job.

        Raises:
          JobError: if the job did not complete.
        """
        recalled, self._recalled = self._recalled, {}
        if "job" in recalled:
            self._token = recalled["token"]
            self.job = self.cluster.attach(self._token, recalled["job"])
        assert self.job is not None
        try:
            self.result = await self.job.wait()
        except trio.Cancelled:
            if not self.job.detached:
                self.job.cancel()
            raise
        await channels.remember(node=self.result.node)
        self.result.check(self.identity or self.job.id)
