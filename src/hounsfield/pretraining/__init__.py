"""Networks that learn from images without labels, as a start for later trainings."""

from hounsfield.pretraining.run import Pretraining, pretrain, resume

__all__ = ["Pretraining", "pretrain", "resume"]
