import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from rayft.errors import CheckpointError
from rayft.plan.trials import Point
from rayft.runtime.sweep import Sweep
from rayft.runtime.sweep_record import read_state
from tests.unit.runtime.sweeping import (
    ACCURACY,
    Asha,
    Kept,
    Listed,
    Written,
    at,
    begin_next,
    fused,
    lone,
    make_sweep,
    names,
    over,
    stage,
    statuses,
)


def test_every_point_is_handed_out_once_and_then_the_sweep_is_over() -> None:
    sampler = Listed(3)
    sweep = make_sweep(Kept(), sampler=sampler)

    handed = names(sweep)
    before = sweep.is_over
    for trial in range(3):
        sweep.end(f"trial-{trial:04d}", [over(trial, value=trial / 10)])

    assert handed == ["trial-0000", "trial-0001", "trial-0002"]
    assert not before
    assert sweep.next_unit() is None
    assert sweep.is_over
    assert statuses(sweep) == ["finished"] * 3
    assert sampler.told == [(0, 0.0), (1, 0.1), (2, 0.2)]


def test_points_are_as_the_sampler_gave_them() -> None:
    sweep = make_sweep(Kept())
    names(sweep)

    points = [state.point for state in sweep.state().trials.values()]

    assert [dict(point.values) for point in points] == [{}, {"lr": 0.1}, {"lr": 0.2}]
    assert [sweep.point(trial) for trial in range(3)] == points


def test_a_point_that_the_spec_refuses_is_over_at_once_with_the_reason() -> None:
    sampler = Listed(3)
    planner = Written(problems={1: "phases.0.lr: must be above 0"})
    sweep = make_sweep(Kept(), sampler=sampler, planner=planner)

    handed = names(sweep)

    ending = sweep.state().trials[1].ending
    assert handed == ["trial-0000", "trial-0002"]
    assert ending is not None
    assert (ending.status, ending.reason) == ("invalid", "phases.0.lr: must be above 0")
    assert sampler.told == [(1, None)]


def test_a_sweep_of_points_that_are_all_refused_ends() -> None:
    planner = Written(problems=dict.fromkeys(range(9), "no"))
    sweep = make_sweep(Kept(), sampler=9, planner=planner, ask_at_once=2)

    assert sweep.next_unit() is None
    assert sweep.is_over


def test_a_sampler_that_learns_is_asked_as_places_become_free() -> None:
    sampler = Listed(5)
    sweep = make_sweep(Kept(), sampler=sampler, ask_at_once=2)

    first = names(sweep)
    sweep.end("trial-0001", [over(1)])
    second = names(sweep)
    sweep.end("trial-0000", [over(0)])
    sweep.end("trial-0002", [over(2)])
    third = names(sweep)

    assert first == ["trial-0000", "trial-0001"]
    assert second == ["trial-0002"]
    assert third == ["trial-0003", "trial-0004"]


def test_what_failed_tells_the_sampler_no_value() -> None:
    sampler = Listed(2)
    sweep = make_sweep(Kept(), sampler=sampler)
    names(sweep)

    sweep.end("trial-0000", [over(0, "failed")])
    sweep.end("trial-0001", [over(1, "stopped", 0.3)])

    assert sampler.told == [(0, None), (1, 0.3)]


def test_a_metric_that_is_no_number_tells_the_sampler_no_value() -> None:
    sampler = Listed(1)
    sweep = make_sweep(Kept(), sampler=sampler)
    names(sweep)

    sweep.end("trial-0000", [over(0, value=math.nan)])

    assert sampler.told == [(0, None)]


def test_members_of_a_unit_are_compared_together_and_with_those_before() -> None:
    planner = Written([fused(0, 1, 2), lone(3)])
    sweep = make_sweep(Kept(), sampler=4, planner=planner, rule=Asha())
    first, second = begin_next(sweep), begin_next(sweep)

    together = sweep.report(first.name, at(1, {0: 0.1, 1: 0.2, 2: 0.3}))
    late = sweep.report(second.name, at(1, {3: 0.25}))

    assert (first.kind, first.trials) == ("fused", (0, 1, 2))
    assert together == {0, 1}
    assert late == {3}


