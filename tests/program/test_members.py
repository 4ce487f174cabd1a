"""Members of a collective: the value that both runtimes, costs and traces share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.members import everyone, members_of, named

RANKS = st.sets(st.integers(0, 40), min_size=1)


@given(RANKS.map(list), st.randoms(use_true_random=False))
def test_members_are_the_same_in_whatever_order_their_ranks_are_given(ranks, random) -> None:
    members = members_of(ranks, 41)
    random.shuffle(ranks)
    again = members_of(tuple(ranks), 41)
    assert again == members
    assert hash(again) == hash(members)
    assert members.ranks == tuple(sorted(ranks))
    assert [members.place(rank) for rank in members.ranks] == list(range(len(members)))


@given(RANKS, RANKS)
def test_a_group_says_who_its_members_are(ranks, others) -> None:
    members = members_of(ranks, 41)
    assert named(f"main{members.name}", 41) == members
    assert (members_of(others, 41).name == members.name) is (others == ranks)


@pytest.mark.parametrize(
    "group", ["main[", "main[]", "main[x]", "main[0:4", "main[4:0]", "main[0:9999999999]", "m[1,9]"]
)
def test_a_name_that_says_no_members_is_refused(group: str) -> None:
    with pytest.raises(ValueError):
        named(group, 4)


def test_all_ranks_are_everyone() -> None:
    assert members_of(None, 3) is everyone(3)
    assert members_of((2, 0, 1), 3) is everyone(3)
    assert everyone(3).name == ""
    assert members_of((0,), 1) is everyone(1)


def test_who_calls_is_a_member() -> None:
    assert members_of((0, 3), 4, caller=3) == members_of((0, 3), 4)
    with pytest.raises(ValueError, match=r"^over=\(0, 3\): called by rank 2, which is not in it$"):
        members_of((0, 3), 4, caller=2)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ((), "over=(): no rank is in it"),
        ((1, 0, 1), "over=(0, 1, 1): rank 1 is in it twice"),
        ((2, 2, 2), "over=(2, 2, 2): rank 2 is in it twice"),
        ((0, 4), "over=(0, 4): there is no rank 4, only 0 to 3"),
        ((-1, 2), "over=(-1, 2): there is no rank -1, only 0 to 3"),
        ((0, 1.5), "over=(0, 1.5): not a tuple of ranks"),
        (3, "over=3: not a tuple of ranks"),
        ("site", "over='site': not a tuple of ranks"),
    ],
)
def test_what_names_no_members_is_refused_in_a_line(over, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        members_of(over, 4)
    assert str(refused.value) == message
