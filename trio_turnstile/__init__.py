"""Limits on concurrency that move while the work runs, on trio.

It has limiters that can be retuned live, operations in four phases, and pipelines, all on one
engine. All public names are here; `trio_turnstile.limits` has the adaptive policies,
`trio_turnstile.simulation` a way to try them out, and `trio_turnstile.testing` tools to test
code that uses the library.

The wings behind this module, each of which imports only from those before it:

- ``_limiting``: limiters, rates, and the turnstile that moves them;
- ``_engine``: items under a limit, with error policies and books;
- ``_phases`` and ``_pipelines``: the two front ends of the engine;
- ``_ledger``: what runs have done, on disk.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._engine.breaker import Breaker, BreakerState
    from ._engine.budget import RetryBudget
    from ._engine.letters import dead_letter_to_dict
    from ._engine.policies import Abort, Backoff, DeadLetter, ErrorPolicy, Halt, Log, Retry, Skip
    from ._engine.recording import LedgerError
    from ._engine.retrying import retry
    from ._engine.tracing import Settled, commit_token, commit_tokens
    from ._engine.verdicts import Divert, Fail, RetryIn, Stop, Verdict
    from ._errors import Aborted, ConcurrentError, Overloaded, Saturated, parse_retry_after
    from ._ledger.ledger import Ledger, open_ledger
    from ._ledger.reading import LedgerEntry, read_ledger
    from ._limiting.actions import Action, Pause, Release, Resume, SetLimit
    from ._limiting.alarms import alarm, cpu_alarm, load_alarm, loop_lag_alarm, memory_alarm
    from ._limiting.allowance import Allowance, BudgetSpent
    from ._limiting.budget import Budget, Spending
    from ._limiting.claims import TooWide
    from ._limiting.events import (
        Bound,
        Decision,
        Event,
        LimiterClosed,
        LimiterOpened,
        LimiterStatistics,
        Load,
        Reason,
        Signal,
        Snapshot,
        Totals,
        log_decisions,
    )
    from ._limiting.history import History
    from ._limiting.instant import Instant
    from ._limiting.limiter import Limiter
    from ._limiting.live_run import (
        CallOutcome,
        DurationObserver,
        ErrorNoted,
        LiveRun,
        RunClosed,
        RunKind,
        RunOpened,
        RunReport,
        RunStage,
    )
    from ._limiting.memory import LimitMemory
    from ._limiting.observers import Observation, Observer
    from ._limiting.override import Override
    from ._limiting.portion import Portion
    from ._limiting.quota_headers import QuotaState, RateHeaders, parse_rate_headers
    from ._limiting.rate import RateLimiter
    from ._limiting.shared import ByKey, KeyStatistics, SharedLimiter, SharedStatistics
    from ._limiting.throttle import Throttle
    from ._limiting.turnstile import Turnstile, Watcher, open_turnstile
    from ._phases.manager import Manager, Report
    from ._phases.runner import run_phases, start_phases
    from ._phases.scalable import Channels, Phase, PhaseTimeouts, Scalable
    from ._pipelines.amap import amap, amap_list
    from ._pipelines.gathering import Batch, BatchError
    from ._pipelines.jsonlines import JsonLinesBatchWriter, JsonLinesReader, JsonLinesWriter
    from ._pipelines.letters import open_dead_letters
    from ._pipelines.pipeline import Pipeline, Producer
    from ._pipelines.processors import Consumer, Processor
    from ._pipelines.reports import PipelineReport, StepReport
    from ._pipelines.results import Results
    from ._pipelines.run import PipelineRun
    from ._pipelines.steps import DISCARD, Discard, Many
    from .limits import LimitPolicy

__version__ = "0.1.0"

__all__ = [
    "DISCARD",
    "Abort",
    "Aborted",
    "Action",
    "Allowance",
    "Backoff",
    "Batch",
    "BatchError",
    "Bound",
    "Breaker",
    "BreakerState",
    "Budget",
    "BudgetSpent",
    "ByKey",
    "CallOutcome",
    "Channels",
    "ConcurrentError",
    "Consumer",
    "DeadLetter",
    "Decision",
    "Discard",
    "Divert",
    "DurationObserver",
    "ErrorNoted",
    "ErrorPolicy",
    "Event",
    "Fail",
    "Halt",
    "History",
    "Instant",
    "JsonLinesBatchWriter",
    "JsonLinesReader",
    "JsonLinesWriter",
    "KeyStatistics",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "LimitMemory",
    "LimitPolicy",
    "Limiter",
    "LimiterClosed",
    "LimiterOpened",
    "LimiterStatistics",
    "LiveRun",
    "Load",
    "Log",
    "Manager",
    "Many",
    "Observation",
    "Observer",
    "Overloaded",
    "Override",
    "Pause",
    "Phase",
    "PhaseTimeouts",
    "Pipeline",
    "PipelineReport",
    "PipelineRun",
    "Portion",
    "Processor",
    "Producer",
    "QuotaState",
    "RateHeaders",
    "RateLimiter",
    "Reason",
    "Release",
    "Report",
    "Results",
    "Resume",
    "Retry",
    "RetryBudget",
    "RetryIn",
    "RunClosed",
    "RunKind",
    "RunOpened",
    "RunReport",
    "RunStage",
    "Saturated",
    "Scalable",
    "SetLimit",
    "Settled",
    "SharedLimiter",
    "SharedStatistics",
    "Signal",
    "Skip",
    "Snapshot",
    "Spending",
    "StepReport",
    "Stop",
    "Throttle",
    "TooWide",
    "Totals",
    "Turnstile",
    "Verdict",
    "Watcher",
    "__version__",
    "alarm",
    "amap",
    "amap_list",
    "commit_token",
    "commit_tokens",
    "cpu_alarm",
    "dead_letter_to_dict",
    "load_alarm",
    "log_decisions",
    "loop_lag_alarm",
    "memory_alarm",
    "open_dead_letters",
    "open_ledger",
    "open_turnstile",
    "parse_rate_headers",
    "parse_retry_after",
    "read_ledger",
    "retry",
    "run_phases",
    "start_phases",
]

# For a type checker, a name that is not there has to stay an error.
if not TYPE_CHECKING:  # pragma: no branch
    # Nothing is imported before a name is used, because the command has to take care of its
    # signals before it waits for the import of trio. And the engine and its two front ends take
    # longer to import than the limiters, which many programs use alone. Each of the two parts is
    # loaded as a whole, so that this module is the module of each name from the beginning.
    _LIMITERS = {
        "._errors": "Aborted ConcurrentError Overloaded Saturated parse_retry_after",
        "._limiting.actions": "Action Pause Release Resume SetLimit",
        "._limiting.alarms": "alarm cpu_alarm load_alarm loop_lag_alarm memory_alarm",
        "._limiting.allowance": "Allowance BudgetSpent",
        "._limiting.budget": "Budget Spending",
        "._limiting.claims": "TooWide",
        "._limiting.events": (
            "Bound Decision Event LimiterClosed LimiterOpened LimiterStatistics Load "
            "Reason Signal Snapshot Totals log_decisions"
        ),
        "._limiting.history": "History",
        "._limiting.instant": "Instant",
        "._limiting.limiter": "Limiter",
        "._limiting.live_run": (
            "CallOutcome DurationObserver ErrorNoted LiveRun RunClosed RunKind RunOpened RunReport "
            "RunStage"
        ),
        "._limiting.memory": "LimitMemory",
        "._limiting.observers": "Observation Observer",
        "._limiting.override": "Override",
        "._limiting.portion": "Portion",
        "._limiting.quota_headers": "QuotaState RateHeaders parse_rate_headers",
        "._limiting.rate": "RateLimiter",
        "._limiting.shared": "ByKey KeyStatistics SharedLimiter SharedStatistics",
        "._limiting.throttle": "Throttle",
        "._limiting.turnstile": "Turnstile Watcher open_turnstile",
        ".limits": "LimitPolicy",
    }
    _ENGINE = {
        "._engine.breaker": "Breaker BreakerState",
        "._engine.budget": "RetryBudget",
        "._engine.letters": "dead_letter_to_dict",
        "._engine.policies": "Abort Backoff DeadLetter ErrorPolicy Halt Log Retry Skip",
        "._engine.recording": "LedgerError",
        "._engine.retrying": "retry",
        "._engine.tracing": "Settled commit_token commit_tokens",
        "._engine.verdicts": "Divert Fail RetryIn Stop Verdict",
        "._ledger.ledger": "Ledger open_ledger",
        "._ledger.reading": "LedgerEntry read_ledger",
        "._phases.manager": "Manager Report",
        "._phases.runner": "run_phases start_phases",
        "._phases.scalable": "Channels Phase PhaseTimeouts Scalable",
        "._pipelines.amap": "amap amap_list",
        "._pipelines.gathering": "Batch BatchError",
        "._pipelines.jsonlines": "JsonLinesBatchWriter JsonLinesReader JsonLinesWriter",
        "._pipelines.letters": "open_dead_letters",
        "._pipelines.pipeline": "Pipeline Producer",
        "._pipelines.processors": "Consumer Processor",
        "._pipelines.reports": "PipelineReport StepReport",
        "._pipelines.results": "Results",
        "._pipelines.run": "PipelineRun",
        "._pipelines.steps": "DISCARD Discard Many",
    }

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for part in (_LIMITERS, _ENGINE):
            if name not in globals():
                _load(part)
        return globals()[name]

    def _load(part: dict[str, str]) -> None:
        from importlib import import_module

        from ._util import fixup_module_metadata

        for home, names in part.items():
            module = import_module(home, __name__)
            globals().update({each: getattr(module, each) for each in names.split()})
        fixup_module_metadata(globals())

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


del TYPE_CHECKING
