"""The results as Markdown: who, on what machine, how fast against careful, and whether the values are right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

from .limits import Limit
from .rounds import Result, Row
from .stopwatch import Timing

TOLERANCE = 1e-6  # of a right value, relative to the naive loop in float64
REFERENCE, PLAIN = "careful", "ours, plain"
COLUMNS = (
    "",
    "ms a point",
    "CPU ms a point",
    "preparation, s (first)",
    "{points:,} points, s",
    "evaluated",
    "× careful",
    "× careful, CPU",
    "of the float32 limit",
    "values",
)


def markdown(
    about: Mapping[str, str], limits: Sequence[Limit], results: Sequence[Result], notes: Mapping[str, str]
) -> str:
    """The whole report.

    Args:
        about: what the figures hold for: machine, versions, date, how it was run.
        limits: the machine's own.
        results: one a workload.
        notes: by contender.
    """
    best = max((limit.rate for limit in limits if "float32" in limit.name and limit.unit == "operations"), default=None)
    parts = [_rows(("", ""), about.items())]
    if results:
        parts += ["## In short", summary(results, best)]
    if limits:
        parts += ["## The limits of this machine", _limits(limits)]
    for result in results:
        parts += [f"## {result.name}: {result.title}; {result.samples:,} samples", landscape_table(result, best)]
    parts.append("\n".join(f"- **{name}** {note}." for name, note in notes.items() if note))
    return "\n\n".join(part for part in parts if part) + "\n"


def summary(results: Sequence[Result], best: float | None = None) -> str:
    """One row a workload: how many times faster than careful each contender is, and what a point costs with ours."""
    first = next((row.name for row in results[0].rows), "")
    names = dict.fromkeys(row.name for result in results for row in result.rows if row.rounds)
    names = [name for name in names if name not in (first, REFERENCE, PLAIN)]
    lines = []
    for result in results:
        rows = {row.name: row for row in result.rows}
        careful, own = rows.get(REFERENCE, Row(REFERENCE)), rows.get(first, Row(first))
        lines.append([
            f"{result.name}: {result.title}; {result.samples:,} samples",
            *(_short(careful, rows.get(name, Row(name))) for name in (first, *names)),
            figure(1e3 * _median(own, _total) / result.points) if own.rounds else "–",
            _share(own, result, best),
        ])  # fmt: skip
    return _rows(("× careful", first, *names, f"ms a point, {first}", "of the float32 limit"), lines)


def _short(careful: Row, row: Row) -> str:
    if row.failure:
        return "failed"
    if not row.rounds:
        return "–"
    return _ratio(careful, row, _total) + ("" if _is_right(row) else ", wrong")


def landscape_table(result: Result, best: float | None = None) -> str:
    """One workload; ratios are the medians of the ratios within each round.

    Args:
        result: of `rounds.compete`.
        best: operations a second that the machine can do.
    """
    careful = next((row for row in result.rows if row.name == REFERENCE), Row(REFERENCE))
    header = [column.format(points=result.points) for column in COLUMNS]
    return _rows(header, [_row(row, careful, result, best) for row in result.rows])


def _row(row: Row, careful: Row, result: Result, best: float | None) -> list[str]:
    if not row.rounds:
        return [row.name, *["–"] * (len(COLUMNS) - 2), f"failed: {row.failure}"]
    extrapolated = "" if all(timing.complete for timing in row.rounds) else "≈ "
    first = f" ({figure(row.rounds[0].wall.preparation)})"
    return [
        row.name,
        figure(1e3 * _median(row, lambda timing: timing.wall.point)),
        figure(1e3 * _median(row, lambda timing: timing.cpu.point)),
        figure(_median(row, lambda timing: timing.wall.preparation)) + first,
        extrapolated + figure(_median(row, _total)),
        f"{row.points or result.points:,}",
        _ratio(careful, row, _total),
        _ratio(careful, row, lambda timing: timing.cpu.total),
        _share(row, result, best),
        _verdict(row),
    ]


def _total(timing: Timing) -> float:
    return timing.wall.total


def _share(row: Row, result: Result, best: float | None) -> str:
    """Of the machine's limit: the operations of plain forward passes at all points."""
    total = _median(row, _total) if row.rounds else 0.0
    return f"{100 * result.flops * result.points / total / best:.0f} %" if best and total else "–"


def _median(row: Row, what: Callable[[Timing], float]) -> float:
    return median(what(timing) for timing in row.rounds)


def _ratio(careful: Row, row: Row, what: Callable[[Timing], float]) -> str:
    """How many times faster than careful."""
    pairs = [(what(a), what(b)) for a, b in zip(careful.rounds, row.rounds, strict=False)]
    ratios = [theirs / own for theirs, own in pairs if own]
    return figure(median(ratios)) if ratios else "–"


def _verdict(row: Row) -> str:
    if row.failure:
        return f"failed: {row.failure}"
    if row.error is None:
        return "not checked"
    of = "" if row.tolerance is None else " of the range"
    return f"right, {row.error:.0e}{of}" if _is_right(row) else f"**wrong, {row.error:.0e}{of}**"


def _is_right(row: Row) -> bool:
    return row.error is None or row.error <= (row.tolerance or TOLERANCE)


def _limits(limits: Sequence[Limit]) -> str:
    rows = [
        (
            limit.name,
            f"{figure(limit.rate / 1e9)} · 10⁹ {limit.unit}",
            "" if limit.error is None else f"{limit.error:.0e}",
        )
        for limit in limits
    ]
    return _rows(("", "a second", "largest error, of the largest value"), rows)


def figure(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> figure(0.01234), figure(9.876), figure(123.4), figure(56789.0), figure(0)
    ('0.0123', '9.88', '123', '56,789', '0')
    """
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = f"{value:.3g}"
    return digits if "e" not in digits else f"{value:.1e}"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in line)} |" for line in lines
    )
