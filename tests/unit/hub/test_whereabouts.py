"""Who is where, as several nodes tell it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from server.hub.whereabouts import Whereabouts

NODES, ROOMS, PEOPLE = ("a", "b", "c"), ("kitchen", "garden"), ("ana", "ben")
Step = tuple[str, str, str, str]
steps = st.lists(
    st.tuples(
        st.sampled_from(("come", "go", "forget", "take", "skip")), st.sampled_from(NODES), st.sampled_from(ROOMS),
        st.sampled_from(PEOPLE),
    )
)  # fmt: skip


def told(whereabouts: Whereabouts, room: str = "kitchen", at_most: int = 200) -> list[tuple[str, bool]]:
    return sorted(whereabouts.take(room, at_most))


def test_somebody_on_two_nodes_comes_once_and_goes_once() -> None:
    whereabouts = Whereabouts()
    whereabouts.come("a", "kitchen", "ana")
    assert told(whereabouts) == [("ana", True)]
    whereabouts.come("b", "kitchen", "ana")
    whereabouts.come("b", "kitchen", "ana")
    whereabouts.go("a", "kitchen", "ana")
    assert told(whereabouts) == []
    whereabouts.go("b", "kitchen", "ana")
    assert told(whereabouts) == [("ana", False)]
    assert whereabouts.moved() == ()


def test_two_that_hold_the_same_of_a_node_have_the_same_digest_of_it() -> None:
    one, other = Whereabouts(), Whereabouts()
    pairs = [(room, person) for room in ROOMS for person in PEOPLE]
    for pair in pairs:
        one.come("a", *pair)
        other.come("b", *pair)
    assert one.digest("a") not in (other.digest("a"), 0)
    for pair in reversed(pairs):
        other.come("a", *pair)
    assert one.digest("a") == other.digest("a")
    one.go("a", *pairs[0])
    assert one.digest("a") != other.digest("a")
    one.forget("a")
    other.forget("a")
    assert one.digest("a") == other.digest("a") == 0


def test_who_goes_and_comes_back_between_two_looks_has_not_moved() -> None:
    whereabouts = Whereabouts()
    whereabouts.come("a", "kitchen", "ana")
    whereabouts.skip("kitchen")
    whereabouts.forget("a")
    whereabouts.come("b", "kitchen", "ana")
    assert whereabouts.moved() == ("kitchen",)
    assert told(whereabouts) == []


def test_a_node_that_is_forgotten_takes_its_people_along() -> None:
    whereabouts = Whereabouts()
    for node, user in (("a", "ana"), ("b", "ana"), ("b", "ben")):
        whereabouts.come(node, "kitchen", user)
    whereabouts.skip("kitchen")
    whereabouts.forget("b")
    assert told(whereabouts) == [("ben", False)]
    assert whereabouts.here("kitchen") == {"ana"}
    assert whereabouts.of("b") == {}


def test_only_so_many_are_taken_at_once() -> None:
    whereabouts = Whereabouts()
    for number in range(5):
        whereabouts.come("a", "kitchen", f"{number}")
    taken = [len(told(whereabouts, at_most=2)) for _ in range(4)]
    assert taken == [2, 2, 1, 0]


@given(steps)
def test_whoever_believes_what_was_passed_on_knows_who_is_here(taken: list[Step]) -> None:
    """Against the plainest model: a set of facts, and a listener who believes every word."""
    whereabouts, facts = Whereabouts(), set[tuple[str, str, str]]()
    believed: dict[str, set[str]] = {room: set() for room in ROOMS}
    for verb, node, room, user in taken:
        match verb:
            case "come":
                whereabouts.come(node, room, user)
                facts.add((node, room, user))
            case "go":
                whereabouts.go(node, room, user)
                facts.discard((node, room, user))
            case "forget":
                whereabouts.forget(node)
                facts = {fact for fact in facts if fact[0] != node}
            case "take":
                for who, is_here in whereabouts.take(room, 1):
                    assert is_here != (who in believed[room])
                    (believed[room].add if is_here else believed[room].discard)(who)
            case "skip":
                whereabouts.skip(room)
                believed[room] = set(whereabouts.here(room))
    for room in ROOMS:
        here = {user for _, where, user in facts if where == room}
        assert set(whereabouts.here(room)) == here
        for who, is_here in whereabouts.take(room, 200):
            (believed[room].add if is_here else believed[room].discard)(who)
        assert believed[room] == here
    for user in PEOPLE:
        assert whereabouts.is_anywhere(user) == any(who == user for _, _, who in facts)
    for node in NODES:
        mine = Counter(where for on, where, _ in facts if on == node)
        assert {room: len(users) for room, users in whereabouts.of(node).items()} == dict(mine)
