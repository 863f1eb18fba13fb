"""Draws a pipeline: its steps, which of them are fused into one stage, and the buffers.

The structure is that of a recorded run. Steps through which one task takes an item are
fused; where another task takes the item over, there is a buffer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio
from settled import virtual_clock
from svg import MARGIN, Picture, mono_width

from trio_turnstile import Batch, Consumer, Processor, Producer

STEPS: Mapping[str, Mapping[str, Any]] = {
    "fetch": {"limiter": 8},
    "parse": {},
    "resize": {"limiter": 2, "ordered": True},
    "check": {},
    "upload": {"limiter": 1, "batch": Batch(20)},
}
"""The steps with their options; the last is the consumer."""
ITEMS = 100

BOX, PAD, GAP, FRAME, SLOT, ARROW = 62.0, 9.0, 18.0, 9.0, 11.0, 17.0
TOP = 56.0


class Recorder:
    """Makes the functions of the steps, and records which task has which item there."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[int, object]] = {name: {} for name in STEPS}

    def step(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        """Return a function that takes an item, or a batch, and returns it."""

        async def record(item: Any) -> Any:
            for each in item if isinstance(item, list) else [item]:
                self._tasks[name][each] = trio.lowlevel.current_task()
            await trio.sleep(0.1)
            return item

        return record

    def stages(self) -> list[list[str]]:
        """Return the steps, those in one list that have each item in the same task."""
        stages: list[list[str]] = []
        for name in STEPS:
            if stages and self._tasks[name] == self._tasks[stages[-1][-1]]:
                stages[-1].append(name)
            else:
                stages.append([name])
        return stages


def record() -> list[list[str]]:
    """Run the pipeline; return the names of its steps, stage by stage."""
    recorder = Recorder()
    pipeline: Any = Producer(range(ITEMS))
    *processors, last = STEPS
    for name in processors:
        pipeline |= Processor(recorder.step(name), name=name, **STEPS[name])
    pipeline |= Consumer(recorder.step(last), name=last, **STEPS[last])
    report = trio.run(pipeline.run, clock=virtual_clock())
    assert [step.completed for step in report.steps] == [ITEMS] * len(STEPS)
    return recorder.stages()


def options(name: str) -> list[str]:
    """Return the options of a step as one writes them."""
    return [
        f"{option}=Batch({value.size})" if isinstance(value, Batch) else f"{option}={value}"
        for option, value in STEPS[name].items()
    ]


def step_width(name: str) -> float:
    """Return how wide the box of a step is."""
    words = [mono_width(name), *(mono_width(option, 12) for option in options(name))]
    return max(words) + 2 * PAD


def stage_width(stage: list[str]) -> float:
    """Return how wide the frame of a stage is."""
    return sum(map(step_width, stage)) + GAP * (len(stage) - 1) + 2 * FRAME


def draw_step(picture: Picture, x: float, name: str) -> None:
    """Draw the box of a step, with its name and options."""
    width, lines = step_width(name), options(name)
    picture.box(x, TOP, width, BOX, "blue")
    y = TOP + BOX / 2 + 4 - 8 * len(lines)
    picture.text(x + width / 2, y, name, "mono bold middle")
    for number, line in enumerate(lines, 1):
        picture.text(x + width / 2, y + 16 * number, line, "mono small middle")


def draw_stage(picture: Picture, x: float, stage: list[str]) -> None:
    """Draw a stage: a frame, and in it the steps that are fused."""
    width, middle = stage_width(stage), TOP + BOX / 2
    picture.box(x, TOP - FRAME, width, BOX + 2 * FRAME, "grey dash", radius=8)
    words = "fused: one worker pool" if len(stage) > 1 else "one worker pool"
    picture.text(x + width / 2, TOP - FRAME - 9, words, "small soft middle")
    x += FRAME
    for number, name in enumerate(stage):
        if number:
            picture.arrow((x - GAP, middle), (x, middle))
        draw_step(picture, x, name)
        x += step_width(name) + GAP


def draw_buffer(picture: Picture, x: float, following: str) -> None:
    """Draw a buffer: a row of items, or of batches, with an arrow in and an arrow out."""
    middle, end = TOP + BOX / 2, x + ARROW + 3 * SLOT
    picture.arrow((x, middle), (x + ARROW, middle))
    for number in range(3):
        slot = x + ARROW + number * SLOT
        picture.box(slot, middle - SLOT, SLOT, 2 * SLOT, "orange", radius=2)
    picture.arrow((end, middle), (end + ARROW, middle))
    words = "batches" if "batch" in STEPS[following] else "buffer"
    picture.text((x + end + ARROW) / 2, middle + SLOT + 18, words, "small soft middle")


def draw() -> str:
    """Return the picture."""
    stages = record()
    source = mono_width("source") + 2 * PAD
    between = 3 * SLOT + 2 * ARROW
    inside = source + GAP + sum(map(stage_width, stages)) + between * (len(stages) - 1)
    picture = Picture(
        "A pipeline, its stages and its buffers",
        "; then a buffer; then ".join(f"a stage of {' and '.join(stage)}" for stage in stages),
        TOP + BOX + FRAME + 28,
        inside + 2 * MARGIN,
    )
    middle = TOP + BOX / 2
    picture.box(MARGIN, middle - 16, source, 32, "green", radius=16)
    picture.text(MARGIN + source / 2, middle + 4, "source", "middle")
    x = MARGIN + source
    picture.arrow((x, middle), (x + GAP, middle))
    x += GAP
    for number, stage in enumerate(stages):
        if number:
            draw_buffer(picture, x, stage[0])
            x += between
        draw_stage(picture, x, stage)
        x += stage_width(stage)
    return str(picture)
