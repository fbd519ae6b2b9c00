"""Which backend answers, and who answers when it does not."""

from contextlib import aclosing

import pytest

from ruvllm.encoders.protocol import run_now
from ruvllm.errors import BackendError, ConfigError
from ruvllm.inference.backend import Chunk, Message, Params, Usage, gather
from ruvllm.inference.extractive import CANNOT_ANSWER, Extractive
from ruvllm.inference.local_models import ModelManager
from ruvllm.inference.passages import Passage
from ruvllm.inference.tiers import CircuitBreaker, Tiers
from ruvllm.sizing.tiers import TaskRouter
from ruvllm.types import Tier

ASKED = [Message("user", "how many loaves does the oven Vulcan hold?")]
OVEN = Passage("The oven Vulcan holds forty loaves.", 9, 0.85)
END = Usage(5, 3)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Told:
    """Answers what it was told to: texts, (text, confidence) pairs, and errors."""

    def __init__(self, name, *script, cost=0.0, context=1_000):
        self.name, self.model, self.context = name, f"{name}-model", context
        self.script, self.cost = script, cost
        self.asked, self.stopped, self.params = 0, 0, None

    async def generate(self, messages, params):
        return await gather(self.stream(messages, params), self.model)

    async def stream(self, messages, params):
        self.asked, self.params, sure = self.asked + 1, params, None
        try:
            for part in self.script:
                if isinstance(part, BackendError):
                    raise part
                text, sure = part if isinstance(part, tuple) else (part, None)
                yield Chunk(text, confidence=sure)
            yield Chunk("", "stop", END, sure, self.cost)
        finally:
            self.stopped += 1

    async def healthy(self):
        return not any(isinstance(part, BackendError) for part in self.script)

    async def close(self):
        self.stopped += 1


def down(kind="unavailable"):
    return BackendError("down", kind=kind)


def ask(tiers, tier=Tier.SMALL, **params):
    return run_now(tiers.at(tier).generate(ASKED, Params(**params)))


def stream(tiers, tier=Tier.SMALL):
    async def collect():
        return [chunk async for chunk in tiers.at(tier).stream(ASKED, Params())]

    return run_now(collect())


def both(small, large, **options):
    return Tiers({Tier.SMALL: small, Tier.LARGE: large}, **options)


def test_halves_of_a_character_are_joined_whoever_writes():
    tiers = both(Told("s", "a\ud83d", "\ude00b", "c\ud83d"), Told("l"))
    assert ask(tiers).text == "a\U0001f600bc\ufffd"
    assert "".join(chunk.text for chunk in stream(tiers)) == "a\U0001f600bc\ufffd"
    assert run_now(Told("s", "a\ud83d", "\ude00b").generate(ASKED, Params())).text == "a\U0001f600b"


def test_when_all_are_busy_the_one_that_is_free_first_is_told():
    waits = [BackendError("busy", kind="rate_limited", retry_after=wait) for wait in (20, 7)]
    for order in (waits, waits[::-1], [BackendError("busy", kind="rate_limited"), waits[1]]):
        with pytest.raises(BackendError) as error:
            ask(both(Told("s", order[0]), Told("l", order[1])))
        assert error.value.retry_after == 7
    with pytest.raises(BackendError) as error:
        ask(both(Told("s", down()), Told("l", waits[0])))
    assert error.value.kind == "unavailable"


def test_a_field_that_matters_goes_to_who_knows_it_or_to_nobody():
    small, large = Told("s", "as text"), Told("l", "{}")
    large.passes = True
    extra = {"response_format": {"type": "json_object"}, "user": "ada"}
    assert ask(both(small, large), extra=extra).text == "{}"
    assert (small.asked, large.params.extra) == (0, extra)
    del large.passes
    with pytest.raises(BackendError, match="response_format") as error:
        ask(both(small, large), extra=extra)
    assert (error.value.status, error.value.field) == (400, "response_format")
    harmless = {"user": "ada", "response_format": {"type": "text"}, "tools": [1], "tool_choice": "none"}
    assert ask(both(small, large), extra=harmless).text == "as text"


def test_a_prompt_that_is_too_long_for_everybody_has_the_code_that_clients_know():
    with pytest.raises(BackendError) as error:
        ask(both(Told("s", context=5), Told("l", context=5)))
    assert (error.value.status, error.value.code) == (400, "context_length_exceeded")


def test_low_complexity_is_local():
    router = TaskRouter()
    tasks = ("fix a typo in the label", "look at the parser", "design a distributed consensus protocol")
    complexity = [router.analyze_complexity(task) for task in tasks]
    assert complexity == sorted(complexity)
    assert complexity[1] < 0.5 <= complexity[2]
    assert [router.route(task).tier for task in tasks] == [Tier.SMALL, Tier.SMALL, Tier.LARGE]