def test_an_epoch_reported_again_gets_the_same_answer_and_leaves_no_trace() -> None:
    journal = Kept()
    sweep = make_sweep(journal, planner=Written([fused(0, 1, 2)]), rule=Asha())
    unit = begin_next(sweep)
    first = sweep.report(unit.name, at(1, {0: 0.1, 1: 0.2, 2: 0.3}))
    lines = len(journal.lines)

    # A resumed run may differ in the last bits; what was said first stands.
    again = sweep.report(unit.name, at(1, {0: 0.9, 1: 0.2, 2: 0.3}))

    assert again == first == {0, 1}
    assert len(journal.lines) == lines
    assert sweep.state().trials[0].reports[0].metrics == {ACCURACY: 0.1}


def test_a_trial_that_was_to_stop_stops_at_the_same_epoch_after_a_resume() -> None:
    journal = Kept()
    rule = Asha(grace=2)
    planner = Written([fused(0, 1, 2)])
    sweep = make_sweep(journal, planner=planner, rule=rule)
    unit = begin_next(sweep)
    for epoch in (1, 2):
        sweep.report(unit.name, at(epoch, {0: 0.1, 1: 0.2, 2: 0.3}))

    sweep = make_sweep(journal, planner=planner, rule=rule)
    unit = begin_next(sweep)
    first = sweep.report(unit.name, at(1, {0: 0.1, 1: 0.2, 2: 0.3}))
    second = sweep.report(unit.name, at(2, {0: 0.1, 1: 0.2, 2: 0.3}))

    assert first == set()
    assert second == {0, 1}


@pytest.mark.parametrize(("steps_done", "stopped"), [(10, set()), (20, {0, 1}), (25, {0, 1})])
def test_a_trial_that_has_a_checkpoint_where_it_was_to_stop_trains_no_more(
    steps_done: int, stopped: set[int]
) -> None:
    journal = Kept()
    planner = Written([fused(0, 1, 2)])
    sweep = make_sweep(journal, planner=planner, rule=Asha(grace=2))
    sweep.report(begin_next(sweep).name, at(2, {0: 0.1, 1: 0.2, 2: 0.3}))

    sweep = make_sweep(journal, planner=planner, rule=Asha(grace=2))
    unit = sweep.next_unit()
    assert unit is not None

    assert sweep.begin(unit.name, dict.fromkeys((0, 1, 2), steps_done)) == stopped


def test_an_ending_stands_and_a_second_one_is_not_heard() -> None:
    journal = Kept()
    sampler = Listed(1)
    sweep = make_sweep(journal, sampler=sampler)
    names(sweep)
    sweep.end("trial-0000", [over(0, value=0.4)])
    lines = len(journal.lines)

    sweep.end("trial-0000", [over(0, "failed")])

    assert statuses(sweep) == ["finished"]
    assert len(journal.lines) == lines
    assert sampler.told == [(0, 0.4)]


def test_a_status_that_is_no_end_ends_nothing() -> None:
    sweep = make_sweep(Kept())
    names(sweep)

    with pytest.raises(ValueError, match="no end"):
        sweep.end("trial-0000", [over(0, "waiting")])


def test_a_fused_unit_is_over_with_its_last_member() -> None:
    sweep = make_sweep(Kept(), planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)

    sweep.end(unit.name, [over(1, "stopped")])
    running = dict(sweep.state().running)
    sweep.end(unit.name, [over(0), over(2)])

    assert running == {"fused-0000": (0, 1, 2)}
    assert sweep.state().running == {}
    assert statuses(sweep) == ["finished", "stopped", "finished"]


