"""What readers say of cases: its form, how far two of them agree, and who is to read without the model's answer."""

from hounsfield.reading.agreement import agreement
from hounsfield.reading.blind import is_blind
from hounsfield.reading.content import Content, Mark, Opinion, Region, read_content

__all__ = ["Content", "Mark", "Opinion", "Region", "agreement", "is_blind", "read_content"]
