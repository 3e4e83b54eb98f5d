"""Work on many images in several processes, on one machine or on a Ray cluster."""

from hounsfield.distributed.bulk import BulkResult, run_bulk
from hounsfield.distributed.opening import open_pool
from hounsfield.distributed.pool import Pool
from hounsfield.distributed.predicting import FeatureWork, PredictionWork
from hounsfield.distributed.worker import Limits

__all__ = ["BulkResult", "FeatureWork", "Limits", "Pool", "PredictionWork", "open_pool", "run_bulk"]
