"""All limit policies in the simulated scenarios: ``python -m benchmarks.policies``.

With ``--family``, it uses random services that took no part in the tuning of `KneeLimit`.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import TypeAlias

import attrs

from trio_turnstile.limits import (
    AIMDLimit,
    Gradient2Limit,
    KneeLimit,
    LimitPolicy,
    VectorLimit,
    VegasLimit,
    Windowed,
)
from trio_turnstile.simulation import (
    GATE,
    SCENARIOS,
    Bimodal,
    Client,
    Erlang,
    Jitter,
    LogNormal,
    Pareto,
    Result,
    Scenario,
    Server,
    Sine,
    Steps,
    overall,
    simulate,
)
from trio_turnstile.simulation._scenarios import at
from trio_turnstile.simulation._simulate import Oracle

Make: TypeAlias = Callable[[float], LimitPolicy]
"""Makes a policy from its initial limit."""


def policies(most: int) -> Mapping[str, Make]:
    """Return the policies to compare; ``most`` is the maximum for all but `KneeLimit`."""
    return {
        "AIMD": lambda initial: AIMDLimit(initial, minimum=1, maximum=most),
        "AIMD windowed": lambda initial: Windowed(AIMDLimit(initial, minimum=1, maximum=most)),
        "Vegas": lambda initial: VegasLimit(initial, maximum=most),
        "Vegas windowed": lambda initial: Windowed(VegasLimit(initial, maximum=most)),
        "Gradient2 windowed": lambda initial: Windowed(
            Gradient2Limit(initial, minimum=1, maximum=most)
        ),
        "Vector ARC": lambda _: VectorLimit(1, maximum=most),
        "Knee": KneeLimit,
    }


HELD_OUT = range(1000, 1080)
"""The services of the family that took no part in the tuning."""
LATE = (10, 20, 30)
"""Delays, in service times, of the oracles that the family's figures are compared with."""


