"""Networks of Keras pass the check of their files; what a file says does not differ by backend."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras
import pytest

from hounsfield.bundle.keras_file import require_plain_network
from hounsfield.models import build


# One of each architecture; of their weights nothing is asked.
@pytest.mark.parametrize(
    "name",
    [
        *("convnexttiny", "densenet121", "efficientnetb0", "efficientnetv2b0", "inceptionresnetv2", "inceptionv3"),
        *("mobilenet", "mobilenetv2", "mobilenetv3small", "nasnetmobile", "resnet101v2", "vgg16", "xception"),
    ],
)
def test_networks_of_keras_do_no_harm(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    config = json.dumps(keras.saving.serialize_keras_object(build(name, (80, 80, 3), 2, "binary")))
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in (("metadata.json", "{}"), ("config.json", config), ("model.weights.h5", "")):
            archive.writestr(member, content)
    require_plain_network(path)
