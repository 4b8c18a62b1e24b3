"""Profiles in words: the list of chips, one chip, two side by side, as text for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chipassay.results.coverage import DATASHEET, cells, coverage
from chipassay.results.evidence import LEVELS
from chipassay.results.profile import Profile
from chipassay.results.profile_diff import TELLING, Difference, GroupSummary, all_figures, summaries
from chipassay.results.profile_figures import SIXTEEN_BIT, Figure, bus_bandwidth, dtype_of_width, inside_links
from chipassay.results.published_beside import measured_beside
from chipassay.results.reference_shapes import LARGE_MESSAGE
from chipassay.results.safe_text import printable
from chipassay.results.units import bandwidth, rate, seconds, size

from .profile_text import Table

BAR = 20
"""Characters of a bar of coverage: one for each 5 %."""
LETTERS = {"measured": "M", "published": "P", "derived": "D", "assumed": "a"}
UNKNOWN_LETTER = "."
LIST_LEGEND = (
    "TF/s: TFLOP/s of a product of 8192 x 8192 x 8192. GB/s: memory, 1 GiB moved. busbw: GB/s, 1 GiB reduced by 8 chips of a node. "
    "%: of the dense datasheet peak (a CPU's: by its clock and lanes; fp16 without tensor cores: of sums in fp16; "
    "products with sums in fp32 reach half of it). "
    "Evidence: share of what one could know of such a chip that is Measured, Published, Derived, assumed, or unknown (.), 5 % a letter."
)
VERDICTS_LEGEND = (
    f"equal: within {100 * TELLING:.0f} % of each other for certain; by rule: one figure stands for both; "
    "higher, lower: B, for certain; unclear: the interval allows either; unsure: no interval, as one side does not know its error. "
    "Evidence of A and of B: Measured, Published, Derived, assumed, or unknown (.)."
)
BEYOND = "beyond what was fitted"
"""As ``profile_figures`` notes it; a star stands for it in tables."""
WIDE_FACTOR = 10.0
"""An interval that reaches further than this either way says only that."""
UNKNOWN = "unknown"
FEW = 2
"""Differences of a group that are told by name."""
SOURCE_LIMIT = 300
"""Characters of a source that are shown; --json has all."""


def value_words(value: float | None, unit: str) -> str:
    """A value in its unit.

    >>> value_words(7.31e14, "FLOP/s"), value_words(2.5e-6, "s"), value_words(None, "W"), value_words(0.762, "")
    ('731.0 TFLOP/s', '2.50 us', 'unknown', '0.76')
    """
    if value is None:
        return UNKNOWN
    known = {"FLOP/s": rate, "B/s": bandwidth, "s": seconds, "B": size}.get(unit)
    return known(value) if known else f"{value:.0f} W" if unit == "W" else f"{value:.2f}"


def share_words(figure: Figure) -> str:
    """Its share of the datasheet's figure, to whole percents; empty where there is none."""
    return "" if figure.share is None else f"{100 * figure.share:.0f} %"


def interval_words(figure: Figure) -> str:
    """The 95 % interval as a share either way; empty where it is not known."""
    if figure.value is None or figure.interval is None or figure.group == DATASHEET:
        return ""
    low, high = (end / figure.value - 1 for end in figure.interval)
    if high > WIDE_FACTOR - 1:
        return f"over {WIDE_FACTOR:.0f} x"
    return f"{100 * low:+.0f} to {100 * high:+.0f} %" if max(-low, high) >= 0.01 else "under 1 %"


def bar(profile: Profile) -> str:
    """Coverage as a line of letters, strongest evidence first; each level that is there has a letter at least."""
    shares = coverage(profile)
    known = {level: max(1, round(BAR * shares[level])) if shares[level] else 0 for level in LEVELS}
    letters = "".join(LETTERS[level] * count for level, count in known.items())
    return letters[:BAR].ljust(BAR, UNKNOWN_LETTER)


def date_of(profile: Profile) -> str | None:
    """The latest date of what was found of this very chip, measured or published; None: none is dated.

    That of a run on another chip, from which a figure was derived, says nothing of this one.
    """
    found = [cell.evidence for cell in cells(profile) if cell.evidence is not None and cell.evidence.level in ("measured", "published")]
    return max((evidence.date[:10] for evidence in found if evidence.date), default=None)


@dataclass(frozen=True)
class Headline:
    """One line of the list: what a chip reaches, each figure with its share of the datasheet's."""

    chip_id: str
    dtype: str | None
    """The 16 bit that the chip multiplies in."""
    sixteen_bit: Figure
    fp8: Figure
    memory: Figure
    busbw_8: Figure


