"""Concurrency limits that move while the work runs, on trio.

Three things on one engine: limiters that retune live, operations in four phases,
and what is needed to bound, watch and stop both. Read the modules in the order of
the imports below: each imports only from those above it.
"""

from ._engine.budget import RetryBudget as RetryBudget
from ._engine.policies import Abort as Abort
from ._engine.policies import Backoff as Backoff
from ._engine.policies import DeadLetter as DeadLetter
from ._engine.policies import Divert as Divert
from ._engine.policies import ErrorPolicy as ErrorPolicy
from ._engine.policies import Fail as Fail
from ._engine.policies import Halt as Halt
from ._engine.policies import Log as Log
from ._engine.policies import Retry as Retry
from ._engine.policies import RetryIn as RetryIn
from ._engine.policies import Skip as Skip
from ._engine.policies import Stop as Stop
from ._engine.policies import Verdict as Verdict
from ._errors import Aborted as Aborted
from ._errors import ConcurrentError as ConcurrentError
from ._errors import Overloaded as Overloaded
from ._errors import Saturated as Saturated
from ._limiting.alarms import alarm as alarm
from ._limiting.alarms import cpu_alarm as cpu_alarm
from ._limiting.alarms import load_alarm as load_alarm
from ._limiting.alarms import loop_lag_alarm as loop_lag_alarm
from ._limiting.alarms import memory_alarm as memory_alarm
from ._limiting.events import Decision as Decision
from ._limiting.events import Event as Event
from ._limiting.events import LimiterClosed as LimiterClosed
from ._limiting.events import LimiterOpened as LimiterOpened
from ._limiting.events import LimiterStatistics as LimiterStatistics
from ._limiting.events import Observer as Observer
from ._limiting.events import Reason as Reason
from ._limiting.events import Signal as Signal
from ._limiting.events import Snapshot as Snapshot
from ._limiting.events import log_decisions as log_decisions
from ._limiting.history import History as History
from ._limiting.limiter import Limiter as Limiter
from ._limiting.rate import RateLimiter as RateLimiter
from ._limiting.throttle import Throttle as Throttle
from ._limiting.turnstile import Monitor as Monitor
from ._limiting.turnstile import SignalChannel as SignalChannel
from ._limiting.turnstile import Turnstile as Turnstile
from ._limiting.turnstile import open_turnstile as open_turnstile
from ._phases.manager import Manager as Manager
from ._phases.manager import Report as Report
from ._phases.runner import run_phases as run_phases
from ._phases.scalable import Channels as Channels
from ._phases.scalable import PhaseTimeouts as PhaseTimeouts
from ._phases.scalable import Scalable as Scalable
from ._pipelines.batches import Batch as Batch
from ._pipelines.batches import BatchError as BatchError
from ._pipelines.jsonlines import JsonLinesBatchWriter as JsonLinesBatchWriter
from ._pipelines.jsonlines import JsonLinesReader as JsonLinesReader
from ._pipelines.jsonlines import JsonLinesWriter as JsonLinesWriter
from ._pipelines.jsonlines import as_letter as as_letter
from ._pipelines.pipeline import Pipeline as Pipeline
from ._pipelines.pipeline import Producer as Producer
from ._pipelines.pipeline import Results as Results
from ._pipelines.processors import Consumer as Consumer
from ._pipelines.processors import Processor as Processor
from ._pipelines.reports import PipelineReport as PipelineReport
from ._pipelines.reports import StageReport as StageReport
from ._pipelines.run import Flow as Flow
from ._pipelines.steps import DISCARD as DISCARD
from ._pipelines.steps import Discard as Discard
from ._pipelines.steps import Many as Many
from ._util import publish
from .limits import LimitPolicy as LimitPolicy

publish(globals())
del publish
