"""Checks of ``doctor`` that need more than the frames of ``interp``, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudconv.jobs import self_test
from tests.gpu.conftest import Gpu


@pytest.mark.parametrize(
    "name",
    ["lack of memory", "outer frames", "trials and blends", "forecast", "training step"],
)
def test_the_self_test_passes(gpu: Gpu, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    checks = self_test._checks

    def chosen(*given: Any) -> Iterator[tuple[str, Callable[[], str]]]:
        return (each for each in checks(*given) if each[0] == name)

    monkeypatch.setattr(self_test, "_checks", chosen)
    with gpu() as record:
        (check,) = self_test.check_device("cuda")
    assert check.status == "ok", check.detail
    assert record is None or not record.faults
