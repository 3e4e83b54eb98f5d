"""Hardware: what is seen of the machine."""

from __future__ import annotations

import os

from hounsfield.hardware import Hardware


def test_this_machine_is_seen() -> None:
    found = Hardware.here()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory > 2**28
    assert f"{found.cores} cores" in found.describe()
    assert Hardware(4, 2**34, ("GPU 0",)).describe() == "4 cores, 16 GiB memory, GPU 0"
    assert "no accelerator" in Hardware(4, 2**34, ()).describe()
