"""Load readings, or redrive letters: python cookbook_redrive.py load|redrive FROM TO LETTERS."""

import sys

import trio

from trio_turnstile import (
    Consumer,
    DeadLetter,
    JsonLinesReader,
    JsonLinesWriter,
    Processor,
    Producer,
)


async def to_kelvin(reading):
    return {"sensor": reading["sensor"], "kelvin": float(reading["celsius"]) + 273.15}


async def mend(letter):
    """Return the reading of a dead letter, repaired: some sensors write 21,5 for 21.5."""
    reading = letter["item"]
    if letter["error"].startswith("ValueError"):
        reading["celsius"] = reading["celsius"].replace(",", ".")
    return reading


async def store(readings, kelvins_file, letters_file):
    """Convert readings and write them to a file. Failed readings become dead letters."""
    aside = DeadLetter(letters_file, on=TypeError | ValueError)
    steps = Processor(to_kelvin, on_error=aside) | Consumer(JsonLinesWriter(kelvins_file))
    return await (readings | steps).run()


async def main(readings_file, kelvins_file, letters_file):
    return await store(Producer(JsonLinesReader(readings_file)), kelvins_file, letters_file)


async def redrive(letters_file, kelvins_file, left_over_file):
    """Process the dead letters of an earlier run. Items that fail again are left over."""
    readings = Producer(JsonLinesReader(letters_file)) | Processor(mend)
    return await store(readings, kelvins_file, left_over_file)


if __name__ == "__main__":
    for step in trio.run({"load": main, "redrive": redrive}[sys.argv[1]], *sys.argv[2:]).steps:
        print(f"{step.name}: {step.completed} of {step.received}")