def test_what_is_left_of_a_fused_unit_goes_on_under_the_name_of_its_first_trial() -> None:
    journal = Kept()
    planner = Written([fused(0, 1, 2)])
    sweep = make_sweep(journal, planner=planner)
    sweep.end(begin_next(sweep).name, [over(0, "stopped")])

    unit = make_sweep(journal, planner=planner).next_unit()

    assert unit is not None
    assert (unit.name, unit.trials, unit.kind) == ("fused-0001", (1, 2), "fused")


def test_trials_wait_for_what_they_share() -> None:
    plan = [stage("a", 0, 1, 2), fused(0, 1, begins_from="stage-a"), lone(2, begins_from="stage-a")]
    sweep = make_sweep(Kept(), planner=Written(plan))

    first = names(sweep)
    sweep.report("stage-a", at(1, {0: 0.5, 1: 0.5, 2: 0.5}))
    sweep.end("stage-a", [])
    second = [sweep.next_unit(), sweep.next_unit()]

    assert first == ["stage-a"]
    assert second == plan[1:]
    assert sweep.state().trials[2].reports == tuple(at(1, {2: 0.5}))


def test_what_a_failed_stage_was_to_share_is_done_by_each_trial_alone() -> None:
    plan = [
        stage("a", 0, 1, 2),
        stage("b", 0, 1, begins_from="stage-a", stops_before=2),
        fused(0, 1, begins_from="stage-b"),
        lone(2, begins_from="stage-a"),
    ]
    sweep = make_sweep(Kept(), planner=Written(plan))
    names(sweep)

    sweep.end("stage-a", [over(trial, "failed") for trial in range(3)])

    assert [sweep.next_unit() for _ in range(4)] == [lone(0), lone(1), lone(2), None]
    assert statuses(sweep) == ["running"] * 3


def test_a_stage_within_a_stage_waits_for_it() -> None:
    plan = [
        lone(2, begins_from="stage-a"),
        fused(0, 1, begins_from="stage-b"),
        stage("b", 0, 1, begins_from="stage-a", stops_before=2),
        stage("a", 0, 1, 2),
    ]
    sweep = make_sweep(Kept(), planner=Written(plan))

    first = names(sweep)
    sweep.end("stage-a", [])
    second = names(sweep)
    sweep.end("stage-b", [])
    third = names(sweep)

    assert first == ["stage-a"]
    assert second == ["trial-0002", "stage-b"]
    assert third == ["fused-0000"]


def test_trials_that_are_stopped_in_a_stage_are_over() -> None:
    plan = [stage("a", 0, 1), fused(0, 1, begins_from="stage-a")]
    sweep = make_sweep(Kept(), sampler=2, planner=Written(plan))
    names(sweep)

    sweep.end("stage-a", [over(0, "stopped"), over(1, "stopped")])

    assert sweep.next_unit() is None
    assert sweep.is_over
    assert statuses(sweep) == ["stopped", "stopped"]


def test_a_stage_whose_trials_were_all_stopped_goes_on_for_a_later_one() -> None:
    plan = [stage("a", 0, 1), *(lone(trial, begins_from="stage-a") for trial in range(2))]
    sweep = make_sweep(Kept(), sampler=2, planner=Written(plan), ask_at_once=1)
    begin_next(sweep)
    sweep.report("stage-a", at(1, {0: 0.4}))
    sweep.end("stage-a", [over(0, "stopped")])

    handed = names(sweep)
    # It resumes after the first epoch, and reports the second.
    sweep.report("stage-a", at(2, {1: 0.5}))

    assert handed == ["stage-a"]
    assert sweep.state().trials[1].reports == (*at(1, {1: 0.4}), *at(2, {1: 0.5}))


def test_a_trial_asked_for_later_takes_over_what_its_stage_reported() -> None:
    journal = Kept()
    plan = [stage("a", 0, 1), *(lone(trial, begins_from="stage-a") for trial in range(3))]
    sweep = make_sweep(journal, sampler=2, planner=Written(plan))
    names(sweep)
    sweep.report("stage-a", at(1, {0: 0.4, 1: 0.4}))
    sweep.end("stage-a", [])
    names(sweep)
    sweep.report("trial-0000", at(1, {0: 0.6}, phase=1))

    sweep = make_sweep(journal, sampler=3, planner=Written(plan))
    handed = names(sweep)

    assert handed == ["trial-0000", "trial-0001", "trial-0002"]
    assert sweep.state().trials[2].reports == tuple(at(1, {2: 0.4}))


