from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from zlib import crc32

from serving.gateway.engines.seen import SeenPrefixes
from serving.gateway.routing.prompt import Prompt, read_prompt
from serving.gateway.routing.score import SHARE_WINDOW, Placement, note_sent
from serving.gateway.settings.routing import RoutingSettings


@dataclass(eq=False)
class Place:
    name: str
    load: float = 0
    pending_prefill_chars: int = 0
    seen: SeenPrefixes = field(default_factory=SeenPrefixes)

    @property
    def seed(self) -> int:
        return hash((crc32(self.name.encode()), len(self.name)))


def places(count: int) -> list[Place]:
    return [Place(f"10.0.0.{number}:8100") for number in range(count)]


def placement(**weights: object) -> Placement:
    return Placement(RoutingSettings(**weights))


def prompt(text: str, system: str = "") -> Prompt:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    found = read_prompt({"messages": messages})
    assert found is not None
    return found


def test_the_least_loaded_is_chosen_and_equals_take_turns() -> None:
    choose, engines = placement().choose, places(3)
    assert Counter(choose(engines, None, None).name for _ in range(30)) == {e.name: 10 for e in engines}
    engines[0].load = engines[2].load = 1
    assert {choose(engines, None, None).name for _ in range(5)} == {engines[1].name}


def test_a_prompt_that_waits_to_be_read_is_load() -> None:
    choose, engines = placement().choose, places(2)
    engines[0].pending_prefill_chars = 100
    assert {choose(engines, None, None) for _ in range(4)} == {engines[1]}


def test_a_prompt_goes_where_it_was_read_before() -> None:
    choose, engines = placement().choose, places(8)
    question = prompt("x" * 5000)
    for engine in engines:
        if engine is not choose(engines, question, None):
            break
    assert note_sent(engine, question) == 5000
    assert choose(engines, question, None) is engine
    assert note_sent(engine, question) == 0


def test_until_load_outweighs_what_is_cached() -> None:
    choose, engines = placement(load_chars=1000, balance=100).choose, places(2)
    question = prompt("x" * 4000)
    home = choose(engines, question, None)
    other = engines[1 - engines.index(home)]
    note_sent(home, question)
    home.load = 3
    assert choose(engines, question, None) is home
    home.load = 5
    assert choose(engines, question, None) is other


def test_an_overloaded_engine_gets_no_credit_however_long_the_prompt() -> None:
    choose, engines = placement().choose, places(4)
    question = prompt("x" * 100_000)
    home = choose(engines, question, None)
    note_sent(home, question)
    for engine in engines:
        engine.load = 10
    assert choose(engines, question, None) is home
    home.load = 40
    assert choose(engines, question, None) is not home


def test_replicas_agree_on_the_home_of_a_prompt_and_of_a_session() -> None:
    first, second = placement(), placement()
    for number in range(200):
        question = prompt("x" * 600, system=f"{number} " * 400)
        mine, theirs = places(5), list(reversed(places(5)))
        assert first.choose(mine, question, None).name == second.choose(theirs, question, None).name
        assert first.choose(mine, None, number).name == second.choose(theirs, None, number).name


def test_a_session_stays_and_only_a_lost_engines_sessions_move() -> None:
    choose, engines = placement().choose, places(5)
    before = {session: choose(engines, None, session) for session in range(500)}
    assert set(Counter(before.values())) == set(engines)
    assert max(Counter(before.values()).values()) < 150
    left = engines[1:]
    after = {session: choose(left, None, session) for session in range(500)}
    assert all(after[session] is home for session, home in before.items() if home is not engines[0])


def test_a_rare_system_prompt_has_one_home_and_a_popular_one_has_several() -> None:
    routing, engines = placement(), places(8)
    for number in range(300):
        routing.choose(engines, prompt("x" * 600, system=f"{number} " * 400), None)
    rare = {
        routing.choose(places(8), prompt(f"{number} " * 200, system="rare " * 500), None).name for number in range(3)
    }
    assert len(rare) == 1
    popular = [prompt(f"{number} " * 200, system="popular " * 500) for number in range(900)]
    homes = [routing.choose(places(8), prefix, None).name for prefix in popular]
    assert len(set(homes[-200:])) >= 6


def test_what_is_remembered_of_popularity_is_bounded() -> None:
    routing, engines = placement(), places(2)
    for number in range(3 * SHARE_WINDOW):
        routing.choose(engines, Prompt([number + 1], [1000], number + 1, number + 1), None)
    assert len(routing._uses) <= SHARE_WINDOW
