"""`rayft prepare --report`: look at a dataset before a run is started on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rayft.data.facts import exact_facts
from rayft.data.prepare import BuiltStores, build_stores
from rayft.data.report.build import DataReport, make_report
from rayft.data.report.write import report_json, write_report
from rayft.errors import DataError, Problem
from rayft.plan.storage import stored_size
from rayft.runtime.available import available_cpus
from rayft.runtime.preflight import input_size
from rayft.spec.data import BadRowsSpec
from rayft.spec.run import RunSpec
from rayft.storage.location import Location
from rayft.store.dataset import open_dataset


class Listener(Protocol):
    """Hears how far a report is."""

    def on_rows(self, done: int, total: int) -> None:
        """Rows of the dataset were prepared."""
        ...

    def on_looked_at(self, done: int, total: int) -> None:
        """Rows were measured."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """What is to be looked at, and where the report goes."""

    spec: RunSpec
    folder: str
    """A path, or an address in an object store."""
    base_dir: Path
    """Folder that relative paths start from."""
    store_root: Location
    """Folder of the row stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenReport:
    """A report, where it lies, and what a run would say to the data."""

    report: DataReport
    files: dict[str, str]
    """Where `json`, `html` and the list of rows (`leave_out`) are."""
    built: bool
    """Whether rows were prepared for it."""
    refusals: tuple[Problem, ...]
    """Why a run would be refused."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain values; the rows are in the files."""
        return {
            "built": self.built,
            "rows": len(self.report.rows),
            "findings": {finding.name: finding.count for finding in self.report.findings},
            "balance": report_json(self.report)["balance"],
            "proposed_to_leave_out": len(self.report.proposals),
            "files": self.files,
            "refusals": [{"where": p.where, "what": p.what, "fix": p.fix} for p in self.refusals],
        }


def report_data(request: ReportRequest, *, use_ray: bool, listener: Listener) -> WrittenReport:
    """Prepare the rows of a spec, look at all of them, and write a report.

    Images that cannot be read are put aside, however many: what a run would refuse is told by the
    report, and is no reason to have none.

    Args:
        request: what is to be looked at.
        use_ray: prepare on the Ray cluster, else in this process.
        listener: hears how far it is.

    Raises:
        DataError: the sources cannot be listed, no row can be read, or the folder not written.
        SpecError: the folder is an address of an unknown kind.
    """
    spec = request.spec
    folder = Location.parse(request.folder, base_dir=request.base_dir, where="--report")
    with _writing(folder):
        # Now, and not after minutes of work.
        (folder / ".rayft").write_bytes(b"")
        (folder / ".rayft").delete()
    size = input_size(spec)
    stores = build_stores(
        spec.data.model_copy(update={"bad_rows": BadRowsSpec(limit=1.0)}),
        base_dir=request.base_dir,
        store_root=request.store_root,
        stored_size=stored_size(spec, image_size=size),
        use_ray=use_ray,
        on_progress=listener.on_rows,
    )
    report = make_report(
        spec.data,
        stores.layout.listings,
        open_dataset(stores.ref),
        threads=available_cpus(),
        on_rows=listener.on_looked_at,
    )
    with _writing(folder):
        files = write_report(report, folder)
    refusals = _refusals(spec, stores)
    return WrittenReport(report=report, files=files, built=stores.built, refusals=refusals)


@contextmanager
def _writing(folder: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}"
        raise DataError(Problem("--report", what, "choose another folder")) from error


def _refusals(spec: RunSpec, stores: BuiltStores) -> tuple[Problem, ...]:
    try:
        exact_facts(spec.data, stores.layout, stores.ref)
    except DataError as error:
        return error.problems
    return ()
