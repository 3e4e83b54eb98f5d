"""Training detectors."""

from __future__ import annotations

import keras
import numpy as np
from matplotlib.figure import Figure
from pydantic import ValidationError

from hounsfield.bundle import Bundle, save_bundle
from hounsfield.cohorts import Cohort, SceneStore
from hounsfield.detection import FasterRCNN
from hounsfield.errors import CohortError, PlanError
from hounsfield.evaluation import DetectionAssessment, Novelty, choose_score, quick_precision
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.inference import Detector, check_bfloat16
from hounsfield.inference.onnx_networks import checked_precision
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.pretrained import load_encoder
from hounsfield.progress import Progress
from hounsfield.testing.boxes import RawFindings, predict
from hounsfield.testing.engine_runs import evenly
from hounsfield.training.adapting import origin
from hounsfield.training.base import Choice, GapLimits, Job, Member, Specification, Verdict, gap_verdict
from hounsfield.training.detector import DetectorTrainee

# Images on which bfloat16 is compared with float32, and training images, at most, that are predicted again: by them
# overfitting is judged, and what images like those of training are.
CHECKED, REVISITED = 24, 400
CRITERION = DetectorTrainee.criterion
# A difference of AP50 between training and validation above this is worth a word; so is less than this in training.
LIMITS = GapLimits(learned=0.7, notable_gap=0.1)

BoxJob = Job[DetectionPlan, SceneStore]
BoxMember = Member[DetectionPlan, SceneStore]


def check(plan: DetectionPlan, cohort: Cohort) -> None:
    """Refuse a plan that does not fit the cohort; see ``Training``."""
    if (plan.task, plan.labels) != (cohort.task, cohort.labels):
        raise PlanError(
            f"The plan is for a detector of {', '.join(plan.labels)}, but the data has a {cohort.task} task with "
            f"{', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan DATA'."
        )
    rank = cohort.box_rank
    axes = set(plan.augmentation.flip_axes)
    if len(plan.input_shape) - 1 != rank or not axes <= set(range(rank)):
        raise PlanError(
            f"The plan has the input_shape {plan.input_shape} and mirrors along the axes {sorted(axes)}, but the boxes "
            f"have {rank} axes. Correct input_shape or augmentation.flip_axes."
        )
    most = int(cohort.box_counts()[cohort.rows("train")].sum(axis=1).max())
    if most > plan.max_objects:
        raise PlanError(
            f"A training image has {most:,} objects, and the plan has room for {plan.max_objects:,} in max_objects: "
            f"some would be dropped. Set max_objects to {most:,} or more."
        )
    if plan.mask_bins and not cohort.has_object_masks:
        raise PlanError(
            "The plan outlines objects (mask_bins), but not every box of the data has a mask of its object. Set "
            "mask_bins to 0, or give masks: COCO's segmentation of each object, or instance maps."
        )
    try:
        plan.detector_settings()
    except ValidationError as error:
        raise PlanError(f"The plan cannot be used: {error.errors()[0]['msg']}. Correct its anchors.") from error
    # A backbone that cannot be built on this input is better found now than after the images are prepared.
    build_network(plan)


def build_store(plan: DetectionPlan, cohort: Cohort, progress: Progress) -> SceneStore:
    """Images of any size, with their boxes; see ``Training``."""
    store = SceneStore.build(cohort, plan.pipeline, progress=progress)
    if store.shape[-1] != plan.input_shape[-1]:
        raise PlanError(
            f"The pipeline makes images of {store.shape[-1]} channels, and the plan's input_shape is "
            f"{plan.input_shape}. Correct one of them in the plan."
        )
    for split in ("train", "validation"):
        chosen = store.cohort.rows(split)
        if not sum(len(store.boxes(int(row))[0]) for row in chosen):
            raise CohortError(
                f"The {split} split of the cohort '{store.cohort.name}' has no box after the pipeline, in "
                f"{len(chosen)} images: a detector learns from objects and is tested on them. Add images with boxes "
                "there, or leave the column 'split' out to have the split made."
            )
    return store


def rows(job: BoxJob) -> list[tuple[np.ndarray, np.ndarray]]:
    """One network, by split; see ``Training``."""
    cohort = job.store.cohort
    return [(np.asarray(cohort.rows("train")), np.asarray(cohort.rows("validation")))]


