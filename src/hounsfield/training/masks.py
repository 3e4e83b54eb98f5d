"""Training segmenters."""

from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np
import psutil
from matplotlib.figure import Figure

from hounsfield.bundle import Bundle, save_bundle
from hounsfield.cohorts import TARGETS, Cohort, MaskStore
from hounsfield.errors import PlanError, ResourceError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.misorientation import Misorientation
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.segmentation_assessment import SegmentationAssessment
from hounsfield.inference import check_bfloat16
from hounsfield.inference.appearance import layout
from hounsfield.inference.masks import COVERAGE, Segmenter
from hounsfield.inference.sliding import OVERLAP
from hounsfield.inference.windows import window_starts
from hounsfield.planning.masks import FEWEST_STEPS, memory_mb, network_of, revisited
from hounsfield.plans.masks import MaskPlan
from hounsfield.pretrained import load_encoder, start_from
from hounsfield.progress import Progress
from hounsfield.testing.engine_runs import evenly
from hounsfield.testing.masks import RawMasks, helped_by_largest_component, kept, predict
from hounsfield.training.adapting import check_unseen, origin
from hounsfield.training.base import Choice, GapLimits, Job, Member, Specification, Verdict, gap_verdict
from hounsfield.training.schedule import Schedule
from hounsfield.training.segmenter import SegmenterTrainee

__all__ = [
    "CRITERION",
    "build_network",
    "build_store",
    "check",
    "choose",
    "deploy",
    "diagnose",
    "figures",
    "make_trainee",
    "num_predicted",
    "put_weights",
    "remarks",
    "rows",
]

CRITERION = SegmenterTrainee.criterion
# Images on which bfloat16 is compared with float32.
CHECKED = 8
# Training images that tell how images lie.
LAID_OUT = 256
# A difference of Dice between training and validation above this is worth a word; so is less than this in training.
LIMITS = GapLimits(learned=0.75, notable_gap=0.08)

MaskJob = Job[MaskPlan, MaskStore]
MaskMember = Member[MaskPlan, MaskStore]


def check(plan: MaskPlan, cohort: Cohort) -> None:
    """Refuse a plan that does not fit the cohort, or needs more memory than there is; see ``Training``.

    Raises:
        ResourceError: the memory is too small.
    """
    if (plan.task, plan.labels) != (cohort.task, cohort.labels):
        raise PlanError(
            f"The plan is for a segmenter of {', '.join(plan.labels)}, but the data has a {cohort.task} task with "
            f"{', '.join(cohort.labels)}. Make a plan for this data with 'hounsfield plan DATA'."
        )
    if plan.overlapping != cohort.overlapping:
        found, meant = ("overlap" if each else "exclude each other" for each in (cohort.overlapping, plan.overlapping))
        raise PlanError(
            f"The labels of the data {found}, and the plan is for labels that {meant}. Set overlapping to "
            f"{str(cohort.overlapping).lower()}."
        )
    if plan.weights is not None:
        check_unseen(plan.weights, cohort)
        # A network that differs from that of the weights is better found now.
        build_network(plan)
    needed, present = memory_mb(plan), psutil.virtual_memory().total / 2**20
    if needed > present:
        raise ResourceError(
            f"A training step on {plan.batch_size} patches of {'×'.join(map(str, plan.input_shape[:-1]))} pixels at "
            f"width {plan.width} needs about {needed / 1024:,.0f} GiB of memory, and this machine has "
            f"{present / 1024:,.0f} GiB. Set a smaller input_shape, batch_size or width."
        )


def build_store(plan: MaskPlan, cohort: Cohort, progress: Progress) -> MaskStore:
    """Images of any size, with their masks; see ``Training``."""
    store = MaskStore.build(cohort, plan.pipeline, progress=progress)
    if (len(store.shape), store.shape[-1]) != (len(plan.input_shape), plan.input_shape[-1]):
        raise PlanError(
            f"The pipeline makes images of {len(store.shape) - 1} axes and {store.shape[-1]} channels, and the plan's "
            f"input_shape is {plan.input_shape}. Correct one of them in the plan."
        )
    TARGETS[store.cohort.family].check_trainable(store.cohort)
    return store


def rows(job: MaskJob) -> list[tuple[np.ndarray, np.ndarray]]:
    """One network, by split; each training row as often as patches are drawn of it in an epoch; see ``Training``."""
    cohort = job.store.cohort
    return [(np.repeat(cohort.rows("train"), job.plan.patches), np.asarray(cohort.rows("validation")))]


def num_predicted(job: MaskJob, train: np.ndarray) -> int:
    """Windows: of some training images, of all others, and of those that bfloat16 is checked on; see ``Training``."""
    cohort, sides = job.store.cohort, job.plan.input_shape[:-1]
    counts = [
        math.prod(len(window_starts(int(length), side, OVERLAP)) for length, side in zip(shape, sides, strict=True))
        for shape in job.store.shapes[:, :-1]
    ]
    again, others = min(len(np.unique(train)), revisited(job.plan)), len(cohort.rows("validation"))
    images = again + others + 2 * min(others, CHECKED) + len(cohort.rows("test"))
    return round(images * float(np.mean(counts)))


def build_network(plan: MaskPlan) -> keras.Model:
    """A plain U-Net; see ``Training``."""
    network = network_of(plan)
    if plan.weights is not None and plan.encoder is not None:
        load_encoder(network, plan.encoder, plan.weights, plan.licence)
    elif plan.weights is not None:
        start_from(network, plan.weights)
    return network


