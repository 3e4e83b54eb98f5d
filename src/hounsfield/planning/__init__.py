"""Fingerprint and hardware make a plan, with reasons."""

from hounsfield.planning.hardware import Hardware
from hounsfield.planning.plan import Effort, Plan
from hounsfield.planning.planner import make_plan

__all__ = ["Effort", "Hardware", "Plan", "make_plan"]
