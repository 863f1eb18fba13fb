"""Jobs on clusters: Slurm, Grid Engine, and this machine.

`open_cluster` opens a `Cluster`, to which you submit jobs; `ClusterJob` is an operation for
`trio_turnstile.run_phases` that submits a job and waits for it. One task polls for all jobs. An
`Engine` hides the differences between kinds of clusters.
"""

from trio_turnstile._util import fixup_module_metadata

from ._calls import run_command
from ._cluster import Cluster, ClusterStatistics, Job
from ._engine import (
    Answer,
    ArrayEngine,
    Busy,
    Command,
    Engine,
    Refused,
    Reply,
    Sighting,
    Taken,
    TaskArray,
    Unclear,
    Unreadable,
    result_of_wait,
)
from ._jobs import (
    JobCancelled,
    JobError,
    JobFailed,
    JobLost,
    JobNodeFailed,
    JobOutOfMemory,
    JobRefused,
    JobResult,
    JobSpec,
    JobState,
    JobStuck,
    JobTimedOut,
    new_token,
)
from ._local import LocalEngine
from ._opening import Arrays, open_cluster
from ._operation import ClusterJob
from ._sge import SgeEngine
from ._slurm import SlurmEngine

__all__ = [
    "Answer",
    "ArrayEngine",
    "Arrays",
    "Busy",
    "Cluster",
    "ClusterJob",
    "ClusterStatistics",
    "Command",
    "Engine",
    "Job",
    "JobCancelled",
    "JobError",
    "JobFailed",
    "JobLost",
    "JobNodeFailed",
    "JobOutOfMemory",
    "JobRefused",
    "JobResult",
    "JobSpec",
    "JobState",
    "JobStuck",
    "JobTimedOut",
    "LocalEngine",
    "Refused",
    "Reply",
    "SgeEngine",
    "Sighting",
    "SlurmEngine",
    "Taken",
    "TaskArray",
    "Unclear",
    "Unreadable",
    "new_token",
    "open_cluster",
    "result_of_wait",
    "run_command",
]

fixup_module_metadata(globals())
del fixup_module_metadata