def num_predicted(job: BoxJob, train: np.ndarray) -> int:
    """Images: some of training, of validation before and after the check of bfloat16, of test; see ``Training``."""
    cohort = job.store.cohort
    return min(len(train), REVISITED) + 2 * len(cohort.rows("validation")) + len(cohort.rows("test"))


def build_network(plan: DetectionPlan) -> FasterRCNN:
    """A plain detector; see ``Training``."""
    network = FasterRCNN(plan.detector_settings())
    if plan.encoder is not None and plan.weights is not None:
        load_encoder(network.trunk, plan.encoder, plan.weights, plan.licence)
    return network


def make_trainee(network: FasterRCNN, specification: Specification[DetectionPlan, SceneStore]) -> DetectorTrainee:
    """The detector in training; see ``Training``."""
    part = specification
    return DetectorTrainee(network, part.store, part.train, part.validation, part.plan)


def put_weights(network: keras.Model, weights: list[np.ndarray]) -> None:
    """Those of one part after the other; see ``Training``."""
    first = 0
    for part in network.parts:
        count = len(part.get_weights())
        part.set_weights(weights[first : first + count])
        first += count


def deploy(job: BoxJob, members: list[BoxMember]) -> Bundle:
    """The detector; see ``Training``."""
    plan = job.plan
    return save_bundle(
        job.folder.bundle,
        members[0].network,
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        settings={"window_overlap": plan.window_overlap} | origin(plan.weights, "finetune" if plan.encoder else None),
        **job.origin(),
    )


def choose(job: BoxJob, members: list[BoxMember], bundle: Bundle) -> Choice[RawFindings]:
    """Score threshold, errors of counts, and what is out of distribution; see ``Training``.

    Whether bfloat16 finds the same comes first: the findings are then those of the engine that will run the bundle.
    """
    store, part = job.store, members[0].specification
    detector = Detector(bundle)
    held = predict(detector, store, part.validation, job.progress, "validation")
    if bundle.has_onnx:
        checked = (store.pixels(int(row)) for row in evenly(part.validation, CHECKED))
        same = check_bfloat16(_with_score(bundle, held), checked)
        job.folder.record("engine check", bfloat16_same_findings=same)
        detector = Detector(bundle.with_check("bfloat16", same))
        if checked_precision(detector.bundle) == "bf16":
            held = predict(detector, store, part.validation, job.progress, "validation")
    revisited = predict(detector, store, evenly(part.train, REVISITED), job.progress, "training")
    novelty = Novelty.fit({"features": revisited.features}, {"features": held.features})
    bundle = _with_score(detector.bundle, held, novelty)
    line = f"Score threshold {bundle.threshold:.3f}: the best F1 on validation images."
    return Choice(bundle, detector, revisited, held, (line,))


def _with_score(bundle: Bundle, held: RawFindings, novelty: Novelty | None = None) -> Bundle:
    """The bundle with the score from which a finding counts, and with the errors of its counts."""
    threshold = choose_score(held.detections)
    counts = DetectionUncertainty(held.detections.truth_counts(), held.detections.counts(threshold), novelty)
    return bundle.with_uncertainty(counts, threshold=threshold)


def diagnose(job: BoxJob, members: list[BoxMember], choice: Choice[RawFindings]) -> Verdict:
    """By AP50 on training and validation images; see ``Training``."""
    trained, validated = (quick_precision(each.detections)[1] for each in (choice.train, choice.validation))
    revisited, epochs = len(choice.train.rows), members[0].fitted.epochs
    return gap_verdict(job, "AP50", trained, validated, revisited=revisited, epochs=epochs, limits=LIMITS)


def remarks(
    job: BoxJob,  # noqa: ARG001 - nothing more is written
    choice: Choice[RawFindings],  # noqa: ARG001
    raw: dict[str, RawFindings],  # noqa: ARG001
    assessed: dict[str, DetectionAssessment],
) -> list[str]:
    """The error of counts on each split; see ``Training``."""
    return [
        f"Counts on {split}: wrong by {each.estimates['count_mae'].value:.2f} objects per image on average."
        for split, each in assessed.items()
    ]


def figures(job: BoxJob, bundle: Bundle, raw: RawFindings) -> dict[str, Figure]:  # noqa: ARG001 - see below
    """None beside those of the report; see ``Training``."""
    return {}