def main() -> None:
    """Print the table, or the report on the family."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policies", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="default: 2")
    parser.add_argument("--family", action="store_true", help="the held-out random services")
    options = parser.parse_args()
    for line in family() if options.family else table(range(1, options.seeds + 1)):
        print(line, flush=True)


def table(seeds: Sequence[int]) -> Iterable[str]:
    """Give a line for each policy: its figures by scenario, and its score."""
    yield f"Throughput in % / p99 ratio, both to the oracle's; dN: N % refused; {len(seeds)} seeds"
    yield ""
    letters = "".join(f"{scenario.name[0]:^13}" for scenario in SCENARIOS)
    yield f"{'':19}{letters} score (worst), A-H and J"
    for name, make in policies(200).items():
        results = {s: [simulate(make(s.initial), s, seed=n) for n in seeds] for s in SCENARIOS}
        cells = "".join(f"{_cell(results[scenario]):^13}" for scenario in SCENARIOS)
        scored = [result for scenario in GATE for result in results[scenario]]
        worst = min(result.score for result in scored)
        yield f"{name:19}{cells} {overall(scored):.1f} ({worst:.1f})"
    yield ""
    yield from (f"{s.name[0]}  {s.name[2:]}" for s in SCENARIOS)


def _cell(results: Sequence[Result]) -> str:
    refused = round(100 * fmean(result.rejected for result in results))
    throughput = 100 * fmean(result.throughput for result in results)
    ratio = fmean(result.p99_ratio for result in results)
    return f"{throughput:.0f}/{ratio:.2f}" + (f" d{refused}" if refused else "")


def family() -> Iterable[str]:
    """Give the figures of each policy on the held-out services."""
    yield f"{len(HELD_OUT)} random services, held out: median, tenth (p99: ninth tenth) and worst"
    yield ""
    yield f"{'':19}{'score overall':>14}{'score':>20}{'throughput %':>20}{'p99 ratio':>20}"
    for name, make in policies(1000).items():
        yield _row(name, [simulate(make(20), service(n), seed=n) for n in HELD_OUT])
    for calls in LATE:
        yield _row(f"oracle, {calls} late", [_late(n, calls) for n in HELD_OUT])
    yield ""
    yield "oracle, N late: knows the capacity of N service times ago"


def _late(number: int, calls: int) -> Result:
    scenario = service(number)
    seconds = calls * at(scenario.server.service_time, 0.0)
    return simulate(Oracle(scenario, late=seconds), scenario, seed=number)


def _row(name: str, results: Sequence[Result]) -> str:
    scores = _spread([result.score for result in results])
    throughputs = _spread([100 * result.throughput for result in results])
    ratios = _spread([-result.p99_ratio for result in results])
    return f"{name:19}{overall(results):14.1f}{scores:>20}{throughputs:>20}{ratios:>20}"


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    figures = (median(ordered), ordered[len(ordered) // 10], ordered[0])
    return " ".join(f"{abs(figure):.3g}" for figure in figures)


def service(number: int) -> Scenario:
    """Return a random service: capacity 2 to 500, service times 5 ms to 10 s, any distribution."""
    rng = random.Random(f"family/{number}")
    workers, time = _size(rng)
    duration = round(min(max(30, 300 * time), max(25, 100_000 * time / workers)))
    jitter = _jitter(rng)
    change = rng.choice(["steady", "halve", "slower"])
    kind = rng.choice(["queue", "queue", "collapse", "quota"])
    half, twice = max(1, workers // 2), 2 * time
    return Scenario(
        name=f"{number}: {workers} x {time:.3g} s {type(jitter).__name__} {change} {kind}",
        server=Server(
            workers=_between(workers, half, duration) if change == "halve" else workers,
            service_time=_between(time, twice, duration) if change == "slower" else time,
            jitter=jitter,
            queue=0 if kind == "quota" else math.inf,
            collapse=0.3 if kind == "collapse" else 0.0,
            refusal_time=min(0.005, time / 5),
        ),
        clients=(Client(timeout=100 * time),),
        duration=duration,
        warm_up=duration / 6,
    )


def resized(scenario: Scenario, workers: int, seconds: float) -> Scenario:
    """Return a scenario of one client with another capacity and speed, otherwise the same.

    Args:
      scenario: a scenario for 40 workers of 0.1 s.
      workers: the capacity instead of 40, in calls.
      seconds: the service time instead of 0.1 s.
    """
    size, speed = workers / 40, seconds / 0.1

    def change(number: float | Steps | Sine, factor: float) -> Steps:
        assert not isinstance(number, Sine)
        steps = number if isinstance(number, Steps) else Steps(number)
        then = tuple((time * speed, value * factor) for time, value in steps.then)
        return Steps(steps.first * factor, then)

    server = attrs.evolve(
        scenario.server,
        workers=change(scenario.server.workers, size),
        service_time=change(scenario.server.service_time, speed),
        refusal_time=0.005 * min(1.0, speed),
    )
    (client,) = scenario.clients
    return attrs.evolve(
        scenario,
        server=server,
        clients=(attrs.evolve(client, timeout=client.timeout * speed),),
        duration=scenario.duration * speed,
        warm_up=scenario.warm_up * speed,
    )


def _size(rng: random.Random) -> tuple[int, float]:
    while True:
        time = math.exp(rng.uniform(math.log(0.005), math.log(10)))
        workers = round(math.exp(rng.uniform(math.log(2), math.log(500))))
        if workers / time <= 4000:
            return workers, time


def _jitter(rng: random.Random) -> Jitter:
    kinds: list[Jitter] = [
        LogNormal(rng.uniform(0.1, 1)),
        LogNormal(rng.uniform(0.1, 0.5)),
        Erlang(rng.randint(1, 4)),
        Bimodal(rng.uniform(0.05, 0.3), rng.uniform(3, 20)),
        Pareto(rng.uniform(2.2, 3)),
    ]
    return rng.choice(kinds)


def _between(usual: float, other: float, duration: float) -> Steps:
    """Return steps with another value in the middle third of the time."""
    return Steps(usual, ((duration / 3, other), (2 * duration / 3, usual)))


if __name__ == "__main__":
    main()
