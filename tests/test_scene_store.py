from __future__ import annotations

import numpy as np
import pytest

from hounsfield.cohorts import SceneStore, load_cohort
from hounsfield.errors import CohortError
from hounsfield.phantoms import make_phantom
from hounsfield.preprocessing import MinMax, Pipeline, ToChannels, Zoom


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "micrograph"
    make_phantom("micrograph", folder, seed=0, num_patients=4)
    return load_cohort(folder)


def test_images_keep_their_own_shapes_and_boxes_follow(cohort, tmp_path):
    pipeline = Pipeline(steps=(ToChannels(channels=1), Zoom(factor=0.5), MinMax()))
    store = SceneStore.build(cohort, pipeline, folder=tmp_path)
    assert len(store) == len(cohort)
    sizes = 0
    for row in range(len(store)):
        image = cohort.read(row)
        pixels = store.pixels(row)
        np.testing.assert_array_equal(pixels, pipeline.apply(image).pixels)
        boxes, classes = store.boxes(row)
        known, labels = cohort.boxes(row)
        np.testing.assert_array_equal(classes, labels)
        np.testing.assert_allclose(boxes, known / 2, atol=0.5)
        np.testing.assert_allclose(store.change(row).back(boxes), known, atol=1)
        sizes += pixels.nbytes
    chosen = np.arange(len(store)) == len(store) - 1
    np.testing.assert_array_equal(store.batch(chosen), store.pixels(len(store) - 1)[np.newaxis])
    with pytest.raises(CohortError, match="Asked for rows -1"):
        store.batch([-1])
    assert store.needs == sizes + 256
    again = SceneStore.build(cohort, pipeline, folder=tmp_path)
    np.testing.assert_array_equal(again.pixels(1), store.pixels(1))
    assert again.shape == tuple(store.shapes.max(axis=0))
