"""States and trees that do not belong together."""

import re

import numpy as np
import pytest

import anyprop as ap

X, T = np.ones((4, 3), dtype="float32"), np.zeros(4, dtype="int64")
MASKED = ap.SGD(weight_decay=0.1, decay_biases=False)


@pytest.mark.parametrize(
    ("ours", "theirs", "has"), [(MASKED, ap.SGD(), "no"), (ap.SGD(), MASKED, "a")]
)
def test_a_run_goes_on_only_from_a_state_with_its_mask(ours, theirs, has):
    net = ap.MLP([3, 2])
    params = net.init(seed=8)
    told = f"state has {has} decay_mask, so its optimizer had another weight_decay or decay_biases;"
    with pytest.raises(ValueError, match=re.escape(told)):
        ap.fit(
            *(net, params, (X, T)),
            loss=ap.SoftmaxCrossEntropy(),
            optimizer=ours,
            state=theirs.init(params),
            steps=1,
        )


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        (ap.SGD(), "keeps ['v'], but the state has none; it comes from another optimizer or other"),
        (ap.Momentum(), "state has no decay_mask, so its optimizer had another weight_decay or"),
    ],
)
def test_another_optimizers_state_is_refused_in_the_same_words_everywhere(theirs, told, tmp_path):
    net, loss = ap.MLP([3, 2]), ap.SoftmaxCrossEntropy()
    opt = ap.Momentum(weight_decay=0.1, decay_biases=False)
    params = net.init(seed=8)
    state, wrong = opt.init(params), theirs.init(params)
    compiled = ap.compile(ap.make_step(net, loss, opt))

    class Replace(ap.Callback):
        def on_epoch(self, run):
            run.state = wrong

    def fit(**how):
        ap.fit(net, params, (X, T), loss=loss, optimizer=opt, **how)

    for call in (
        lambda: opt.update(params, params, wrong),
        lambda: ap.save(tmp_path / "net", params, optimizer=opt, state=wrong),
        lambda: compiled(params.copy(), wrong, X, T),  # which is recorded
        lambda: compiled(params.copy(), state.copy(), X, T) and compiled(params, wrong, X, T),
        lambda: fit(state=wrong),
        lambda: fit(callbacks=[Replace()]),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            call()


def test_a_step_that_is_no_number_is_refused_by_name():
    net = ap.MLP([3, 2])
    params, opt = net.init(seed=8), ap.SGD()
    state = opt.init(params)._replace(step=0.5)
    how = {"loss": ap.SoftmaxCrossEntropy(), "optimizer": opt, "steps": 1}
    with pytest.raises(ValueError, match=r"^state\.step must be a whole number"):
        ap.fit(net, params, (X, T), state=state, **how)


def test_apply_names_the_tree_that_has_another_structure():
    opt, params = ap.Momentum(), {"w": X}
    state = opt.init(params)
    numbers = opt.numbers(state)
    with pytest.raises(ValueError, match="^grads and params differ in structure:\n  grads: "):
        opt.apply(params, {"b": X}, state.slots, None, numbers)
    slots = {"v": {"b": X}}
    with pytest.raises(ValueError, match=r"^state\.slots\['v'\] and params differ in structure:\n"):
        opt.apply(params, params, slots, None, numbers)
    mask = {"b": X}
    with pytest.raises(ValueError, match=r"^state\.decay_mask and params differ in structure:\n"):
        MASKED.apply(params, params, {}, mask, numbers)
