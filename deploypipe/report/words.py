"""Numbers as people read them: sizes, counts, times, ratios, points, intervals.

Every function takes None for "not measured" and says so with a dash.
"""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"

_ONE = {"samples": "sample"}

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: object, limit: int = 400) -> str:
    """One line of harmless text: no control or direction-changing characters, at most ``limit``.

    A model's or a class's name is a stranger's text: an escape sequence would paint the terminal.
    """
    line = " ".join(str(text).split())
    line = "".join("\N{REPLACEMENT CHARACTER}" if _unsafe(c) else c for c in line)
    return line if len(line) <= limit else line[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _unsafe(character: str) -> bool:
    # The last two are no characters, and XML has none of them.
    known = unicodedata.category(character) not in ("Cc", "Cs")
    return not known or character in _BIDI or character in "\ufffe\uffff"


def number(value: float | None, digits: int = 3) -> str:
    """At least ``digits`` significant digits, thousands apart: 0.0123, 2.31, 41.2, 1,148."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return _not_finite(value)
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e12:
        return f"{value:.{digits - 1}e}".replace("-", MINUS)
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded if decimals else round(value):,.{decimals}f}".replace("-", MINUS)


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "not a number"
    return "infinite" if value > 0 else f"{MINUS}infinite"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    """Three significant digits in the first unit, steps of 1000, that keeps them below 1000."""
    power = 0
    while abs(float(f"{value:.2e}")) >= 1000 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    return f"{number(value)} {units[power]}".rstrip()


def size(count: float | None) -> str:
    """Bytes in decimal units: 999 B, 101 kB, 1.15 MB."""
    if count is None:
        return NOTHING
    return f"{count:.0f} B" if abs(count) < 1000 else _scaled(count, ("B", "kB", "MB", "GB", "TB"))


def count(value: float | None) -> str:
    """How many: 42, 268 k, 41.2 M."""
    if value is None:
        return NOTHING
    return f"{value:.0f}" if abs(value) < 1000 else _scaled(value, ("", "k", "M", "G", "T"))


def milliseconds(value: float | None) -> str:
    """0.312 ms, 12.3 ms; from ten seconds on in seconds."""
    if value is None:
        return NOTHING
    return seconds(value / 1000) if abs(value) >= 10_000 else f"{number(value)} ms"


def seconds(value: float | None) -> str:
    """0.42 s, 12.3 s, 2 min 5 s, 1 h 12 min."""
    if value is None:
        return NOTHING
    if value < 60 or not math.isfinite(value):
        return f"{number(value)} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ratio(value: float | None) -> str:
    """For a glance: 1.05x below two, 3.1x below a hundred, 114x above."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return _not_finite(value)
    return f"{value:,.{2 if abs(value) < 1.995 else 1 if abs(value) < 99.95 else 0}f}x"


def exact_ratio(value: float | None) -> str:
    """For a comparison with a limit: 3.12x, 11.37x; two decimals throughout."""
    if value is None or not math.isfinite(value):
        return ratio(value)
    return f"{value:,.2f}x"


def percent(share: float | None) -> str:
    """A share in 0..1 as 91.72 %."""
    if share is None:
        return NOTHING
    return f"{100 * share:.2f} %" if math.isfinite(share) else _not_finite(share)


def points(value: float | None, signed: bool = False) -> str:
    """Percentage points: 0.12 points, with a sign if asked: +0.12 points."""
    return NOTHING if value is None else f"{_decimal(value, signed)} points"


def _decimal(value: float, signed: bool) -> str:
    if not math.isfinite(value):
        return _not_finite(value)
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def decibel(value: float | None) -> str:
    """23.4 dB."""
    if value is None:
        return NOTHING
    return f"{value:.1f} dB".replace("-", MINUS) if math.isfinite(value) else _not_finite(value)


def counted(value: int, noun: str) -> str:
    """1 sample, 5,000 samples."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def confidence(share: float | None, one_sided: bool = False) -> str:
    """What follows an interval: " at 99 % confidence", " at 95 % one-sided confidence"."""
    if share is None:
        return ""
    return f" at {100 * share:.3g} % {'one-sided ' if one_sided else ''}confidence"


def interval(low: float | None, high: float | None, unit: str, signed: bool = False) -> str:
    """2.71x to 3.08x; 0.1 to 0.3 points: the unit once, unless it sticks to the number."""
    if low is None or high is None:
        known = quantity(high if low is None else low, unit, signed)
        return known if known == NOTHING else f"{known} or {'less' if low is None else 'more'}"
    first, last = quantity(low, unit, signed), quantity(high, unit, signed)
    name = last.partition(" ")[2]
    if name and first.endswith(f" {name}") and not any(c.isdigit() for c in name):
        first = first.removesuffix(f" {name}")
    return f"{first} to {last}"


def quantity(value: float | None, unit: str, signed: bool = False) -> str:
    """A value in its unit, each in the form that it is usually read in."""
    if value is None:
        return NOTHING
    match unit:
        case "x" | "ratio" | "times":
            return exact_ratio(value)
        case "points" | "pp":
            return points(value, signed)
        case "ms":
            return milliseconds(value)
        case "s" | "seconds":
            return seconds(value)
        case "B" | "bytes":
            return size(value)
        case "share":
            return percent(value)
        case _:
            sign = "+" if signed and value > 0 else ""
            whole = math.isfinite(value) and value == round(value) and abs(value) < 1e12
            told = f"{value:,.0f}".replace("-", MINUS) if whole else number(value, 4)
            name = _ONE.get(unit, unit) if value == 1 else unit
            return f"{sign}{told} {plain(name, 20)}".rstrip()


def change(before: float | None, after: float | None, less: str, more: str) -> str:
    """11.4x smaller, 3.2 % larger, the same: how ``after`` compares with ``before``."""
    if before is None or after is None or before <= 0 or after <= 0:
        return NOTHING
    if before == after:
        return "the same"
    factor, word = (before / after, less) if after < before else (after / before, more)
    if factor < 1.095:
        return f"{number(100 * (factor - 1), 2)} % {word}"
    return f"{ratio(factor)} {word}"


def moment(created: str) -> str:
    """``2026-03-14T15:09:26+00:00`` as 2026-03-14 15:09 UTC; other text as it is."""
    try:
        read = datetime.fromisoformat(created)
    except ValueError:
        return plain(created, 40)
    zone = f" {read.tzname()}" if read.tzinfo else ""
    return f"{read:%Y-%m-%d %H:%M}{zone}"


def shortened(digest: str | None) -> str:
    """The first twelve characters of a digest."""
    return plain(digest.removeprefix("sha256:")[:12]) if digest else NOTHING