def test_tiers_are_tried_upwards_and_then_downwards():
    tiers = Tiers({tier: Told(tier.name) for tier in reversed(Tier)})
    assert tiers.order(Tier.SMALL) == [Tier.SMALL, Tier.LARGE, Tier.BOOSTER]
    assert tiers.order(Tier.LARGE) == [Tier.LARGE, Tier.SMALL, Tier.BOOSTER]
    assert tiers.order(Tier.BOOSTER) == [Tier.BOOSTER, Tier.SMALL, Tier.LARGE]
    assert Tiers({Tier.LARGE: Told("l")}).order(Tier.SMALL) == [Tier.LARGE]


def test_there_has_to_be_a_backend():
    with pytest.raises(ConfigError, match="backend"):
        Tiers({})


@pytest.mark.parametrize(("sure", "who"), [(0.71, "s"), (0.7, "l"), (0.1, "l"), (None, "s")])
def test_a_local_answer_is_taken_when_it_is_sure_enough(sure, who):
    tiers = both(Told("s", ("forty", sure), cost=0.25), Told("l", "40", cost=1.0))
    answer = ask(tiers)
    assert (answer.backend, answer.model) == (who, f"{who}-model")
    assert answer.cost == (0.25 if who == "s" else 1.25)  # both were paid
    assert "".join(chunk.text for chunk in stream(tiers)) == answer.text
    assert answer.usage == END


def test_a_judge_decides_instead_of_the_backend():
    heard = []

    def scorer(messages, text):
        heard.append(text)
        return 0.0

    tiers = both(Told("s", ("for", 0.9), ("ty", 0.9)), Told("l", "40"), scorer=scorer)
    assert ask(tiers).backend == "l"
    assert [chunk.text for chunk in stream(tiers)] == ["40", ""]
    assert heard == ["forty"] * 2


def test_an_empty_answer_is_none():
    assert ask(both(Told("s", " "), Told("l", "40"))).text == "40"


def test_a_stream_that_nobody_judges_comes_at_once():
    small = Told("s", "for", "ty", down())

    async def first():
        async with aclosing(both(small, Told("l")).at(Tier.SMALL).stream(ASKED, Params())) as chunks:
            return await anext(chunks)

    assert run_now(first()) == Chunk("for", model="s-model", backend="s")
    assert small.stopped == 1


def test_a_long_unsure_answer_is_left_early():
    small = Told("s", *[("word ", 0.5)] * 100, down())
    assert [chunk.text for chunk in stream(both(small, Told("l", "40")))] == ["40", ""]
    assert small.stopped == 1


def test_a_sure_answer_is_streamed_once_its_beginning_was_judged():
    tiers = both(Told("s", *[("word ", 0.9)] * 30, ("end", 0.1)), Told("l", "40"))
    chunks = stream(tiers)
    assert "".join(chunk.text for chunk in chunks) == "word " * 30 + "end"
    assert {chunk.backend for chunk in chunks} == {"s"}


@pytest.mark.parametrize("kind", ["timeout", "unavailable", "rate_limited", "bad_response", "refused"])
def test_a_failure_is_answered_by_another_in_both_directions(kind):
    assert ask(both(Told("s", down(kind)), Told("l", "40"))).backend == "l"
    assert ask(both(Told("s", ("forty", 0.1)), Told("l", down(kind))), Tier.LARGE).backend == "s"
    assert [chunk.text for chunk in stream(both(Told("s", down(kind)), Told("l", "40")))] == ["40", ""]


def test_an_unsure_answer_is_better_than_none():
    tiers = both(Told("s", ("forty", 0.4), cost=0.5), Told("l", down()))
    answer = ask(tiers)
    assert (answer.text, answer.backend, answer.cost) == ("forty", "s", 0.5)
    assert "".join(chunk.text for chunk in stream(tiers)) == "forty"
    long = both(Told("s", *[("word ", 0.5)] * 50), Told("l", down()))
    assert "".join(chunk.text for chunk in stream(long)) == "word " * 50


def test_when_all_fail_the_first_ones_error_is_raised():
    with pytest.raises(BackendError) as error:
        ask(both(Told("s", down("timeout")), Told("l", down())))
    assert error.value.kind == "timeout"


def test_nobody_goes_on_with_an_answer_that_the_caller_has_begun_to_read():
    large = Told("l", "40")
    read = []

    async def collect():
        async for chunk in both(Told("s", "for", down("bad_response")), large).at(Tier.SMALL).stream(ASKED, Params()):
            read.append(chunk.text)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(BackendError, match="down"):
        run_now(collect())
    assert (read, large.asked) == (["for"], 0)


def test_a_backend_of_ones_own_that_forgets_its_last_chunk_is_told():
    class Forgetful(Told):
        async def stream(self, messages, params):
            for _ in range(self.asked):
                yield Chunk("never")

    with pytest.raises(BackendError, match="last chunk"):
        ask(Tiers({Tier.SMALL: Forgetful("s")}))


def test_a_backend_that_is_down_is_left_alone_and_comes_back():
    clock = Clock()
    small = Told("s", down())
    tiers = both(small, Told("l", "40"), breaker=lambda name: CircuitBreaker(name, failures=3, clock=clock))
    for _ in range(5):
        assert ask(tiers).backend == "l"
    assert small.asked == 3
    assert tiers.states() == {"s": "open", "l": "closed"}
    small.script = ("forty",)
    assert ask(tiers).backend == "l"
    clock.now += 10
    assert ask(tiers).backend == "s"
    assert tiers.states()["s"] == "closed"


