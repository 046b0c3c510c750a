"""Motions of a camera and of things, and their velocities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudconv.forecasting.camera import after, logarithm

SIZE = 180, 320


@given(
    st.floats(-0.5, 0.5),
    st.floats(0.6, 1.6),
    st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
)
def test_a_velocity_leads_to_the_motion_that_it_comes_from(angle, scale, shift):
    """A thing may cross the picture, and more, in the time in which it is measured."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    motion = np.eye(3)
    motion[:2, :2] = scale * turn
    motion[:2, 2] = shift
    again = after(logarithm(motion, SIZE), 1, SIZE)
    assert again == pytest.approx(motion, rel=1e-6, abs=1e-6)
