"""docs/comparison.md and its plots, made of the runs that were kept and of nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import Optional

from . import better, goals, plots, strategies
from .jobs import GREEDY_SLOTS, INTERACTIVE_RATE, SLOTS, WORKERS
from .processes import REPOSITORY
from .scenarios import BEHAVIOUR, LIMITS, PER_SECOND, SCENARIOS, WARM_UP, Scenario, scenario
from .summary import Figure, Summary, few, milliseconds, percent, summaries

DOCS = REPOSITORY / "docs"
PLOTS = DOCS / "comparison"
#: What the plot of a limit that changes shows.
COURSES = ("permitd-python", "backoff", "adaptive", "redis")
#: What the README shows beside each other, in which lines of it.
OPENING = ("permitd-python", "backoff", "aiolimiter", "redis", "litellm")
BEGIN, END = "<!-- comparison: written by make compare -->", "<!-- end of the comparison -->"
HEADINGS = (
    "strategy",
    "share of the possible",
    "429s per answer",
    "wasted input",
    "Jain's index",
    "wait p50",
    "p95",
    "p99",
    "failed jobs",
    "CPU per answer",
)


def write(runs: list[dict]) -> None:
    """Writes the page anew."""
    played = {}
    for each in SCENARIOS:
        of_it = [run for run in runs if run["scenario"] == each.name]
        if any(run["strategy"] == "oracle" for run in of_it):
            played[each.name] = summaries(of_it, "concurrency" in each.limits)
    PLOTS.mkdir(exist_ok=True)
    _plots(played)
    template = (REPOSITORY / "lab/compare/page.md").read_text()
    text = template.format(
        workers=WORKERS,
        slots=SLOTS,
        greedy=GREEDY_SLOTS,
        interactive=f"{INTERACTIVE_RATE:g}",
        per_second=PER_SECOND,
        cores=" or ".join(str(cores) for cores in sorted({run["cores"] for run in runs})),
        idle=percent(median(run["idle_share"] for run in runs), 0),
        idle_least=percent(min(run["idle_share"] for run in runs), 0),
        together=max(run["together"] for run in runs),
        latency=BEHAVIOUR["latency_median_ms"],
        limits=_limits(),
        seeds=len({run["seed"] for run in runs}),
        warm_up=f"{WARM_UP:g}",
        strategies=_strategies(),
        scenarios="\n\n".join(_scenario(scenario(name), of) for name, of in played.items()),
        goals=goals.table(played),
        better=better.told(played),
        missing=_missing(played),
    )
    (DOCS / "comparison.md").write_text(text)
    if "known" in played:
        readme = REPOSITORY / "README.md"
        readme.write_text(between_marks(readme.read_text(), _opening(played["known"])))


def between_marks(text: str, new: str) -> str:
    """The text with what stands between the two marks replaced."""
    (before, after), (_, rest) = text.split(BEGIN, 1), text.split(END, 1)
    if END not in after:
        raise ValueError(f"{END} has to stand behind {BEGIN}")
    return f"{before}{BEGIN}\n{new}\n{END}{rest}"


def _opening(of: dict[str, Summary]) -> str:
    """The four numbers with which the README opens, beside what people do today."""
    shown = [strategies.entry(name) for name in OPENING if name in of]
    figures = [
        ("share of what the key allows", lambda one: percent(min(one.share.middle, 1.0), 0)),
        ("429s for each answer", lambda one: few(one.limited_per_answer.middle)),
        ("fairness between services (Jain's index)", lambda one: "-" if one.jain is None else f"{one.jain.middle:.3f}"),
        ("99th percentile of the wait at a screen", lambda one: milliseconds(one.wait(0.99))),
    ]
    lines = ["| | " + " | ".join(entry.title for entry in shown) + " |", "|---|" + "---:|" * len(shown)]
    lines += [f"| {what} | " + " | ".join(figure(of[entry.name]) for entry in shown) + " |" for what, figure in figures]
    return "\n".join(lines)


def _limits() -> str:
    rows = [
        f"| {unit.replace('_', ' ')} | {limit['per_minute']:,} | {limit['burst']:,} |"
        for unit, limit in LIMITS.items()
        if unit != "tokens"
    ]
    return "\n".join(["| limit | in a minute | at once |", "|---|---:|---:|", *rows])


def _strategies() -> str:
    rows = [f"| {entry.title} | {entry.settings} |" for entry in strategies.ENTRIES]
    return "\n".join(["| strategy | settings, and where they come from |", "|---|---|", *rows])


def _scenario(played: Scenario, of: dict[str, Summary]) -> str:
    seeds = of["oracle"].seeds
    lines = [f"### {played.title}", "", f"{played.says} {played.seconds:g} s, {seeds} {'seed' if seeds == 1 else 'seeds'}.", ""]
    changes = len(of["oracle"].adapted)
    adapted = ["adapted after"] if changes == 1 else [f"adapted after change {at + 1}" for at in range(changes)]
    headings = [*HEADINGS, *adapted]
    lines += ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    for entry in strategies.ENTRIES:
        if entry.name in of:
            lines.append("| " + " | ".join([entry.title, *_cells(of[entry.name])]) + " |")
    if played.note:
        lines += ["", played.note]
    if (PLOTS / f"{played.name}.svg").exists():
        lines += ["", f"![{played.title}](comparison/{played.name}.svg)"]
    return "\n".join(lines)


def _cells(of: Summary) -> list[str]:
    return [
        _percent(of.share),
        _spread(of.limited_per_answer, few),
        _percent(of.wasted),
        _spread(of.jain, "{:.3f}".format),
        *(milliseconds(of.wait(part)) for part in (0.5, 0.95, 0.99)),
        _spread(of.failed, "{:.0f}".format),
        _spread(of.cpu_ms, "{:.1f} ms".format),
        *("not" if adapted is None else _spread(adapted, "{:.1f} s".format) for adapted in of.adapted),
    ]


def _percent(figure: Figure) -> str:
    return _spread(figure, percent)


def _spread(figure: Optional[Figure], form: Callable[[float], str]) -> str:
    if figure is None:
        return "-"
    middle, least, most = (form(value) for value in (figure.middle, figure.least, figure.most))
    return middle if least == most else f"{middle} ({least.removesuffix(_unit(least))} to {most.removesuffix(_unit(most))})"


def _unit(text: str) -> str:
    return next((unit for unit in (" %", " ms", " s") if text.endswith(unit)), "")


def _missing(played: dict[str, dict[str, Summary]]) -> str:
    gone = [f"- Not measured yet: {each.title.lower()}." for each in SCENARIOS if each.name not in played]
    for name, of in played.items():
        entries = [entry for entry in strategies.ENTRIES if scenario(name).is_for(entry.name, is_openai=entry.openai)]
        absent = [entry.title for entry in entries if entry.name not in of]
        if absent:
            gone.append(f"- {scenario(name).title}: not measured for {', '.join(absent)}.")
        fewer = [entry.title for entry in entries if entry.name in of and of[entry.name].seeds < of["oracle"].seeds]
        if fewer:
            gone.append(f"- {scenario(name).title}: fewer seeds of {', '.join(fewer)}.")
    return "".join(f"{line}\n" for line in gone)


def _plots(played: dict[str, dict[str, Summary]]) -> None:
    if "known" in played:
        _known(played["known"])
    if "halves" in played:
        _halves(scenario("halves"), played["halves"])
    _everywhere(played)


def _known(of: dict[str, Summary]) -> None:
    shown = [entry for entry in strategies.ENTRIES if entry.name in of]
    rows = [
        (entry.title, _kind(entry), [100 * of[entry.name].share.middle, of[entry.name].limited_per_answer.middle])
        for entry in shown
    ]
    most = max(values[1] for _, _, values in rows)
    panels = [("share of the possible", "{:.0f} %", 100.0), ("429s for each answer", "{:.2f}", max(most, 1.0))]
    _save("share", plots.bars("The same work under the same limits", panels, rows))
    waits = [(entry.title, _kind(entry), [of[entry.name].wait(part) or 0 for part in (0.5, 0.95, 0.99)]) for entry in shown]
    _save("waits", plots.ranges("How long somebody waits at a screen: median, 95th and 99th percentile", waits))


def _halves(played: Scenario, of: dict[str, Summary]) -> None:
    limit, level = [(0.0, float(PER_SECOND))], float(PER_SECOND)
    for change in played.changes:
        at = change.at * played.seconds
        limit.append((at, level))
        level = change.patch["requests"]["per_minute"] / 60
        limit.append((at, level))
    limit.append((played.seconds, level))
    shown = [entry for name in COURSES for entry in [strategies.entry(name)] if name in of]
    lines = [(entry.title, [(at, through) for at, through, _ in of[entry.name].course if at > WARM_UP]) for entry in shown]
    _save(played.name, plots.course("Calls a second that got through, and what the limit allowed", limit, lines))


def _everywhere(played: dict[str, dict[str, Summary]]) -> None:
    rows = []
    for name, of in played.items():
        dots = [(_kind(entry), of[entry.name]) for entry in strategies.ENTRIES if entry.name in of]
        values = [
            [(kind, 100 * one.share.middle) for kind, one in dots],
            [(kind, one.limited_per_answer.middle) for kind, one in dots],
        ]
        rows.append((scenario(name).title, values))
    most = math.ceil(max(value for _, (_, refused) in rows for _, value in refused) / 1.1)
    panels = [("share of the possible", "{:.0f} %", [0, 50, 100]), ("429s for each answer", "{:.0f}", [*range(max(most, 1) + 1)])]
    kinds = [("permitd", "ours"), ("the oracle", "best"), ("what people do today", "other")]
    _save("everywhere", plots.dots("In every scenario", panels, kinds, rows))


def _kind(entry: strategies.Entry) -> str:
    return "best" if entry.name == "oracle" else "ours" if entry.server == "permitd" else "other"


def _save(name: str, svg: str) -> None:
    (PLOTS / f"{name}.svg").write_text(svg)
