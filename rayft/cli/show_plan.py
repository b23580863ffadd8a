"""A plan for people."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from rich.console import Console
from rich.text import Text

from rayft.plan.facts import ModelFacts
from rayft.plan.ledger import GroupRule
from rayft.plan.prefix import PrefixPlan
from rayft.plan.run_plan import PhasePlan, RunPlan
from rayft.plan.storage import traveling_size
from rayft.spec.data import RGB

_GIB = 2**30


def print_plan(plan: RunPlan, console: Console) -> None:
    """Print what a run will do: data, model, resources, phases."""
    for line in plan_lines(plan):
        console.print(Text(line), soft_wrap=True)
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def plan_lines(plan: RunPlan) -> list[str]:
    """Return the plan as lines of text."""
    lines = [f"{name:<10} {text}" for name, text in _lines(plan)]
    for phase in plan.phases:
        lines += _phase_lines(plan, phase)
    return lines


def _lines(plan: RunPlan) -> list[tuple[str, str]]:
    return [
        ("run", f"{plan.spec.name}, seed {plan.spec.seed}, into {plan.spec.storage_path}"),
        ("data", _data(plan)),
        ("model", _model(plan)),
        *(("maps", text) for text in _maps(plan.model)),
        ("workers", _workers(plan)),
        ("batch", _batch(plan)),
        ("precision", f"{plan.precision}: {plan.precision_reason}"),
        ("order", _order(plan)),
        ("views", _views(plan)),
        ("augment", _augment(plan)),
        ("ingest", f"{plan.ingest.kind}: {plan.ingest.reason}"),
        ("memory", _memory(plan)),
        ("best by", plan.best_metric or "the last epoch (there is no validation split)"),
    ]


def _data(plan: RunPlan) -> str:
    about = "" if plan.data.exact else "about "
    rows = ", ".join(
        f"{about}{sum(counts):,} {split}" for split, counts in plan.data.counts.items()
    )
    return (
        f"{rows} rows; {len(plan.data.classes)} classes; row store "
        f"{about}{plan.data.stored_bytes / 2**20:,.0f} MiB, {plan.data.stored_as}"
        f"{_channels(plan.model.channels)}"
        + (f"; {plan.data.num_left_out:,} left out" if plan.spec.data.leave_out else "")
    )


def _channels(channels: int) -> str:
    if channels == RGB:
        return ""
    return ", grey" if channels == 1 else f", {channels} channels"


def _model(plan: RunPlan) -> str:
    backbone = plan.spec.model.backbone
    changes = [f"without {name}" for name in backbone.drop]
    changes += [f"{each.kind} after {each.after}" for each in backbone.insert]
    changes += [f"stride {stride} in {name}" for name, stride in backbone.strides.items()]
    if backbone.cut_after:
        changes.append(f"cut after {backbone.cut_after}")
    if backbone.pool != "own":
        changes.append(f"pooled by {backbone.pool}")
    if backbone.stochastic_depth is not None:
        changes.append(f"stochastic depth {backbone.stochastic_depth:g}")
    changed = f" ({', '.join(changes)})" if changes else ""
    return (
        f"{plan.model.backbone}{changed} at {plan.model.image_size} px, "
        f"{plan.model.feature_dim} features; {plan.model.weights}"
    )


def _maps(model: ModelFacts) -> Iterator[str]:
    """Say where maps become smaller, for a backbone that makes maps."""
    runs = [
        (size, next(iter(names))[0]) for size, names in groupby(model.maps.items(), itemgetter(1))
    ]
    if runs:
        yield ", ".join(f"{size} px from {name}" for size, name in runs)


def _order(plan: RunPlan) -> str:
    order = plan.order
    text = f"{order.kind}: {order.reason}"
    if order.kind == "windowed":
        windows = -(-order.num_shards // order.shards_per_window)
        text += f"; {_count(windows, 'window')} of {_count(order.shards_per_window, 'shard')}"
    if order.fetched_at_first:
        text += (
            f"; each node fetches about {order.fetched_at_first / 1e9:.2f} GB in the first epoch, "
            f"{order.fetched_later / 1e9:.2f} GB in every later one"
        )
    return text


def _views(plan: RunPlan) -> str:
    spec = plan.spec
    training = ", ".join(each.kind for each in spec.augment) or "each image as it is"
    for mix in spec.mix:
        training += f"; {mix.kind} on {mix.probability:.0%} of the rows"
    if spec.test_time is None:
        return training
    return f"{training}; in evaluation the mean of {spec.test_time.num_views} views of each image"


def _augment(plan: RunPlan) -> str:
    spec = plan.spec
    if not (spec.augment or spec.mix):
        return "nothing to do"
    if spec.augment_on == "host":
        return "on the host, where batches are made, as augment_on says"
    size = traveling_size(spec, image_size=plan.model.image_size)
    return (
        f"on the workers' {plan.resources.device}, as augment_on says; images travel as they are "
        f"stored, at {size} px"
    )


def _workers(plan: RunPlan) -> str:
    resources = plan.resources
    threads = _count(resources.threads_per_worker, "thread")
    if not resources.num_workers:
        return f"the calling process on {resources.device}, {threads}"
    asked = [("CPU", resources.cpus_per_worker, resources.reachable_cpus)]
    if resources.gpus_per_worker:
        asked.append(("GPU", resources.gpus_per_worker, resources.reachable_gpus))
    reserved = " and ".join(
        f"{each * resources.num_workers:g} of {'?' if reach is None else f'{reach:g}'} {name}"
        for name, each, reach in asked
    )
    return (
        f"{resources.num_workers} on {resources.device}, each computes with {threads}; together "
        f"they reserve {reserved} that the cluster reaches"
    )


def _batch(plan: RunPlan) -> str:
    batches = plan.batches
    return (
        f"{batches.global_batch_size} rows a step = {_count(batches.world_size, 'worker')} x "
        f"{_count(batches.shards_per_worker, 'shard')} x "
        f"{_count(batches.rows_per_shard, 'row')}; "
        f"{_count(plan.steps_per_epoch, 'step')} an epoch; reduction {plan.spec.reduction.kind}"
    )


def _memory(plan: RunPlan) -> str:
    need = max(phase.memory.total(plan.batches.rows_per_shard) for phase in plan.phases)
    budget = plan.memory_budget_bytes
    of = f" of {budget / _GIB:.1f} GiB" if budget else ""
    return (
        f"about {need / _GIB:.1f} GiB{of} for a worker; it holds at most "
        f"{_count(plan.max_rows_per_device, 'row')} at once: {plan.rows_reason}"
    )


def _phase_lines(plan: RunPlan, phase: PhasePlan) -> list[str]:
    schedule = plan.spec.phases[phase.index].schedule or plan.spec.schedule
    scaled = f", images of {phase.image_size} px" * (phase.image_size != plan.model.image_size)
    lines = [
        f"phase {phase.index + 1}/{len(plan.phases)}  {phase.name}: "
        f"{_count(phase.num_steps, 'step')} in {_count(phase.num_epochs, 'epoch')}, "
        f"{schedule.kind}{scaled}; {phase.ledger.trainable_params:,} parameters train, "
        f"{phase.ledger.frozen_params:,} are frozen"
    ]
    runs = _runs(phase.ledger.groups)
    width = max(len(names) for names, _, _ in runs)
    for names, num_params, lr in runs:
        rate = f"at {lr:.3g}" if lr else "frozen"
        lines.append(f"    {names:<{width}}  {num_params:>13,} parameters  {rate}")
    if phase.prefix:
        lines += [f"    {line}" for line in _prefix_lines(phase.prefix)]
    if until := plan.spec.phases[phase.index].until:
        epochs = _count(until.patience, "epoch")
        # The first epoch is the best so far, and after the last there is nothing left to save.
        if until.patience + 2 > phase.num_epochs:
            lines.append(f"    too short to end earlier after {epochs} without improvement")
        else:
            lines.append(f"    ends earlier when {until.plateau} has not improved for {epochs}")
    return lines


def _prefix_lines(prefix: PrefixPlan) -> Iterator[str]:
    """Say what becomes of the layers that do not train."""
    what = "features" if prefix.is_whole else f"what {prefix.name} and all below it make"
    choice = f"{what} of each row are kept" if prefix.keeps else f"{what} are made in every epoch"
    yield f"cache: {choice}: {prefix.reason}"
    if prefix.views:
        yield f"  each row has {_count(prefix.views, 'random view')}, which epochs take in turn"
    if prefix.keeps:
        shape = " x ".join(map(str, prefix.shape))
        yield (
            f"  {prefix.bytes / 1e9:,.2f} GB, {shape} numbers a row in {prefix.dtype}; predicted: "
            f"{prefix.fill_s:,.0f} s to make them once, {prefix.kept_epoch_s:,.1f} s an epoch with "
            f"them, {prefix.epoch_s:,.1f} s without"
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _runs(groups: Sequence[GroupRule]) -> list[tuple[str, int, float]]:
    """Put neighbours with the same rate into one line."""
    lines = []
    for lr, members in groupby(groups, key=lambda group: group.lr):
        rules = list(members)
        names = rules[0].name if len(rules) == 1 else f"{rules[0].name} .. {rules[-1].name}"
        lines.append((names, sum(rule.num_params for rule in rules), lr))
    return lines
