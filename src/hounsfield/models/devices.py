"""Which accelerators the backend in use sees."""

from __future__ import annotations

import keras

from hounsfield.errors import require


def accelerators() -> tuple[str, ...]:
    """Names of the GPUs (or TPUs) that Keras's backend can use; empty on a machine with CPUs only."""
    backend = keras.backend.backend()
    framework = require(backend, f"the {backend} backend of Keras")
    if backend == "tensorflow":
        return tuple(device.name for device in framework.config.list_physical_devices("GPU"))
    if backend == "jax":
        return tuple(str(device) for device in framework.devices() if device.platform != "cpu")
    return tuple(framework.cuda.get_device_name(index) for index in range(framework.cuda.device_count()))
