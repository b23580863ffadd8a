import pytest

from rayft.errors import SpecError
from rayft.plan.selectors import GroupNames, resolve_patterns

NAMES = GroupNames(("stem", "layer1", "layer2", "layer3", "layer4"), ("label",))


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["heads"], ["heads.label"]),
        (["heads.label"], ["heads.label"]),
        (["layer3"], ["layer3"]),
        (["layer2..layer4"], ["layer2", "layer3", "layer4"]),
        (["last 2"], ["layer3", "layer4"]),
        (["first 1"], ["stem"]),
        (["top 30%"], ["layer3", "layer4"]),
        (["bottom 20%"], ["stem"]),
        (["base"], ["stem"]),
        (["middle"], ["layer1", "layer2"]),
        (["top"], ["layer3", "layer4"]),
        (["all"], ["stem", "layer1", "layer2", "layer3", "layer4", "heads.label"]),
        (["heads", "layer4", "last 2"], ["layer3", "layer4", "heads.label"]),
    ],
)
def test_patterns_choose_groups_input_side_first(patterns: list[str], expected: list[str]) -> None:
    assert list(resolve_patterns(patterns, NAMES, where="train")) == expected


@pytest.mark.parametrize("count", range(1, 30))
def test_bands_cover_every_backbone_once(count: int) -> None:
    names = GroupNames(tuple(f"g{index}" for index in range(count)), ())

    known = ("base", "middle", "top")[-count:]
    bands = [resolve_patterns([band], names, where="t") for band in known]

    assert sum(bands, ()) == names.backbone
    assert all(bands)


@pytest.mark.parametrize(("band", "count"), [("base", 1), ("base", 2), ("middle", 1)])
def test_a_band_without_a_group_is_refused(band: str, count: int) -> None:
    names = GroupNames(("stem", "layer1")[:count], ("label",))

    with pytest.raises(SpecError) as caught:
        resolve_patterns(["heads", band], names, where="phases.0.train")

    (problem,) = caught.value.problems
    assert problem.where == "phases.0.train.1"
    assert problem.what == (
        f"band {band!r} has no group; the backbone has {count}: {', '.join(names.backbone)}"
    )
    assert problem.fix == "use top, a group, or 'all'"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("layer5", "did you mean layer4"),
        ("layr2", "did you mean"),
        ("last 9", "asks for 9 groups; the backbone has 5"),
        ("last 0", "asks for 0 groups"),
        ("layer4..layer2", "write layer2..layer4"),
        ("layer1..layer9", "'layer9' matches no group"),
        ("head", "did you mean heads"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest(
    pattern: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        resolve_patterns([pattern], NAMES, where="phases.1.train")

    assert message in str(caught.value)
    assert str(caught.value).startswith("phases.1.train.0: ")