def test_a_trial_that_has_begun_alone_does_not_go_back_for_what_it_could_share() -> None:
    journal = Kept()
    sweep = make_sweep(journal, sampler=1)
    begin_next(sweep)

    plan = [stage("a", 0, 1), lone(0, begins_from="stage-a"), lone(1, begins_from="stage-a")]
    sweep = make_sweep(journal, sampler=2, planner=Written(plan))

    assert [sweep.next_unit() for _ in range(3)] == [stage("a", 1), lone(0), None]


def test_a_trial_that_no_unit_holds_is_done_alone() -> None:
    sweep = make_sweep(Kept(), planner=Written([lone(0), lone(1, begins_from="stage-gone")]))

    assert [sweep.next_unit() for _ in range(3)] == [lone(0), lone(1), lone(2)]


def test_a_unit_that_gets_nowhere_fails_with_its_fourth_start() -> None:
    sweep = make_sweep(Kept(), sampler=1)
    unit = begin_next(sweep)

    answers = [sweep.begin(unit.name, {0: 0}) for _ in range(3)]

    assert answers == [set(), set(), {0}]
    assert statuses(sweep) == ["failed"]
    ending = sweep.state().trials[0].ending
    assert ending is not None
    assert "3 times" in ending.reason


def test_members_of_a_fused_unit_that_gets_nowhere_go_on_alone() -> None:
    journal = Kept()
    sweep = make_sweep(journal, planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)

    answers = [sweep.begin(unit.name, {0: 4, 1: 4, 2: 4}) for _ in range(4)]

    assert answers == [set(), set(), set(), {0, 1, 2}]
    assert statuses(sweep) == ["waiting"] * 3
    for again in (sweep, make_sweep(journal, planner=Written([fused(0, 1, 2)]))):
        assert names(again) == ["trial-0000", "trial-0001", "trial-0002"]
    # What the unit died of is not held against them.
    assert [sweep.begin("trial-0000", {0: 4}) for _ in range(3)] == [set()] * 3


def test_what_fails_together_is_tried_alone_and_what_had_ended_has() -> None:
    sampler = Listed(3)
    sweep = make_sweep(Kept(), sampler=sampler, planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)

    together = [replace(over(trial, "failed"), together=True) for trial in (1, 2)]
    sweep.end(unit.name, [over(0, value=0.5), *together])

    assert sampler.told == [(0, 0.5)]
    assert names(sweep) == ["trial-0001", "trial-0002"]
    sweep.end("trial-0001", [over(1, value=0.6)])
    sweep.end("trial-0002", [over(2, "failed")])
    assert statuses(sweep) == ["finished", "finished", "failed"]
    assert sweep.is_over


def test_a_member_that_fails_by_itself_in_a_fused_unit_has_failed() -> None:
    sweep = make_sweep(Kept(), planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)

    sweep.end(unit.name, [over(0), over(1, "failed"), over(2)])

    assert statuses(sweep) == ["finished", "failed", "finished"]
    assert sweep.next_unit() is None


def test_a_member_that_gets_nowhere_leaves_a_fused_unit_that_goes_on() -> None:
    sweep = make_sweep(Kept(), planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)

    for number in range(1, 4):
        # The first has nothing to report: it died before the end of an epoch each time.
        sweep.report(unit.name, at(number, {1: 0.1, 2: 0.2}))
        found = sweep.begin(unit.name, dict.fromkeys(unit.trials, 0))

    assert found == {0}
    assert statuses(sweep) == ["waiting", "running", "running"]
    assert names(sweep) == ["trial-0000"]
    # From the process that the others run in nothing more is taken for it.
    sweep.end(unit.name, [over(0, "stopped")])
    assert statuses(sweep) == ["running"] * 3


