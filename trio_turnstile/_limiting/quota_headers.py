"""`parse_rate_headers`: what a service says in HTTP headers about its quotas. Sans-I/O.

There are several dialects:

- ``x-ratelimit-remaining-tokens: 4500`` and ``x-ratelimit-reset-tokens: 6m0s``, with a name and a
  duration (OpenAI, Azure, Groq, Mistral);
- ``anthropic-ratelimit-tokens-remaining`` and ``-reset``, with a name and an :rfc:`3339` time;
- ``x-ratelimit-remaining`` and ``x-ratelimit-reset``, with a Unix time (GitHub and others), or
  with seconds;
- ``RateLimit`` and ``RateLimit-Policy``, the structured fields of the IETF's draft, and the three
  fields of its first versions;
- ``Retry-After`` of :rfc:`9110`, and ``retry-after-ms``.

Services with the first two dialects give back gradually; the others reset their count at once.
Values that cannot be read, negative numbers and limits of 0 are ignored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias, final

import attrs

from trio_turnstile._errors import parse_retry_after

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
"""The headers of a response: a mapping, as most clients have it, or pairs."""


@final
@attrs.frozen(kw_only=True)
class QuotaState:
    """What a service says about one of its quotas; ``None`` for what it does not say."""

    name: str = ""
    """What it counts, such as ``tokens`` or ``input_tokens``; empty if the service does not say."""
    limit: float | None = None
    """How much it allows in a period."""
    remaining: float | None = None
    """How much is left."""
    reset_after: float | None = None
    """Seconds until the quota is full again."""
    period: float | None = None
    """The length of a period, in seconds."""
    counts_anew: bool = False
    """Whether everything comes back at the reset, and nothing before."""


@final
@attrs.frozen(kw_only=True)
class RateHeaders:
    """What a service says about its quotas."""

    quotas: tuple[QuotaState, ...] = ()
    """The quotas; several may have the same name."""
    retry_after: float | None = None
    """Seconds after which the service wants to be asked again."""


def parse_rate_headers(headers: Headers, *, now: float | None = None) -> RateHeaders:
    """Read the headers of a response, or of a refusal, in any of the dialects.

    Args:
      headers: the headers of the response.
      now: the present Unix time, in seconds; by default the system's.

    Returns:
      What can be read. It never raises, whatever the headers hold.
    """
    now = time.time() if now is None else now
    fields = _fields(headers)
    quotas = (*_unnamed(fields, now), *_structured(fields), *_named(fields, now))
    return RateHeaders(quotas=quotas, retry_after=_retry_after(fields, now))


_Fields: TypeAlias = Mapping[str, str]


def _fields(headers: Headers) -> _Fields:
    fields: dict[str, str] = {}
    pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        key = _text(name).lower().replace("x-rate-limit-", "x-ratelimit-")
        before = fields.get(key)
        fields[key] = _text(value) if before is None else f"{before}, {_text(value)}"
    return fields


def _text(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _retry_after(fields: _Fields, now: float) -> float | None:
    precise = _number(fields.get("retry-after-ms"))
    return (
        parse_retry_after(fields.get("retry-after"), now=now) if precise is None else precise / 1000
    )


# ---- the dialects ----

_NAMED = (
    re.compile(r"x-ratelimit-(?P<part>limit|remaining|reset)-(?P<name>.+)"),
    re.compile(r"anthropic-ratelimit-(?P<name>.+)-(?P<part>limit|remaining|reset)"),
)


def _named(fields: _Fields, now: float) -> Iterator[QuotaState]:
    said: dict[str, dict[str, str]] = {}
    for field, value in fields.items():
        for pattern in _NAMED:
            match = pattern.fullmatch(field)
            if match:
                name = match["name"].replace("-", "_")
                said.setdefault(name, {})[match["part"]] = value
    for name, parts in said.items():
        yield from _state(name, parts, now)


def _unnamed(fields: _Fields, now: float) -> Iterator[QuotaState]:
    for prefix in ("x-ratelimit-", "ratelimit-"):
        parts = ("limit", "remaining", "reset")
        said = {part: fields[prefix + part] for part in parts if prefix + part in fields}
        if said:
            yield from _state("", said, now, counts_anew=True)


_ITEM = re.compile(r'\s*(?:"([^"]*)"|([\w*.-]+))((?:\s*;\s*[\w*.-]+(?:=(?:"[^"]*"|[^;,"]*))?)*)\s*')
_PARAMETER = re.compile(r';\s*([\w*.-]+)(?:=(?:"([^"]*)"|([^;,"]*)))?')


def _structured(fields: _Fields) -> Iterator[QuotaState]:
    policies = dict(_items(fields.get("ratelimit-policy", "")))
    for name, said in _items(fields.get("ratelimit", "")):
        policy = policies.get(name, {})
        limit, remaining = _number(policy.get("q")), _number(said.get("r"))
        yield QuotaState(
            name=policy.get("qu", "").replace("-", "_"),
            limit=limit or None,
            remaining=_plausible(remaining, limit),
            reset_after=_number(said.get("t")),
            period=_number(policy.get("w")) or None,
            counts_anew=True,
        )


def _items(field: str) -> Iterator[tuple[str, dict[str, str]]]:
    at = 0
    while match := _ITEM.match(field, at):
        parameters = {key: text or bare for key, text, bare in _PARAMETER.findall(match[3])}
        yield match[1] or match[2] or "", parameters
        at = match.end() + 1  # after the comma


# ---- values ----


def _state(
    name: str, said: Mapping[str, str], now: float, *, counts_anew: bool = False
) -> Iterator[QuotaState]:
    limit = _number(said.get("limit"))
    if "limit" in said and not limit:
        return  # some services send -1 or 0 for whatever they do not know
    yield QuotaState(
        name=name,
        limit=limit,
        remaining=_plausible(_number(said.get("remaining")), limit),
        reset_after=_seconds(said.get("reset", ""), now),
        counts_anew=counts_anew,
    )


def _plausible(remaining: float | None, limit: float | None) -> float | None:
    impossible = remaining is not None and limit is not None and remaining > limit
    return None if impossible else remaining


def _number(text: str | None) -> float | None:
    """Return a number of 0 or more; ``None`` if the text is not one."""
    match = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*", text or "", re.ASCII)
    return float(match[1]) if match else None


_DURATION = re.compile(
    r"(?:(?P<days>\d+)d)?(?:(?P<hours>\d+)h)?(?:(?P<minutes>\d+)m(?!s))?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)s)?(?:(?P<milliseconds>\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_UNITS = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1, "milliseconds": 0.001}
_UNIX_TIMES = 1e9
"""A number from here on is a Unix time, not a number of seconds."""


def _seconds(text: str, now: float) -> float | None:
    """Return the seconds that a duration or a time in any form means."""
    text = text.strip()
    number = _number(text)
    if number is not None:
        return number if number < _UNIX_TIMES else max(0.0, number - now)
    match = _DURATION.fullmatch(text)
    if match and text:
        return sum(float(match[unit] or 0) * seconds for unit, seconds in _UNITS.items())
    try:
        date = datetime.fromisoformat(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now)
    except ValueError:
        return None
