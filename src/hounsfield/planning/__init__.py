"""What is known of the training rows and of this machine makes a plan, with reasons."""

from hounsfield.planning.base import SCRATCH, Facts, Planner, Start, Wish
from hounsfield.planning.table import PLANNERS, check_network, check_start, make_plan

__all__ = ["PLANNERS", "SCRATCH", "Facts", "Planner", "Start", "Wish", "check_network", "check_start", "make_plan"]