def headline(profile: Profile) -> Headline:
    """The four figures that stand for a chip."""
    own = {(cell.group, cell.name): cell for cell in cells(profile)}
    dtype = dtype_of_width(profile, SIXTEEN_BIT)
    none = Figure("matmul", "16 bit", "FLOP/s")
    return Headline(
        chip_id=profile.chip_id,
        dtype=dtype,
        sixteen_bit=own.get(("matmul", f"matmul {dtype}"), none),
        fp8=own.get(("matmul", "matmul fp8_e4m3"), Figure("matmul", "matmul fp8_e4m3", "FLOP/s")),
        memory=own["memory", "memory"],
        busbw_8=bus_bandwidth(inside_links(profile).get(("all_reduce", 8)), LARGE_MESSAGE, "links", "all_reduce 8"),
    )


def list_table(profiles: Sequence[Profile]) -> Table:
    """Chips one below the other, each figure beside its share of the dense datasheet peak."""
    lines = []
    for profile in profiles:
        line = headline(profile)
        figures = [line.sixteen_bit, line.fp8, line.memory]
        shown = [text for figure in figures for text in (_short(figure), share_words(figure).removesuffix(" %"))]
        # fp16 is told where it stands in for bf16.
        shown[0] += " fp16" if line.dtype == "fp16" and line.sixteen_bit.value is not None else ""
        lines.append((line.chip_id, *shown, _short(line.busbw_8), bar(profile)))
    headings = ("chip", "bf16 TF/s", "%", "fp8 TF/s", "%", "GB/s", "%", "busbw", "evidence")
    return Table("", headings, tuple(lines), tuple(range(1, 8)))


def _short(figure: Figure) -> str:
    """TFLOP/s and GB/s, so that a column has one unit."""
    if figure.value is None:
        return ""
    value = figure.value / (1e12 if figure.unit == "FLOP/s" else 1e9)
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def show_tables(profile: Profile) -> tuple[list[Table], list[str], list[str]]:
    """(tables of what is known by group, what is unknown as lines, the sources as lines)."""
    sources: dict[str, int] = {}
    tables = []
    figures = all_figures(profile)
    for group in dict.fromkeys(figure.group for figure in figures):
        known = [figure for figure in figures if figure.group == group and figure.value is not None]
        if not known:
            continue
        notes, words = _notes([figure.note for figure in known])
        lines = tuple(
            (
                *(figure.name, value_words(figure.value, figure.unit), share_words(figure), interval_words(figure)),
                *(str(figure.points or ""), f"{figure.level} {_cited(figure, sources)}", *at),
            )
            for figure, at in zip(known, notes, strict=True)
        )
        headings = ("", "value", "of peak", "95 % interval", "points", "evidence", "", "at")
        tables.append(Table(group + words, headings, lines, (1, 2, 3, 4)))
    missing = []
    for group in dict.fromkeys(figure.group for figure in figures):
        names = [figure.name for figure in figures if figure.group == group and figure.value is None]
        missing += [f"{group}: {'; '.join(names)}"] if names else []
    return tables, missing, [f"[{number}] {printable(source, SOURCE_LIMIT)}" for source, number in sources.items()]


def _notes(notes: Sequence[str]) -> tuple[list[tuple[str, str]], str]:
    """(a star for BEYOND and the rest of each note, the words for the title): what all lines have in common is told there alone.

    >>> _notes(["1 GiB moved, beyond what was fitted", "1 GiB moved"])
    ([('*', ''), ('', '')], ': 1 GiB moved (*: beyond what was fitted)')
    """
    parts = [note.split(", ") for note in notes]
    stars = ["*" if BEYOND in part else "" for part in parts]
    rest = [", ".join(one for one in part if one != BEYOND) for part in parts]
    common = rest[0] if len(set(rest)) == 1 else ""
    words = f": {common}" * bool(common) + f" (*: {BEYOND})" * any(stars)
    return [(star, "" if common else one) for star, one in zip(stars, rest, strict=True)], words


def held_out_table(profile: Profile) -> Table | None:
    """How far the models of shapes are off on shapes that they were not fitted to; None where none was put to the test."""
    lines = []
    for op, models in (("matmul", profile.products), ("attention", profile.attentions)):
        for dtype, model in models.items():
            tested = model.held_out
            if tested is not None:
                errors = f"{100 * tested.median:.1f} %", f"{100 * tested.p90:.1f} %"
                lines.append((f"{op} {dtype}", *errors, f"{tested.points:,}", f"{tested.smallest_flops / 1e9:.3g} GFLOP"))
    headings = ("", "median error", "90th percentile", "shapes", "from")
    return Table("held out: the models on shapes that their fit had not seen", headings, tuple(lines), (1, 2, 3, 4)) if lines else None


