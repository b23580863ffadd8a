"""From the YAML of a sweep to its checked spec and the checked run that its trials begin from."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from rayft.errors import Problem, SpecError
from rayft.spec.explain import found_words
from rayft.spec.load import Draft, check, read_draft
from rayft.spec.overrides import check_path, dump_tree, set_value, split_override
from rayft.spec.read import Tree
from rayft.spec.reference import forms_at
from rayft.spec.run import RunSpec
from rayft.spec.space import AnyDomain, Choice, WholeNumber
from rayft.spec.sweep import GridSearch, SweepSpec

MOST_GRID_POINTS = 10_000
_MOST_WRITTEN_OUT = 12
_OF_THE_SWEEP = {
    "name": "trials are named by their number",
    "storage_path": "all trials of a sweep lie in its folder",
    "scaling": "all trials of a sweep reserve the same, or it could not be said what fits",
    "device": "all trials of a sweep reserve the same, or it could not be said what fits",
}
"""Settings of a run that a sweep gives, and why they cannot differ between trials."""


@dataclass(frozen=True, slots=True)
class LoadedSweep:
    """A checked sweep, and the checked run that its trials begin from."""

    sweep: SweepSpec
    """As written, with the settings of its run in place of the name of a file."""
    run: RunSpec
    """The run under the sweep's name and storage path."""
    written: Draft[SweepSpec]
    """Where each setting of the sweep was written."""
    run_written: Draft[RunSpec]
    """Where each setting of the run was written, in a file of its own or inside the sweep."""


def locate(problem: Problem, loaded: LoadedSweep) -> Problem:
    """Put file and line before a path of the sweep, or else of its run; others stay as they are."""
    located = loaded.written.locate(problem)
    return loaded.run_written.locate(problem) if located is problem else located


def load_sweep(path: Path | str, overrides: Sequence[str] = ()) -> LoadedSweep:
    """Read and check a sweep and its run.

    Args:
        path: the YAML file of the sweep.
        overrides: settings of the sweep such as `search.num_trials=8`, of its space such as
            `space.seed=choice([1, 2])`, or of its run such as `run.phases.0.lr=1e-3`.

    Raises:
        SpecError: a file, an override or a setting is wrong; holds one problem for each.
    """
    return _finish(read_draft(SweepSpec, Path(path)), overrides)


def sweep_from_data(data: Mapping[str, object], overrides: Sequence[str] = ()) -> LoadedSweep:
    """Return the sweep that `sweep_data` gave, with overrides.

    Raises:
        SpecError: an override or a setting is wrong.
    """
    tree: dict[str, Tree] = json.loads(json.dumps(data))
    return _finish(Draft(SweepSpec, "the saved sweep", tree), overrides)


def sweep_data(sweep: SweepSpec) -> dict[str, JsonValue]:
    """Return what was written, as JSON values; enough by itself to load the sweep again."""
    data: dict[str, JsonValue] = sweep.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return data


def dump_sweep(sweep: SweepSpec) -> str:
    """Return what was written as YAML, the settings of the run in it."""
    return dump_tree(json.loads(json.dumps(sweep_data(sweep))))


def run_of(sweep: SweepSpec) -> RunSpec:
    """Return the run that trials begin from, under the sweep's name and storage path.

    Raises:
        SpecError: the run is wrong, or still the name of a file, which only `load_sweep` reads.
    """
    if isinstance(sweep.run, str):
        what = f"{sweep.run!r} is a file that was not read"
        raise SpecError(Problem("run", what, "load the sweep with load_sweep"))
    tree = json.loads(json.dumps(sweep.run)) | {
        "name": sweep.name,
        "storage_path": sweep.storage_path,
    }
    run = Draft(RunSpec, "the run of the sweep", tree).checked()
    return _under_the_sweep(run, sweep)


def _finish(draft: Draft[SweepSpec], overrides: Sequence[str]) -> LoadedSweep:
    inner = [override for override in overrides if override.startswith("run.")]
    for override in overrides:
        if override not in inner:
            draft.override(*_split(override), shown=override)
    run_draft = _run_draft(draft)
    for override in inner:
        keys, text = split_override(override.removeprefix("run."), shown=override)
        run_draft.override(keys, text, shown=override)
    return _checked(draft, run_draft)


def _split(override: str) -> tuple[tuple[str, ...], str]:
    """Take `space.phases.0.lr=choice([...])` apart: a path of the run is one key of the space."""
    path, equals, text = override.partition("=")
    if equals and path.strip().startswith("space."):
        return ("space", path.strip().removeprefix("space.")), text
    keys = path.strip().split(".")
    if equals and keys[0] not in SweepSpec.model_fields and forms_at(keys):
        what = f"there is no setting {path.strip()!r} of a sweep"
        raise SpecError(Problem(f"override {override}", what, f"did you mean run.{path.strip()}?"))
    return split_override(override, root=SweepSpec)


