import pytest

from ruvllm.errors import BackendError
from ruvllm.inference.tiers import CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("oven", failures=3, window=10, rest=5, patience=1, clock=clock)


def fail(breaker, kind="unavailable"):
    with pytest.raises(BackendError, match="burnt"), breaker.call():
        raise BackendError("burnt", kind=kind)


def fail_after(seconds, breaker, clock):
    with breaker.call():
        clock.now += seconds
        raise BackendError("slow", kind="timeout")


def succeed(breaker):
    with breaker.call():
        pass


def test_it_opens_after_failures_within_the_window_and_says_how_long_it_rests(breaker, clock):
    for _ in range(2):
        fail(breaker)
    assert (breaker.state, breaker.wait) == ("closed", 0)
    fail(breaker)
    assert breaker.state == "open"
    clock.now += 2
    called = []
    with pytest.raises(BackendError, match="oven failed") as error, breaker.call():
        called.append(1)
    assert (error.value.kind, error.value.retry_after, called) == ("unavailable", 3, [])


def test_it_is_failing_from_the_first_failure_until_a_call_goes_well_or_it_is_long_ago(breaker, clock):
    assert not breaker.failing
    fail(breaker)
    assert (breaker.failing, breaker.state) == (True, "closed")
    succeed(breaker)
    assert not breaker.failing
    fail(breaker, "rate_limited")  # it is there
    assert not breaker.failing
    fail(breaker)
    clock.now += 11
    assert not breaker.failing
    for _ in range(3):
        fail(breaker)
    clock.now += 60
    assert (breaker.failing, breaker.state) == (True, "half-open")
    succeed(breaker)
    assert not breaker.failing


def test_failures_that_lie_far_apart_do_not_open_it(breaker, clock):
    for _ in range(6):
        fail(breaker)
        clock.now += 6
    assert breaker.state == "closed"


def test_few_failures_among_many_calls_do_not_open_it(breaker):
    for _ in range(7):
        succeed(breaker)
    for _ in range(6):
        fail(breaker)
    assert breaker.state == "closed"
    fail(breaker)
    assert breaker.state == "open"


def test_one_call_tries_it_after_the_rest_and_closes_it(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 5
    assert breaker.state == "half-open"
    with breaker.call():
        with pytest.raises(BackendError, match="rests") as error, breaker.call():
            pass
        assert error.value.retry_after == 1
    assert breaker.state == "closed"
    fail(breaker)  # what was before is forgotten
    assert breaker.state == "closed"


def test_a_failed_try_opens_it_for_another_rest(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 5
    fail(breaker)
    assert (breaker.state, breaker.wait) == ("open", 5)
    clock.now += 5
    succeed(breaker)
    assert breaker.state == "closed"


def test_a_stream_that_answers_lets_others_in_before_it_ends(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 5
    with breaker.call() as answers:
        answers()
        answers()
        assert breaker.state == "closed"
        succeed(breaker)
    assert breaker.state == "closed"


def test_a_try_that_was_cancelled_tells_nothing_and_frees_the_place(breaker, clock):
    for _ in range(3):
        fail(breaker)
    clock.now += 5
    with pytest.raises(GeneratorExit), breaker.call():
        raise GeneratorExit
    assert (breaker.state, breaker.wait) == ("half-open", 0)
    succeed(breaker)
    assert breaker.state == "closed"


def test_an_outcome_of_before_it_opened_does_not_close_it(breaker, clock):
    with breaker.call():
        for _ in range(3):
            fail(breaker)
        clock.now += 5
    assert breaker.state == "half-open"


def test_refusals_and_full_houses_are_signs_of_life(breaker):
    for _ in range(9):
        fail(breaker, "refused")
        fail(breaker, "rate_limited")
    assert breaker.state == "closed"


def test_a_caller_without_patience_does_not_open_it_for_the_others(breaker, clock):
    for _ in range(9):
        fail(breaker, "timeout")
    assert breaker.state == "closed"
    for _ in range(3):
        with pytest.raises(BackendError, match="slow"):
            fail_after(1, breaker, clock)
    assert breaker.state == "open"