def make_trainee(network: keras.Model, specification: Specification[MaskPlan, MaskStore]) -> SegmenterTrainee:
    """The segmenter in training; see ``Training``."""
    part = specification
    judged = evenly(part.validation, part.plan.judged)
    return SegmenterTrainee(network, part.store, part.train, judged, part.plan, seed=part.seed)


def put_weights(network: keras.Model, weights: list[np.ndarray]) -> None:
    """Those of the plain network; see ``Training``."""
    network.set_weights(weights)


def deploy(job: MaskJob, members: list[MaskMember]) -> Bundle:
    """The network without the outputs of deep supervision; see ``Training``."""
    plan = job.plan
    return save_bundle(
        job.folder.bundle,
        members[0].network,
        pipeline=plan.pipeline,
        labels=plan.labels,
        task=plan.task,
        settings={
            "strides": [list(stride) for stride in plan.strides],
            "overlapping": plan.overlapping,
            "spacing": list(plan.spacing),
            "flips": list(plan.augmentation.flip_axes),
            **origin(plan.weights, "finetune"),
        },
        **job.origin(),
    )


def choose(job: MaskJob, members: list[MaskMember], bundle: Bundle) -> Choice[RawMasks]:
    """Whether only the largest component of a label is kept, and what is out of distribution; see ``Training``.

    Whether bfloat16 gives the same masks comes first: the masks are then those of the engine that will run the bundle.
    """
    store, part = job.store, members[0].specification
    if bundle.has_onnx:
        checked = (store.image(int(row)) for row in evenly(part.validation, CHECKED))
        same = check_bfloat16(bundle, checked)
        job.folder.record("engine check", bfloat16_same_masks=same)
        bundle = bundle.with_check("bfloat16", same)
    segmenter = Segmenter(bundle)
    held = predict(segmenter, store, part.validation, job.progress, "validation")
    trained = predict(segmenter, store, evenly(np.unique(part.train), revisited(job.plan)), job.progress, "training")
    helped = helped_by_largest_component(held)
    held, trained = held.cleaned(helped), trained.cleaned(helped)
    novelty = _novelty(store, part.train, trained, held)
    bundle = replace(bundle, settings={**bundle.settings, "largest_component": helped})
    bundle = bundle.with_uncertainty(kept(held, novelty), threshold=bundle.threshold)
    line = (
        f"Only the largest connected part is kept of {', '.join(helped)}: better on validation images."
        if helped
        else "Smaller connected parts are kept: leaving them out is no better on validation images."
    )
    told = [novelty.misorientation.describe()] if novelty.misorientation else []
    lines = (line, *told, *_few_steps(job, members[0]))
    return Choice(bundle, Segmenter(bundle), trained, held, lines)


def _few_steps(job: MaskJob, member: MaskMember) -> list[str]:
    """A word on a training for which the time was too short."""
    steps = member.fitted.epochs * Schedule.of(job.plan).num_batches(len(member.specification.train))
    if steps >= FEWEST_STEPS or job.plan.minutes is None:
        return []
    told = (
        f"The time was enough for {steps:,} steps. With fewer than {FEWEST_STEPS:,} small structures may not be found: "
    )
    return [f"{told}give it more than {job.plan.minutes:g} --minutes, or train while the machine is less busy."]


def _novelty(store: MaskStore, train: np.ndarray, trained: RawMasks, held: RawMasks) -> Novelty:
    """What is out of distribution: by what the network makes of images, and by how these lie."""
    fitted, limiting = (
        {name: rows for name, rows in each.descriptions.items() if name != "orientation"} for each in (trained, held)
    )
    # More training images than the network is run on: this takes no network.
    layouts = np.stack([layout(store.image(int(row))) for row in evenly(np.unique(train), LAID_OUT)])
    misorientation = Misorientation.fit(layouts, held.descriptions["orientation"])
    return replace(Novelty.fit(fitted, limiting), misorientation=misorientation)


def diagnose(job: MaskJob, members: list[MaskMember], choice: Choice[RawMasks]) -> Verdict:
    """By the mean Dice on training and validation images; see ``Training``."""
    trained, validated = (float(np.nanmean(each.cases["dice"])) for each in (choice.train, choice.validation))
    revisited, epochs = len(choice.train.rows), members[0].fitted.epochs
    return gap_verdict(job, "Dice", trained, validated, revisited=revisited, epochs=epochs, limits=LIMITS)


def remarks(
    job: MaskJob,
    choice: Choice[RawMasks],
    raw: dict[str, RawMasks],
    assessed: dict[str, SegmentationAssessment],  # noqa: ARG001
) -> list[str]:
    """How far predicted Dice was from the true one on test images; see ``Training``."""
    known = choice.bundle.kept(MaskUncertainty)
    if "test" not in raw or known is None:
        return []
    cases, errors, held = raw["test"].cases, [], []
    for number, (expected, dice) in enumerate(zip(cases["expected"], cases["dice"], strict=True)):
        predicted = known.predicted_dice(number % len(job.plan.labels), expected, COVERAGE)
        if predicted is not None and math.isfinite(dice):
            errors.append(abs(predicted.value - dice))
            held.append(predicted.low <= dice <= predicted.high)
    if not errors:
        return []
    told = f"{sum(held):,} of {len(held):,} true values lie in their {COVERAGE:.0%} intervals"
    return [f"Predicted Dice on test images: off by {np.mean(errors):.3f} on average; {told}."]


def figures(job: MaskJob, bundle: Bundle, raw: RawMasks) -> dict[str, Figure]:  # noqa: ARG001 - see below
    """None beside those of the report; see ``Training``."""
    return {}
