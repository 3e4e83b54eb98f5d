"""What is known of the training rows and of this machine makes a plan, with reasons."""

from hounsfield.planning.base import Facts, Planner, Wish
from hounsfield.planning.table import PLANNERS, check_network, make_plan

__all__ = ["PLANNERS", "Facts", "Planner", "Wish", "check_network", "make_plan"]
