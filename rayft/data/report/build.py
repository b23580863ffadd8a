"""From a prepared dataset to everything that is found in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rayft.data.listing import Listing
from rayft.data.report.alike import alike_findings, alike_proposals
from rayft.data.report.classes import Balance, ClassFigures, balance, class_figures, small_classes
from rayft.data.report.contents import Contents, find_contents
from rayft.data.report.files import unreadable_rows, wrong_types
from rayft.data.report.finding import Finding, Proposal, first_of_each
from rayft.data.report.measure import Measures, measure_rows
from rayft.data.report.pictures import picture_findings, picture_proposals
from rayft.data.report.rows import ReportRows, RowName, row_name
from rayft.errors import DataError, Problem
from rayft.plan.facts import SplitName
from rayft.spec.data import DataSpec
from rayft.store.dataset import Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What was found in a dataset."""

    rows: ReportRows
    """The rows that were looked at: readable, and not left out before."""
    findings: tuple[Finding, ...]
    """All kinds, in their order, those without a row included."""
    figures: tuple[ClassFigures, ...]
    """Of all rows, and then of each class."""
    balance: Balance
    proposals: tuple[Proposal, ...]
    """Rows to leave out, for a person to decide about."""
    left_out_before: tuple[tuple[RowName, RowName | None], ...]
    """Rows that `data.leave_out` names already, each with the row of its content that stays."""


def make_report(
    data: DataSpec,
    sources: Mapping[SplitName, Listing],
    dataset: Dataset,
    *,
    threads: int,
    on_rows: Callable[[int, int], None],
) -> DataReport:
    """Look at every row of a dataset.

    Args:
        data: the `data:` section.
        sources: the dataset's sources, by the splits that name them.
        dataset: the dataset, opened.
        threads: threads that decode encoded rows; they change nothing.
        on_rows: called with rows measured and rows in all.

    Raises:
        DataError: there is no row to look at, or a store is damaged.
    """
    rows = ReportRows.of(dataset, list(sources))
    if not len(rows):
        what = "no source has a row that can be read and is not left out"
        raise DataError(Problem("data.train", what, "check the files, and `data.leave_out`"))
    measures = _measure(rows, threads=threads, on_rows=on_rows)
    contents = find_contents(rows, measures)
    figures = class_figures(rows, measures)
    findings = (
        unreadable_rows(dataset, sources),
        wrong_types(dataset, sources),
        *alike_findings(contents),
        *picture_findings(rows, measures),
        small_classes(data, figures),
    )
    proposals = first_of_each([*alike_proposals(contents), *picture_proposals(measures)])
    return DataReport(
        rows=rows,
        findings=findings,
        figures=figures,
        balance=balance(figures),
        proposals=tuple(proposals),
        left_out_before=_left_out_before(dataset, rows, contents),
    )


def _measure(rows: ReportRows, *, threads: int, on_rows: Callable[[int, int], None]) -> Measures:
    done = 0

    def count(number: int) -> None:
        nonlocal done
        done += number
        on_rows(done, len(rows))

    return Measures.joined(
        [
            measure_rows(store, rows.row[rows.rows_of(place)], threads=threads, on_rows=count)
            for place, store in enumerate(rows.stores)
        ]
    )


def _left_out_before(
    dataset: Dataset, rows: ReportRows, contents: Contents
) -> tuple[tuple[RowName, RowName | None], ...]:
    kept = dict(zip(rows.content[contents.keepers].tolist(), contents.keepers, strict=True))
    found: list[tuple[RowName, RowName | None]] = []
    for source, store in zip(rows.sources, rows.stores, strict=True):
        for row in dataset.ref.splits[source].left_out:
            name = row_name(store, row, source=source, split=source)
            like = kept.get(int(store.content_hashes[row]))
            found.append((name, None if like is None else rows.name(int(like))))
    return tuple(found)
