"""Count the letters of some texts, each in a job of its own."""

import trio

from trio_turnstile import Channels, open_ledger, run_phases
from trio_turnstile.clusters import ClusterJob, JobSpec, LocalEngine, open_cluster


class Count(ClusterJob):
    async def prepare(self, channels: Channels) -> None:
        await trio.Path(f"{self.identity}.txt").write_text(self.identity * 3)

    async def cleanup(self, channels: Channels) -> None:
        await trio.Path(f"{self.identity}.txt").unlink(missing_ok=True)


async def main() -> None:
    engine = LocalEngine()
    async with open_cluster(engine, directory="jobs") as cluster, open_ledger("run.db") as ledger:
        texts = ["ant", "bee", "fly", "moth"]
        jobs = [Count(cluster, JobSpec(f"wc -c <{text}.txt", name=text)) for text in texts]
        report = await run_phases(jobs, limiter=2, ledger=ledger)
    for text, operation in zip(texts, jobs, strict=True):
        if operation.job is not None:  # otherwise an earlier run has done it
            count = await trio.Path(operation.job.output).read_text()
            print(text, count.strip())
    print(f"{report.completed} completed, {report.failed} failed, {report.skipped} skipped")


if __name__ == "__main__":
    trio.run(main)
