"""The plan of each family: every decision of a training with its reason, read and changed without Keras."""

from hounsfield.plans.augmentation import SCENE_STRENGTHS, STRENGTHS, Augmentation, SceneAugmentation, Strength
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.plans.labels import Plan
from hounsfield.plans.loading import check_changes, load_plan

__all__ = [
    "SCENE_STRENGTHS",
    "STRENGTHS",
    "Augmentation",
    "BasePlan",
    "DetectionPlan",
    "DetectorSettings",
    "Effort",
    "Plan",
    "SceneAugmentation",
    "Strength",
    "check_changes",
    "load_plan",
]
