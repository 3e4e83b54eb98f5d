"""The plan of each family: every decision of a training with its reason, read and changed without Keras."""

from hounsfield.plans.augmentation import (
    PATCH_STRENGTHS,
    SCENE_STRENGTHS,
    STRENGTHS,
    Augmentation,
    PatchAugmentation,
    SceneAugmentation,
    Strength,
)
from hounsfield.plans.base import BasePlan, Effort
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.plans.decision import Decision
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.plans.labels import Plan
from hounsfield.plans.loading import check_changes, load_plan
from hounsfield.plans.masks import MaskPlan
from hounsfield.plans.table import PLANS
from hounsfield.plans.values import ValuePlan
from hounsfield.plans.whole_images import WholeImagePlan

__all__ = [
    "PATCH_STRENGTHS",
    "PLANS",
    "SCENE_STRENGTHS",
    "STRENGTHS",
    "Augmentation",
    "BasePlan",
    "Decision",
    "DetectionPlan",
    "DetectorSettings",
    "Effort",
    "MaskPlan",
    "PatchAugmentation",
    "Plan",
    "SceneAugmentation",
    "Strength",
    "ValuePlan",
    "WholeImagePlan",
    "check_changes",
    "load_plan",
]