def beside_table(profile: Profile) -> Table | None:
    """Published bus bandwidths next to what links say that were made from something else; None where nobody published one."""
    lines = []
    for one in measured_beside(profile.chip_id, profile.links):
        here = one.derived_bytes_per_s
        ratio = "" if here is None else f"{here / one.measured_bytes_per_s:.2f}"
        lines.append((one.what, value_words(here, "B/s"), value_words(one.measured_bytes_per_s, "B/s"), ratio, one.source))
    headings = ("", "here", "published", "here / published", "by")
    return Table("bus bandwidth beside published figures that it was not made from", headings, tuple(lines), (1, 2, 3)) if lines else None


def coverage_words(profile: Profile) -> str:
    """Coverage as one sentence.

    >>> coverage_words(Profile("cpu-x", "X"))
    'evidence: 0 % measured, 0 % published, 0 % derived, 0 % assumed, 100 % unknown'
    """
    shares = coverage(profile)
    told = [f"{100 * shares[level]:.0f} % {level}" for level in LEVELS]
    return f"evidence: {', '.join(told)}, {100 * (1 - sum(shares.values())):.0f} % unknown"


def diff_tables(found: Sequence[Difference]) -> list[Table]:
    """A table of groups, then one for each group."""
    overview = Table(
        "by group",
        ("group", "ratio", "figures"),
        tuple((one.group, _range(one), _counts(one)) for one in summaries(found)),
    )
    tables = [overview]
    for group in dict.fromkeys(one.group for one in found):
        lines = tuple(_difference_line(one) for one in found if one.group == group)
        tables.append(Table(group, ("", "A", "B", "B / A", "95 % interval", "verdict", "evidence"), lines, (1, 2, 3, 4)))
    return tables


def _difference_line(one: Difference) -> tuple[str, ...]:
    interval = "" if one.low is None or one.high is None else f"{ratio_words(one.low)} to {ratio_words(one.high)}"
    levels = " ".join(LETTERS[side.level] if side.level else UNKNOWN_LETTER for side in (one.a, one.b))
    values = (value_words(side.value, one.unit) for side in (one.a, one.b))
    return (one.name, *values, ratio_words(one.ratio), interval, verdict_words(one), levels)


def _range(one: GroupSummary) -> str:
    if one.ratio_min is None or one.ratio_max is None:
        return ""
    low, high = ratio_words(one.ratio_min), ratio_words(one.ratio_max)
    return low if low == high else f"{low} to {high}"


def _counts(one: GroupSummary) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in one.counts.items())


def closing(a: Profile, b: Profile, found: Sequence[Difference]) -> str:
    """Where B is A's equal and where not, and by how much, in one sentence."""
    equal, other, without = [], [], []
    for group in dict.fromkeys(one.group for one in found if one.ratio is not None):
        own = [one for one in found if one.group == group and one.ratio is not None]
        if all(one.verdict == "equal" for one in own):
            equal.append(group)
        other += _named(group, [one for one in own if one.verdict in ("higher", "lower")])
        without += _named(group, [one for one in own if one.verdict in ("unclear", "unsure")])
    told = [f"equal in {', '.join(equal)}"] if equal else []
    told += [f"differs in {', '.join(other)}"] if other else []
    told += [f"not certain: {', '.join(without)}"] if without else []
    if not told:
        return f"{b.chip_id} and {a.chip_id} have no known figure in common"
    return f"{b.chip_id} over {a.chip_id}: {'; '.join(told)}"


def _named(group: str, found: Sequence[Difference]) -> list[str]:
    """Few differences by their names, many by their group and range."""
    if len(found) <= FEW:
        return [f"{one.name} (x {ratio_words(one.ratio)})" for one in found]
    ratios = [one.ratio for one in found if one.ratio is not None]
    low, high = ratio_words(min(ratios)), ratio_words(max(ratios))
    return [f"{group} (x {low})" if low == high else f"{group} (x {low} to {high})"]


def ratio_words(ratio: float | None) -> str:
    """B over A; empty where there is none.

    >>> ratio_words(1.0), ratio_words(0.0149), ratio_words(13.37), ratio_words(250.0), ratio_words(None)
    ('1.00', '0.015', '13.37', '250', '')
    """
    return "" if ratio is None else f"{ratio:.2f}" if 0.1 <= ratio < 100 else f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.0f}"


def verdict_words(one: Difference) -> str:
    """The verdict, and whether one figure stands for both: then it says what was derived, not that both were measured."""
    return f"{one.verdict} by rule" if one.one_figure and one.group != DATASHEET else one.verdict


def _cited(figure: Figure, sources: dict[str, int]) -> str:
    evidence = figure.evidence
    if evidence is None:
        return ""
    source = f"{evidence.source} ({evidence.date})" if evidence.date else evidence.source
    return f"[{sources.setdefault(source, len(sources) + 1)}]"