def test_a_stage_that_gets_nowhere_fails_and_its_members_begin_alone() -> None:
    plan = [stage("a", 0, 1), fused(0, 1, begins_from="stage-a")]
    sweep = make_sweep(Kept(), sampler=2, planner=Written(plan))
    begin_next(sweep)

    answers = [sweep.begin("stage-a", {0: 0, 1: 0}) for _ in range(3)]

    assert answers == [set(), set(), {0, 1}]
    assert [sweep.next_unit(), sweep.next_unit()] == [lone(0), lone(1)]
    # What the stage died of is not held against them.
    assert [sweep.begin("trial-0000", {0: 0}) for _ in range(3)] == [set()] * 3


@pytest.mark.parametrize("by", ["epoch", "checkpoint"])
def test_a_unit_that_gets_on_between_its_starts_does_not_fail(by: str) -> None:
    sweep = make_sweep(Kept(), sampler=1)
    begin_next(sweep)

    for number in range(1, 10):
        if by == "epoch":
            sweep.report("trial-0000", at(number, {0: 0.5}))
        steps_done = number if by == "checkpoint" else 0
        assert sweep.begin("trial-0000", {0: steps_done}) == set()


def test_a_sweep_that_is_killed_again_and_again_fails_nothing() -> None:
    journal = Kept()
    for _ in range(9):
        sweep = make_sweep(journal, sampler=1)
        begin_next(sweep)

    assert statuses(sweep) == ["running"]


def test_a_unit_whose_node_goes_again_and_again_fails_never() -> None:
    sweep = make_sweep(Kept(), sampler=1)
    unit = begin_next(sweep)

    for _ in range(9):
        sweep.excuse(unit.name)
        assert sweep.begin(unit.name, {0: 0}) == set()

    assert statuses(sweep) == ["running"]
    assert sweep.next_unit() is None


def test_a_unit_that_is_left_in_good_order_fails_never() -> None:
    sweep = make_sweep(Kept(), sampler=1)

    for _ in range(9):
        sweep.leave(begin_next(sweep).name)

    assert statuses(sweep) == ["waiting"]


@pytest.mark.parametrize("begins", [True, False])
def test_a_unit_that_is_lost_is_handed_out_again_and_fails_the_third_time(begins: bool) -> None:
    sweep = make_sweep(Kept(), sampler=1)

    for _ in range(3):
        assert statuses(sweep) in ([], ["waiting"])
        unit = begin_next(sweep) if begins else sweep.next_unit()
        assert unit is not None
        sweep.lose(unit.name, "out of memory")

    ending = sweep.state().trials[0].ending
    assert ending is not None
    assert ending.status == "failed"
    assert ending.reason.endswith("out of memory")


def test_a_process_that_was_given_up_is_not_heard_and_told_to_end() -> None:
    journal = Kept()
    sweep = make_sweep(journal, sampler=1)
    begin_next(sweep)
    sweep.lose("trial-0000", "no answer")
    lines = len(journal.lines)

    assert sweep.report("trial-0000", at(1, {0: 0.5})) == {0}
    assert sweep.begin("trial-0000", {0: 0}) == {0}
    sweep.end("trial-0000", [over(0)])
    sweep.leave("trial-0000")
    sweep.lose("trial-0000", "again")

    assert len(journal.lines) == lines
    assert statuses(sweep) == ["waiting"]


def test_a_sweep_that_is_to_stop_begins_nothing_and_goes_on_from_its_journal() -> None:
    journal = Kept()
    sweep = make_sweep(journal)
    begin_next(sweep)

    sweep.stop()

    assert sweep.is_stopping
    assert sweep.next_unit() is None
    assert not sweep.is_over
    sweep.leave("trial-0000")
    assert sweep.is_over
    assert names(make_sweep(journal)) == ["trial-0000", "trial-0001", "trial-0002"]


