"""What the run of a detector answers otherwise than that of a classifier, of what reporting guidelines ask."""

from __future__ import annotations

from hounsfield.evaluation.detection_titles import TITLES, detection_title
from hounsfield.reports.run_report import answers as given
from hounsfield.reports.run_report.answers import Answer, Facts, Reply, filled
from hounsfield.reports.run_report.content import listed, with_interval
from hounsfield.reports.run_report.data import NAMES

HEADLINES = ("ap", "ap50", "recall", "precision", "luna16", "count_mae")


def title(facts: Facts) -> Reply:
    """What kind of study this is."""
    run = facts.run
    return filled(
        f"Development and test of a deep neural network (Faster R-CNN on {run.plan['network']}) that finds and counts "
        f"{listed(run.bundle.labels)} in images."
    )


def exclusions(facts: Facts) -> Reply:
    """What was left out."""
    return Reply(
        "partly",
        f"Every readable image was used ({len(facts.run.cohort):,}), those without objects as negatives; boxes that "
        "are not valid were left out, see Split and leaks. The author's to add: by which criteria patients came into "
        "the data.",
    )


def missing(facts: Facts) -> Reply:
    """What was done where something is missing."""
    return filled(
        f"Images that cannot be read and boxes without size, class or place are left out and counted; nothing is "
        f"imputed, and the network sees the image alone ({len(facts.run.cohort):,} images used)."
    )


def sample_size(facts: Facts) -> Reply:
    """How many cases, and how sure that makes the figures."""
    run = facts.run
    found = run.estimates["ap50"]
    width = "" if found["low"] is None else f" That gives an AP50 to ±{(found['high'] - found['low']) / 2:.3f}."
    return filled(
        f"No calculation was made beforehand: the size is that of the data ({run.num_cases:,} {run.split} images with "
        f"{found['n']:,} objects).{width}"
    )


def network(facts: Facts) -> Reply:
    """The network's structure."""
    run = facts.run
    return filled(
        "Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017) and RoI align (He et al. 2017) on "
        f"{run.plan['network']}, input {'×'.join(map(str, run.bundle.input_shape))}, {len(run.bundle.labels)} kinds of "
        "objects; anchors in Training and anchors, layer by layer in bundle/model.keras."
    )


def training(facts: Facts) -> Reply:
    """How it was trained."""
    plan = facts.run.plan
    return filled(
        "Both stages together: cross-entropy for objects and classes, generalised IoU for boxes; AdamW, peak rate "
        f"{plan['learning_rate']:g} with warm-up and cosine, weight decay {plan['weight_decay']:g}, batches of "
        f"{plan['batch_size']}, at most {plan['epochs']} epochs; augmentation and all else in the plan."
    )


def selection(_: Facts) -> Reply:
    """How the final weights were chosen."""
    return filled(
        "The averaged weights of the epoch with the greatest average precision on validation images; the score from "
        "which findings are said by their F1. Test images were used once, at the end."
    )


def ensembling(_: Facts) -> Reply:
    """Whether several networks answer."""
    return filled("None: one network, one view; images larger than its input are seen in overlapping windows.")


def metrics(facts: Facts) -> Reply:
    """Which figures are given."""
    return filled(
        f"{listed(TITLES[name] for name in TITLES if name in facts.run.estimates)}; see Results and Counting."
    )


def uncertainty(facts: Facts) -> Reply:
    """How intervals are made."""
    by = "by patient" if facts.run.num_patients is not None else "by image, since patients are unknown"
    return filled(f"95 % intervals of a bootstrap {by} (BCa); see Results.")


def robustness(_: Facts) -> Reply:
    """What worse images do."""
    return Reply("author", "The author's to fill: how findings change on worse images was not measured.")


def explainability(facts: Facts) -> Reply:
    """How the model's evidence is shown, and checked."""
    shown = "; typical and worst cases with their boxes in Cases" if facts.evidence else ""
    return filled(f"A finding is a box with a score, so where the evidence lies is part of the answer{shown}.")


def internal(facts: Facts) -> Reply:
    """The test on data of the same source."""
    found = {split: figures["ap50"]["value"] for split, figures in facts.run.metrics.items()}
    told = listed(f"{value:.3f} on {NAMES[split]}" for split, value in found.items() if value is not None)
    return filled(f"AP50 {told}.")


def accuracy(facts: Facts) -> Reply:
    """Diagnostic accuracy."""
    estimates = facts.run.estimates
    told = listed(
        f"{detection_title(name, ())} {with_interval(estimates[name])}" for name in HEADLINES if name in estimates
    )
    return filled(f"{told}; curves in Results.")


def failures(facts: Facts) -> Reply:
    """What went wrong where."""
    shown = "; the worst cases with pictures in Cases" if facts.evidence else ""
    return filled(f"By class and size in Results, by number of objects in Counting{shown}.")


def groups(_: Facts) -> Reply:
    """Whether groups of patients are served alike."""
    return Reply("author", "The author's to fill: groups of patients are not compared for detectors.")


def imbalance(_: Facts) -> Reply:
    """Whether labels were weighted."""
    return filled("Anchors and regions are sampled with a fixed share of objects; classes are not weighted.")


def output(facts: Facts) -> Reply:
    """What the model puts out."""
    return filled(
        f"Boxes in pixels of the image, each with a class and a score; said from a score of "
        f"{facts.run.bundle.threshold:.3g} on, see The score in use."
    )


def updating(_: Facts) -> Reply:
    """Whether probabilities were made anew."""
    return filled("None: scores are those of the network.")


def performance(_: Facts) -> Reply:
    """The figures."""
    return filled(
        "Every figure on validation and test with its interval, by class and by size: see Results and Counting."
    )


def poor_input(facts: Facts) -> Reply:
    """What happens with bad images."""
    kept = facts.run.bundle.counting
    flagged = (
        " and images unlike those of training are flagged" if kept is not None and kept.novelty is not None else ""
    )
    return filled(f"Files that cannot be read or do not fit are refused with a reason{flagged}.")


# What answers an item of a classifier -> what answers it of a detector; all others hold for both.
OF_DETECTORS: dict[Answer, Answer] = {
    given.title: title,
    given.exclusions: exclusions,
    given.missing: missing,
    given.sample_size: sample_size,
    given.network: network,
    given.training: training,
    given.selection: selection,
    given.ensembling: ensembling,
    given.metrics: metrics,
    given.uncertainty: uncertainty,
    given.robustness: robustness,
    given.explainability: explainability,
    given.internal: internal,
    given.accuracy: accuracy,
    given.failures: failures,
    given.groups: groups,
    given.imbalance: imbalance,
    given.output: output,
    given.updating: updating,
    given.performance: performance,
    given.poor_input: poor_input,
}
