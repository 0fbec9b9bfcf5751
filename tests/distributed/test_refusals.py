"""What one rank refuses, and what fails on one rank, ends all of them."""

import pytest

import anyprop as ap
from parallel_cases import CASES
from ranks import on_ranks


def caught(call):
    with pytest.raises((ValueError, RuntimeError)) as error:
        call()
    return str(error.value)


@pytest.mark.parametrize("option", [{"epochs": 0, "steps": None}, {"batch_size": 0}, {"seed": -1}])
def test_all_ranks_refuse_what_one_refuses(option):
    def fit(communicator):
        mine = option if communicator.rank == 1 else {}
        return caught(lambda: CASES["plain"].fit(communicator, **mine))

    told = on_ranks(3, fit)
    assert told[0] == told[2] == f"rank 1 refused its arguments: ValueError: {told[1]}"


class Failing(ap.Callback):
    def on_epoch(self, run):
        raise RuntimeError("own")


def test_all_ranks_end_when_a_callback_fails():
    def fit(communicator):
        return caught(lambda: CASES["plain"].fit(communicator, callbacks=[Failing()]))

    first, *others = on_ranks(3, fit)
    assert first == "own"
    assert others == ["a callback failed on rank 0: RuntimeError: own"] * 2
