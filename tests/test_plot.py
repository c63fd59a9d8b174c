"""The loss curve fills its axis."""

import math

import pytest

from jaxstyle.app.pages.loss_plot import _limits

WEIGHTS = {"content": 2.0, "style": 1.0}


def entry(content, style):
    return {"loss": 2 * content + style, "terms": {"content": content, "style": style}}


def test_rounding_at_the_start_does_not_widen_the_axis():
    trace = [entry(1e-12, 500.0), entry(1.0, 300.0), entry(5.0, 100.0), entry(20.0, 60.0)]
    low, high = _limits(trace, WEIGHTS)
    # The lowest that matters is a content of 10 below a loss of 110, the highest the start.
    assert 10 / 1.5 < low < 10
    assert 500 < high < 500 * 1.5
    # All losses are in the upper half at least, on the logarithmic scale that is drawn.
    part = math.log(500 / 80) / math.log(high / low)
    assert part > 0.4


def test_strange_losses_have_limits():
    assert _limits([entry(0.0, 0.0)], WEIGHTS) is None
    assert _limits([entry(math.nan, 1.0)], WEIGHTS) is None
    low, high = _limits([entry(math.inf, 1.0), entry(1.0, 1.0)], WEIGHTS)
    assert 0 < low < high < math.inf
    assert _limits([entry(0.0, 3.0)], WEIGHTS) == pytest.approx((3 / 1.05, 3 * 1.05))
