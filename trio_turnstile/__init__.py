"""Concurrency limits that move while the work runs, on trio.

Three things on one engine: limiters that retune live, operations in four phases,
and what is needed to bound, watch and stop both. Read the modules in the order of
the imports below: each imports only from those above it.
"""

from ._account import PipelineReport as PipelineReport
from ._account import StageReport as StageReport
from ._batches import Batch as Batch
from ._batches import BatchError as BatchError
from ._budget import RetryBudget as RetryBudget
from ._errors import Aborted as Aborted
from ._errors import ConcurrentError as ConcurrentError
from ._errors import Overloaded as Overloaded
from ._errors import Saturated as Saturated
from ._events import Decision as Decision
from ._events import Event as Event
from ._events import LimiterClosed as LimiterClosed
from ._events import LimiterOpened as LimiterOpened
from ._events import LimiterStatistics as LimiterStatistics
from ._events import Observer as Observer
from ._events import Reason as Reason
from ._events import Signal as Signal
from ._events import Snapshot as Snapshot
from ._events import log_decisions as log_decisions
from ._facade import publish
from ._flow import Flow as Flow
from ._history import History as History
from ._jsonlines import JsonLinesBatchWriter as JsonLinesBatchWriter
from ._jsonlines import JsonLinesReader as JsonLinesReader
from ._jsonlines import JsonLinesWriter as JsonLinesWriter
from ._jsonlines import as_letter as as_letter
from ._limiter import Limiter as Limiter
from ._manager import Manager as Manager
from ._manager import Report as Report
from ._monitors import alarm as alarm
from ._monitors import cpu_alarm as cpu_alarm
from ._monitors import load_alarm as load_alarm
from ._monitors import loop_lag_alarm as loop_lag_alarm
from ._monitors import memory_alarm as memory_alarm
from ._phases import run_phases as run_phases
from ._pipeline import Pipeline as Pipeline
from ._pipeline import Producer as Producer
from ._pipeline import Results as Results
from ._processors import Consumer as Consumer
from ._processors import Processor as Processor
from ._rate import RateLimiter as RateLimiter
from ._scalable import Channels as Channels
from ._scalable import PhaseTimeouts as PhaseTimeouts
from ._scalable import Scalable as Scalable
from ._steps import DISCARD as DISCARD
from ._steps import Discard as Discard
from ._steps import Many as Many
from ._throttle import Throttle as Throttle
from ._turnstile import Monitor as Monitor
from ._turnstile import SignalChannel as SignalChannel
from ._turnstile import Turnstile as Turnstile
from ._turnstile import open_turnstile as open_turnstile
from ._verdicts import Abort as Abort
from ._verdicts import Backoff as Backoff
from ._verdicts import DeadLetter as DeadLetter
from ._verdicts import Divert as Divert
from ._verdicts import ErrorPolicy as ErrorPolicy
from ._verdicts import Fail as Fail
from ._verdicts import Halt as Halt
from ._verdicts import Log as Log
from ._verdicts import Retry as Retry
from ._verdicts import RetryIn as RetryIn
from ._verdicts import Skip as Skip
from ._verdicts import Stop as Stop
from ._verdicts import Verdict as Verdict
from .limits import LimitPolicy as LimitPolicy

publish(globals())
del publish
