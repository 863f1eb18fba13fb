"""Crawl hosts, each at its own pace: python recipe_crawl.py FILE START [START ...]."""

import math
import re
import sys
from urllib.parse import urljoin, urlsplit

import httpx2
import trio

from trio_turnstile import Consumer, JsonLinesWriter, Log, Processor, Producer, Skip, open_turnstile


def host(url):
    return urlsplit(url).netloc


async def main(file, *starts, every=0.5):
    wanted = {host(url) for url in starts}
    seen = set()
    pending = 0
    found, urls = trio.open_memory_channel(math.inf)

    def add(url):
        nonlocal pending
        if url not in seen and host(url) in wanted:
            seen.add(url)
            pending += 1
            found.send_nowait(url)

    async with open_turnstile() as turnstile, httpx2.AsyncClient(follow_redirects=True) as client:
        hosts = turnstile.shared("hosts", 40, each=2, every=every)

        async def visit(url):
            nonlocal pending
            try:
                response = await client.get(url)
                text = response.raise_for_status().text
                for link in re.findall(r"""href=["']([^"'#]+)""", text):
                    add(urljoin(url, link))
                return {"url": url, "length": len(text)}
            finally:
                pending -= 1
                if not pending:
                    found.close()  # no page is left that could contain another link

        for url in starts:
            add(url)
        pipeline = (
            Producer(urls)
            | Processor(visit, limiter=hosts.by(host), timeout=10, on_error=[Log(), Skip()])
            | Consumer(JsonLinesWriter(file))
        )
        with found, urls:
            return await pipeline.run()


if __name__ == "__main__":
    step = trio.run(main, *sys.argv[1:])["visit"]
    print(f"{step.completed} pages, {step.failed} failed")
