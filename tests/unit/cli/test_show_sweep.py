"""The table of a sweep, as people see it."""

import io

from rich.console import Console

from rayft.cli.show_sweep import print_sweep
from rayft.plan.trials import Point
from rayft.runtime.sweep_table import SweepTable, make_table
from tests.unit.runtime.told import Trial, ended, head, made_up, run


def printed(table: SweepTable) -> list[str]:
    file = io.StringIO()
    print_sweep(table, Console(file=file, width=200, soft_wrap=True))
    return file.getvalue().splitlines()


def test_every_trial_is_a_line_and_the_best_comes_first() -> None:
    table = made_up(8)

    lines = printed(table)

    assert table.best is not None
    assert lines[0].split() == [
        "rank",
        "trial",
        "lr",
        "weight_decay",
        "backbone.name",
        "train",
        "validation/accuracy",
        "phase",
        "epoch",
        "seconds",
        "status",
    ]
    first = lines[1].split()
    assert first[:2] == ["1", str(table.best.trial)]
    assert f"{table.best.value:.4f}" in first
    assert first[-4:] == ["1", "6", "30.0", "finished"]
    assert lines[8].split()[0] == "4"
    assert lines[8].endswith("invalid")
    assert {len(line) for line in lines[:1]} <= {len(line) for line in lines[1:9]} | {120}


def test_names_numbers_reasons_and_the_best_are_explained_below() -> None:
    table = made_up(8)

    below = printed(table)[9:]

    assert below[0].startswith("lr is phases.0.lr, weight_decay is optimizer.weight_decay, ")
    assert "train #1: [heads, layer2, layer3, layer4, conv1]" in below
    assert "invalid: trial 4: phases.0.lr: expected less than 1, found 3.0" in below
    assert "failed: trial 6: the node was lost 4 times in a row" in below
    assert "8 trials: 5 finished, 1 stopped, 1 failed, 1 invalid" in below
    assert table.best is not None
    assert f"best: trial {table.best.trial}, validation/accuracy {table.best.value:.4f}" in below
    assert below[-1] == f"checkpoint: {table.best.checkpoint}"


def test_trials_that_end_for_the_same_reason_share_a_line() -> None:
    trials = [Trial(Point(trial=1, values={}))]
    trials += [ended(Point(trial=i, values={}), "stopped", reason="asha") for i in (2, 0)]
    table = make_table(head(), run(), trials)

    lines = printed(table)

    assert "stopped: trials 0, 2: asha" in lines
    assert lines[-1] == "no trial has finished yet, so that none is the best"


def test_text_with_brackets_is_shown_as_it_is() -> None:
    point = Point(trial=0, values={"data.train.path": "[red]rows[/red].csv"})
    trial = ended(point, "failed", reason="cannot read [bold]rows[/bold]")
    table = make_table(head(settings=["data.train.path"]), run(), [trial])

    text = "\n".join(printed(table))

    assert "[red]rows[/red].csv" in text
    assert "cannot read [bold]rows[/bold]" in text


def test_many_trials_are_cut_and_the_cut_is_told() -> None:
    lines = printed(made_up(70))

    assert "and 10 more trials (--json lists all)" in lines
