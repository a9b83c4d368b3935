"""The allocator's setting is made where it exists and nowhere else."""

import platform
import sys

import pytest

from inferbridge.bridge import allocator


def test_it_is_accepted_on_glibc() -> None:
    """On glibc every option is taken; elsewhere nothing is done."""
    assert allocator.tune() is (platform.libc_ver()[0] == "glibc")


def test_it_does_nothing_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows have other allocators."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.tune() is False