def test_a_resumed_sweep_runs_nothing_twice_and_asks_for_no_point_again() -> None:
    journal = Kept()
    sweep = make_sweep(journal)
    names(sweep)
    sweep.end("trial-0001", [over(1, value=0.7)])
    sampler = Listed(3)

    sweep = make_sweep(journal, sampler=sampler)

    assert names(sweep) == ["trial-0000", "trial-0002"]
    assert sampler.asked == []
    assert sampler.told == [(1, 0.7)]


def test_a_finished_sweep_with_more_trials_goes_on() -> None:
    journal = Kept()
    sweep = make_sweep(journal, sampler=1)
    sweep.end(begin_next(sweep).name, [over(0)])
    assert sweep.next_unit() is None

    sweep = make_sweep(journal, sampler=2)

    assert names(sweep) == ["trial-0001"]


def test_added_trials_are_fused_with_those_that_wait() -> None:
    journal = Kept()
    sweep = make_sweep(journal, sampler=2, planner=Written([fused(0, 1, 2, 3)]))
    sweep.end(begin_next(sweep).name, [over(0)])

    unit = make_sweep(journal, sampler=4, planner=Written([fused(0, 1, 2, 3)])).next_unit()

    assert unit == fused(1, 2, 3)


def test_a_disk_that_refuses_changes_nothing() -> None:
    journal = Kept()
    sweep = make_sweep(journal, rule=Asha(), planner=Written([fused(0, 1, 2)]))
    unit = begin_next(sweep)
    before = sweep.state()
    journal.refuses = True

    with pytest.raises(OSError, match="no space"):
        sweep.report(unit.name, at(1, {0: 0.1, 1: 0.2, 2: 0.3}))

    assert sweep.state() == before
    journal.refuses = False
    assert sweep.report(unit.name, at(1, {0: 0.1, 1: 0.2, 2: 0.3})) == {0, 1}


def test_the_state_can_be_read_from_the_journal_alone() -> None:
    journal = Kept()
    sweep = make_sweep(journal, rule=Asha(), planner=Written([fused(0, 1), lone(2)]))
    begin_next(sweep)
    sweep.report("fused-0000", at(1, {0: 0.1, 1: 0.2}))
    sweep.end("fused-0000", [over(0, "stopped")])

    assert read_state(journal.read()) == sweep.state()


def test_a_journal_of_a_newer_version_is_refused() -> None:
    journal = Kept()
    journal.append({"kind": "pondered"})

    with pytest.raises(CheckpointError, match="pondered"):
        make_sweep(journal)


def test_a_sampler_that_gives_a_trial_twice_is_a_mistake() -> None:
    class Twice(Listed):
        def ask(self, number: int, known: Sequence[Point]) -> tuple[Point, ...]:
            return super().ask(number, ())

    sweep: Sweep = make_sweep(Kept(), sampler=Twice(2), ask_at_once=2)
    names(sweep)
    sweep.end("trial-0000", [over(0)])

    with pytest.raises(ValueError, match="twice"):
        sweep.next_unit()


def test_the_planner_is_asked_only_when_something_changed() -> None:
    planner = Written()
    sweep = make_sweep(Kept(), sampler=1, planner=planner)
    begin_next(sweep)
    sweep.next_unit()
    asked = len(planner.seen)

    for epoch in range(1, 5):
        sweep.report("trial-0000", at(epoch, {0: 0.5}))
        sweep.next_unit()

    assert len(planner.seen) == asked


def test_a_unit_that_nobody_has_begun_is_taken_back_when_the_sweep_is_to_stop() -> None:
    """It may wait for room that does not come."""
    sweep = make_sweep(Kept())
    begun, waiting = (sweep.next_unit() for _ in range(2))
    assert begun is not None
    assert waiting is not None
    sweep.begin(begun.name, {0: 0})

    sweep.stop()

    assert not sweep.is_over
    assert sweep.begin(waiting.name, {1: 0}) == {1}
    sweep.leave(begun.name)
    assert sweep.is_over
