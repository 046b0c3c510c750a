"""Copies to and from a device: none on the CPU; elsewhere asked for, and waited for asleep."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cloudconv.media.upload import upload
from cloudconv.render.transfer import Arriving, Transfers, _event


def test_the_cpu_copies_nothing_on_the_way_up() -> None:
    plane = torch.arange(6).reshape(2, 3)
    assert upload([plane], "cpu")[0] is plane
    assert torch.equal(Transfers(torch.device("cpu")).down([plane]).planes()[0], plane)


def test_planes_are_looked_at_once_they_have_arrived() -> None:
    plane = torch.zeros(2)

    class Slow:
        def record(self) -> None:
            raise AssertionError

        def synchronize(self) -> None:
            plane.fill_(1)

    assert Arriving([plane], Slow()).planes()[0].sum() == 2


def test_waiting_leaves_the_core_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.cuda, "Event", lambda **given: asked.append(given))
    _event(torch.device("cuda"))
    assert asked == [{"blocking": True}]
