"""The report as one page: no script, no request, its plots as SVG; whatever is shown is text and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ruvllm.cli.console import plain
from ruvllm.cli.report.stats import Estimate, Report, Row

_MOST_BARS, _MOST_DAYS = 12, 60
_WIDTH, _LABEL, _BAR = 720, 220, 22  # pixels
_NUMBERS = ("Asks", "Cost", "Tokens", "Good / bad", "Saves")
_STYLE = """
:root{color-scheme:light dark;--ink:#1f2933;--soft:#697586;--blue:#2b6cb0;--rust:#c05621;--line:#d5dbe1;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--soft:#9aa5b1;--blue:#63a4e8;--rust:#e0854f;--line:#3b4754;
--paper:#14191f}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:760px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}p.soft,td.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td{overflow-wrap:anywhere}
svg{max-width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
.blue{fill:var(--blue)}.rust{fill:var(--rust)}.whisker{stroke:var(--ink);stroke-width:1.5}
.big{display:flex;flex-wrap:wrap;gap:1rem}
.big div{flex:1 1 10rem;border:1px solid var(--line);border-radius:8px;padding:.75rem}
.big b{display:block;font-size:1.4rem}
"""


_METHOD = (
    "Intervals hold in 95 of 100 resamples of whole sessions. A large model's ask that did not fail and that routing "
    "gives to a small one is priced at the small one's prices with the same tokens; with the chance that the small "
    "model fails, its whole cost as it was comes on top. That chance is read from the ask's words and scaled by how "
    "often small models failed here, where 20 outcomes say so. Assumed are the same tokens on both models, and that a "
    "failure is noticed and costs nothing else."
)


def page(found: Report) -> str:
    """The whole HTML."""
    estimates = found.estimates()
    cards = [
        ("spent", _dollars(estimates["cost"])),
        ("a small model would have saved", _dollars(estimates["saved"])),
        ("of what was spent", _percent(estimates["share"])),
        ("delegations missing, of asks", _percent(estimates["missing"])),
        ("delegations wrong", _percent(estimates["wrong"])),
    ]
    big = "".join(
        f"<div>{escape(name)}<b>{value}</b><span>{interval}</span></div>" for name, (value, interval) in cards
    )
    days = sorted(day for day in found.days if day[0] != "(")[-_MOST_DAYS:]
    parts = [
        f"<h1>What coding agents cost here</h1><p>{found.sessions:,} sessions, {found.asks:,} asks.</p>",
        f'<div class="big">{big}</div>',
        "<h2>Spent and saved</h2>", _interval_plot(estimates["cost"], estimates["saved"]),
        "<h2>By day</h2>", _columns([(day, found.days[day].cost) for day in days]),
        "<h2>By model</h2>", _bars(found.models), _table("Model", found.models),
        "<h2>Who took it</h2>", _bars(found.agents), _table("Agent", found.agents),
        "<h2>By project</h2>", _bars(found.projects),
        "<h2>Delegations that routing is sure of otherwise</h2>",
        _rows(("From", "To", "Asks"), [(a, b, f"{n:,}") for (a, b), n in found.wrong.most_common(20)]
              + [("(none)", name, f"{n:,}") for name, n in found.missing.most_common(20)]),
        "<h2>Asks for a small model</h2>",
        _rows(("Ask", "Model", "Smaller", "Saves"), [(t, m, s, f"${v:.3f}") for t, m, s, v in found.examples()]),
        "<h2>How it is known whether an ask worked out</h2>",
        _rows(("Signal", "Asks"), [(name, f"{n:,}") for name, n in found.signals.most_common()]),
        f'<p class="soft">{escape(_METHOD)}</p>',
    ]  # fmt: skip
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ruvllm report</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="viewport" '
        f'content="width=device-width"><style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )


def _interval_plot(cost: Estimate, saved: Estimate) -> str:
    most = max(cost.high, saved.high, 1e-9)
    scale = (_WIDTH - _LABEL - 90) / most
    rows = []
    for number, (name, one, colour) in enumerate((("spent", cost, "rust"), ("saved", saved, "blue"))):
        y, end = number * 2 * _BAR + 4, _LABEL + scale * one.value
        low, high, middle = _LABEL + scale * one.low, _LABEL + scale * one.high, number * 2 * _BAR + 4 + _BAR / 2
        rows.append(
            f'<text x="0" y="{middle + 4}">{name}</text><rect class="{colour}" x="{_LABEL}" y="{y}" '
            f'width="{end - _LABEL:.1f}" height="{_BAR}"/><line class="whisker" x1="{low:.1f}" x2="{high:.1f}" '
            f'y1="{middle}" y2="{middle}"/><text x="{high + 6:.1f}" y="{middle + 4}">${one.value:,.2f}</text>'
        )
    return _svg(4 * _BAR, "Spent and saved, with intervals", "".join(rows))


def _bars(rows: Mapping[str, Row]) -> str:
    listed = sorted(rows.items(), key=lambda item: -item[1].cost)[:_MOST_BARS]
    most = max((row.cost for _, row in listed), default=0.0) or 1.0
    drawn = []
    for number, (name, row) in enumerate(listed):
        y, width = number * (_BAR + 6), (_WIDTH - _LABEL - 90) * row.cost / most
        label = plain(name or "(the session itself)")
        drawn.append(
            f'<text x="0" y="{y + 15}">{_cut(label)}</text><rect class="blue" x="{_LABEL}" y="{y}" width="{width:.1f}" '
            f'height="{_BAR}"><title>{escape(label)}</title></rect>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 15}">${row.cost:,.2f}</text>'
        )
    return _svg(max(1, len(listed)) * (_BAR + 6), "Cost in US dollars", "".join(drawn))


def _columns(days: Sequence[tuple[str, float]]) -> str:
    most, high = max((cost for _, cost in days), default=0.0) or 1.0, 140
    step = _WIDTH / max(len(days), 1)
    drawn = list[str]()
    for number, (day, cost) in enumerate(days):
        x, tall, wide = number * step, high * cost / most, max(step - 2, 1)
        drawn.append(
            f'<rect class="blue" x="{x:.1f}" y="{high - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}">'
            f"<title>{escape(day)}: ${cost:,.2f}</title></rect>"
        )
    if days:
        drawn.append(f'<text x="0" y="{high + 16}">{escape(days[0][0])}</text>')
        drawn.append(
            f'<text x="{_WIDTH}" y="{high + 16}" text-anchor="end">{escape(days[-1][0])}, most ${most:,.2f}</text>'
        )
    return _svg(high + 20, "Cost by day", "".join(drawn))


def _svg(height: float, label: str, inner: str) -> str:
    box = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}"'
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{inner}</svg>'


def _table(what: str, rows: Mapping[str, Row]) -> str:
    listed = sorted(rows.items(), key=lambda item: -item[1].cost)[:30]
    cells = [
        (name or "(the session itself)", f"{row.asks:,}", f"${row.cost:,.2f}", f"{sum(row.tokens):,}",
         f"{row.good:,} / {row.bad:,}", ", ".join(name for name, _ in row.routed.most_common(3)))
        for name, row in listed
    ]  # fmt: skip
    names = (what, "Asks", "Cost", "Tokens", "Good / bad", "Routed to")
    last = None if any(row.routed for row in rows.values()) else -1  # of models there is nothing to route
    return _rows(names[:last], [cell[:last] for cell in cells])


def _rows(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = [" class=n" if name in _NUMBERS else "" for name in names]
        return "".join(f"<{tag}{kind}>{escape(plain(text))}</{tag}>" for kind, text in zip(kinds, values, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', names)}</tr>{body}</table>" if body else '<p class="soft">None.</p>'


def _cut(text: str) -> str:
    return escape(text if len(text) <= 30 else text[:29] + "…")


def _dollars(one: Estimate) -> tuple[str, str]:
    return f"${one.value:,.2f}", f"${one.low:,.2f} to ${one.high:,.2f}"


def _percent(one: Estimate) -> tuple[str, str]:
    return f"{one.value:.1%}", f"{one.low:.1%} to {one.high:.1%}"