def test_when_all_rest_the_caller_learns_for_how_long():
    tiers = Tiers({Tier.SMALL: Told("s", down())}, breaker=lambda name: CircuitBreaker(name, failures=1, clock=Clock()))
    for message in ("down", "rests"):
        with pytest.raises(BackendError, match=message) as error:
            ask(tiers)
    assert error.value.retry_after == 10


def test_a_backend_of_two_tiers_has_one_breaker():
    one = Told("s", down())
    tiers = both(one, one, breaker=lambda name: CircuitBreaker(name, failures=1, clock=Clock()))
    with pytest.raises(BackendError):
        ask(tiers)
    assert one.asked == 1


def test_the_time_that_is_left_is_shared():
    clock = Clock()
    small, large = Told("s", down()), Told("l", "40")

    async def slow(messages, params):
        clock.now += 7
        raise down("timeout")
        yield

    tiers = both(small, large, clock=clock)
    small.stream = slow
    ask(tiers, timeout=10)
    assert large.params.timeout == pytest.approx(3)
    with pytest.raises(BackendError) as error:
        ask(tiers, timeout=5)
    assert (error.value.kind, large.asked) == ("timeout", 1)


def test_a_prompt_goes_only_where_it_fits():
    small = Told("s", "forty", context=8)
    assert ask(both(small, Told("l", "40"))).backend == "l"
    assert small.asked == 0
    with pytest.raises(BackendError, match="reads 8") as error:
        ask(Tiers({Tier.SMALL: small}))
    assert error.value.kind == "refused"


def test_memory_answers_when_the_models_are_down(static_llm):
    extractive = Extractive(static_llm.memory.encoder)
    tiers = Tiers({Tier.BOOSTER: extractive, Tier.SMALL: Told("s", down()), Tier.LARGE: Told("l", down("timeout"))})
    answer = run_now(tiers.at(Tier.SMALL, [OVEN]).generate(ASKED, Params()))
    assert (answer.text, answer.backend) == ("The oven Vulcan holds forty loaves. [1]\n\n[1] memory 9", "extractive")
    with pytest.raises(BackendError):  # that memory knows nothing would not say why
        run_now(tiers.at(Tier.SMALL, [Passage("Bread rises.", 3, 0.1)]).generate(ASKED, Params()))


def test_memory_answers_first_where_no_model_is_needed(static_llm):
    extractive = Extractive(static_llm.memory.encoder)
    large = Told("l", "40")
    tiers = Tiers({Tier.BOOSTER: extractive, Tier.LARGE: large})
    assert run_now(tiers.at(Tier.BOOSTER, [OVEN]).generate(ASKED, Params())).backend == "extractive"
    assert run_now(tiers.at(Tier.BOOSTER, [Passage("Bread rises.", 3, 0.1)]).generate(ASKED, Params())).text == "40"
    alone = Tiers({Tier.BOOSTER: extractive}).at(Tier.BOOSTER)
    assert run_now(alone.generate(ASKED, Params())).text == CANNOT_ANSWER


def test_health_and_the_end():
    small, large = Told("s", down()), Told("l", "40")
    tiers = both(small, large)
    assert run_now(tiers.healthy()) == {"s": False, "l": True}
    assert run_now(tiers.at(Tier.SMALL).healthy())
    run_now(tiers.close())
    assert (small.stopped, large.stopped) == (1, 1)


def test_the_manager_keeps_the_models_that_were_used_last():
    made = []

    async def load(name):
        made.append(Told(name))
        return made[-1]

    async def use(*names):
        for name in names:
            async with manager.use(name) as backend:
                assert backend.name == name

    manager = ModelManager(load, most=2)
    run_now(use("a", "b", "a", "c", "a"))
    assert manager.loaded == ("c", "a")
    assert [(backend.name, backend.stopped) for backend in made] == [("a", 0), ("b", 1), ("c", 0)]
    assert run_now(manager.unload("c"))
    assert not run_now(manager.unload("c"))
    run_now(manager.close())
    assert manager.loaded == ()
    assert [backend.stopped for backend in made] == [1, 1, 1]


def test_a_model_in_use_stays_and_one_that_cannot_be_loaded_does_no_harm():
    made = []

    async def load(name):
        if name == "bad":
            raise down()
        made.append(Told(name))
        return made[-1]

    async def scenario():
        async with manager.use("a"):
            assert not await manager.unload("a")
            with pytest.raises(BackendError):
                async with manager.use("bad"):
                    pass
            async with manager.use("b"), manager.use("a"):
                pass
            async with manager.use("c"):
                return manager.loaded

    manager = ModelManager(load, most=2)
    assert run_now(scenario()) == ("a", "c")
    with pytest.raises(ConfigError, match="most"):
        ModelManager(load, most=0)
