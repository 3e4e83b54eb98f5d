"""A bundle judged on rows of a cohort, or on anyone's table; no Keras is needed."""

from hounsfield.testing.run import Tested, evaluate_run, evaluate_table, table_family
from hounsfield.testing.table import TESTS

__all__ = ["TESTS", "Tested", "evaluate_run", "evaluate_table", "table_family"]
