"""streams.members: what is pending is what Redis lacks, no more and no less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.streams.members import Members, Step


def test_who_came_and_went_cancels_out() -> None:
    """Of a client that was never written nothing is written."""
    members = Members("log:a")
    assert members.join("one", b"1")
    assert members.leave("one")
    assert not members.has_work
    assert not members.leave("one")


def test_who_is_known_already_is_not_written_again() -> None:
    """Unless what is shown of it has changed."""
    members = Members("log:a")
    members.join("one", b"1")
    members.done(members.take("a", 10), 1, 5.0)
    assert not members.join("one", b"1")
    assert not members.has_work
    assert not members.join("one", b"2")
    assert members.take("a", 10) == Step("a", [("one", b"2")], [], 0)
    assert members.written == 5.0


def test_who_goes_and_comes_and_goes_is_written() -> None:
    """Redis still has it from before."""
    members = Members("log:a")
    members.join("one", b"1")
    members.done(members.take("a", 10), 1, 0.0)
    members.leave("one")
    members.join("one", b"1")
    members.leave("one")
    assert members.take("a", 10) == Step("a", [], ["one"], 0)


def test_a_change_while_a_step_is_under_way() -> None:
    """It comes with the next step, whatever becomes of this one."""
    for is_written in (True, False):
        members = Members("log:a")
        members.join("one", b"1")
        step = members.take("a", 10)
        members.leave("one")
        if is_written:
            members.done(step, 1, 0.0)
        else:
            members.undo(step)
        assert members.take("a", 10) == Step("a", [], ["one"], 0)


def test_steps_are_bounded_and_the_dead_come_last() -> None:
    """Who moved here from a node that died is counted here before it is no longer counted there."""
    members = Members("log:a")
    members.died({"dead"})
    for number in range(5):
        members.join(str(number), b"")
    assert [len(members.take("a", 2).come) for _ in range(3)] == [2, 2, 1]
    step = members.take("a", 2)
    assert (step.node, step.drop) == ("dead", 2)
    members.done(step, 3, 0.0)
    assert members.take("a", 2) == step
    members.done(step, 0, 0.0)
    assert not members.has_work
    assert members.take("a", 2) == Step("a", [], [], 0)


def test_what_others_removed_is_written_again() -> None:
    """Redis says how many it has."""
    members = Members("log:a")
    members.join("one", b"1")
    members.done(members.take("a", 10), 1, 0.0)
    members.done(members.take("a", 10), 0, 0.0)
    assert members.take("a", 10).come == [("one", b"1")]


def test_under_another_name_everything_is_written() -> None:
    """And of those who went in the meantime nothing."""
    members = Members("log:a")
    for client in ("one", "two"):
        members.join(client, b"1")
    members.done(members.take("a", 10), 2, 0.0)
    members.leave("one")
    members.begin_anew()
    assert members.take("b", 10) == Step("b", [("two", b"1")], [], 0)


clients = st.sampled_from("abc")
actions = st.lists(
    st.one_of(
        st.tuples(st.just("join"), clients),
        st.tuples(st.just("leave"), clients),
        st.tuples(st.sampled_from(["take", "written", "lost before", "lost after"]), st.just("")),
    ),
    max_size=30,
)


@given(actions)
def test_in_the_end_redis_has_them_all(actions: list[tuple[str, str]]) -> None:
    """Whatever changes while a step is under way, and whether or not an unanswered one was done."""
    members = Members("log:a")
    redis: set[str] = set()
    under_way: Step | None = None

    def apply(step: Step) -> None:
        redis.update(client for client, _ in step.come)
        redis.difference_update(step.go)

    for action, client in [*actions, ("written", ""), ("take", ""), ("written", "")]:
        if action == "join":
            members.join(client, b"")
        elif action == "leave":
            members.leave(client)
        elif action == "take":
            under_way = under_way or members.take("a", 10)
        elif under_way is not None:
            if action != "lost before":
                apply(under_way)
            if action == "written":
                members.done(under_way, len(redis), 0.0)
            else:
                members.undo(under_way)
            under_way = None
    assert redis == set(members.values)
    assert not members.has_work
