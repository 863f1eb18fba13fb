"""The parts of `KneeLimit`.

- `policy`: the policy itself, which decides what to probe and where to stay.
- `meter`: takes readings; `latency` estimates their location and spread.
- `belief`: the probability of each knee, a bank of Kalman filters.
- `stall`: detects that calls no longer finish.
- `refusals`: brackets the limit by overload answers.

The docstring of each constant says where its number comes from: *theory* (it follows from a model),
*tuned* (chosen by the scores of simulated services), or *taste* (a round number that works).
The services of ``benchmarks.policies.HELD_OUT`` took no part in the tuning. To see what a
part is for, remove it: ``python -m benchmarks.ablation``, with its table in the documentation, and
``tests/simulation/test_knee_parts.py``. The scores alone do not show every part: some exist for one
kind of service.
"""