def _run_draft(draft: Draft[SweepSpec]) -> Draft[RunSpec]:
    """Return the run as written, in a file of its own or inside the sweep."""
    raw = draft.tree.get("run")
    if isinstance(raw, str):
        return _run_in_file(raw, draft)
    if not isinstance(raw, dict):
        what = f"expected a YAML file or the settings of a run, found {found_words(raw)}"
        raise SpecError(*draft.placed([Problem("run", what, "name the file of a run")]))
    lines = {p.removeprefix("run."): n for p, n in draft.lines.items() if p.startswith("run.")}
    given = {p.removeprefix("run."): o for p, o in draft.given.items() if p.startswith("run.")}
    return Draft(RunSpec, draft.file, dict(raw), lines, given, inside="run.", called="run.")


def _run_in_file(name: str, draft: Draft[SweepSpec]) -> Draft[RunSpec]:
    path = Path(draft.file).parent / name
    if not path.exists():
        fix = "check the path; it is found from the folder of the sweep's file"
        raise SpecError(*draft.placed([Problem("run", f"there is no file {path}", fix)]))
    found = read_draft(RunSpec, path)
    found.called = "run."
    return found


def _checked(draft: Draft[SweepSpec], run_draft: Draft[RunSpec]) -> LoadedSweep:
    sweep, found = check(draft.tree, SweepSpec)
    problems = [_of_the_run(problem) for problem in found]
    # The run's own name and path give way; wrong ones of the sweep are not told a second time.
    run_draft.tree |= {"name": "sweep", "storage_path": sweep.storage_path if sweep else "."}
    run, run_problems = check(run_draft.tree, RunSpec)
    if sweep is not None:
        problems += _problems_of_space(sweep, None if run_problems else run)
    if sweep is not None and run is not None:
        problems += _problems_of_metric(sweep, run)
    if problems or run_problems or sweep is None or run is None:
        raise SpecError(*draft.placed(problems), *run_draft.placed(run_problems))
    run = _under_the_sweep(run, sweep)
    tree = run.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return LoadedSweep(sweep.model_copy(update={"run": tree}), run, draft, run_draft)


def _of_the_run(problem: Problem) -> Problem:
    """Tell of a setting of the run that stands in the sweep, where it belongs."""
    key = problem.where
    if key in SweepSpec.model_fields or not forms_at([key]):
        return problem
    what = f"there is no setting {key!r} of a sweep"
    return Problem(key, what, "move it into the run")


def _under_the_sweep(run: RunSpec, sweep: SweepSpec) -> RunSpec:
    """Return the run with the name of its sweep, and with its metric where it has none."""
    update = {"name": sweep.name}
    is_default = sweep.metric == SweepSpec.model_fields["metric"].default
    if run.best_metric is None and run.data.validation is not None and not is_default:
        update["best_metric"] = sweep.metric
    return run.model_copy(update=update)


def _problems_of_metric(sweep: SweepSpec, run: RunSpec) -> Iterator[Problem]:
    gives_rows = any(path == "data" or path.startswith("data.validation") for path in sweep.space)
    if run.data.validation is None and not gives_rows:
        what = f"{sweep.metric} is never measured: the run has no validation rows"
        yield Problem("metric", what, "set data.validation in the run")


def _problems_of_space(sweep: SweepSpec, run: RunSpec | None) -> Iterator[Problem]:
    for path, domain in sweep.space.items():
        yield from _problems_of_path(path, set(sweep.space), run)
        if isinstance(sweep.search, GridSearch) and not isinstance(domain, Choice):
            yield _not_in_a_grid(path, domain)
    if isinstance(sweep.search, GridSearch):
        choices = [domain for domain in sweep.space.values() if isinstance(domain, Choice)]
        size = math.prod(len(domain.choice) for domain in choices)
        if size > MOST_GRID_POINTS:
            what = f"the grid has {size:,} points, and at most {MOST_GRID_POINTS:,} can be planned"
            yield Problem("search", what, "use {kind: random, num_trials: 100}, or fewer choices")


def _problems_of_path(path: str, paths: set[str], run: RunSpec | None) -> Iterator[Problem]:
    """Tell whether a path leads somewhere, in any run or, where one is given, in this one."""
    keys, where = tuple(path.split(".")), f"space.{path}"
    if keys[0] in _OF_THE_SWEEP:
        yield Problem(where, f"{_OF_THE_SWEEP[keys[0]]}", "remove it")
        return
    if keys[0] == "run" and keys[1:] and forms_at(keys[1:]):
        what = "paths of the space begin inside the run"
        yield Problem(where, what, f"did you mean {'.'.join(keys[1:])}?")
        return
    try:
        check_path(keys, where=where)
        outer = {".".join(keys[:length]) for length in range(1, len(keys))}
        if run is not None and not outer & paths:
            tree = run.model_dump(mode="json", by_alias=True, exclude_unset=True)
            set_value(tree, keys, None, where=where)
    except SpecError as error:
        yield from error.problems


def _not_in_a_grid(path: str, domain: AnyDomain) -> Problem:
    fix = "write choice([...]), or use search: {kind: random, num_trials: 20}"
    if isinstance(domain, WholeNumber) and domain.ends[1] - domain.ends[0] < _MOST_WRITTEN_OUT:
        values = [str(value) for value in range(domain.ends[0], domain.ends[1] + 1)]
        fix = f"write choice([{', '.join(values)}])"
    name = next(iter(domain.model_dump(by_alias=True)))
    return Problem(f"space.{path}", f"a grid needs a list of values, and this is {name}", fix)
