"""MLflow: settings, figures, and the bundle as a model that ``mlflow.pyfunc.load_model`` opens."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hounsfield.errors import require
from hounsfield.training.tracking.base import Ending, Setting
from hounsfield.training.tracking.memory import Memory
from hounsfield.version import __version__

EXPERIMENT = "hounsfield"
# MLflow tells its makers how it is used, and waits for a dead server for minutes; what the user has set counts.
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
LOADER = "hounsfield.inference.mlflow_model"


class MLflowTracker:
    """Logs explicitly, through a client of its own, so that nothing of this machine is added; see ``Tracker``.

    Args:
        uri: of the tracking server or store; where empty, MLFLOW_TRACKING_URI or MLflow's own default.
        memory: of the run's id, so that a training that is resumed goes on in the same run.
        register: name of a registered model, perhaps with "@ALIAS", that gets a new version at the end; or empty.
    """

    def __init__(self, uri: str, memory: Memory, register: str) -> None:
        self._uri, self._memory = uri, memory
        self._model, _, self._alias = register.partition("@")
        self._settings: Mapping[str, Setting] = {}
        self._client: Any = None
        self._run = ""

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """Begin a run in the experiment "hounsfield", or in that of MLFLOW_EXPERIMENT_NAME; see ``Tracker``."""
        self._settings = settings
        self._open()

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """Log one epoch as a step; see ``Tracker``."""
        self._open()
        entities = require("mlflow.entities", "--track mlflow")
        now, step = self._now(), int(record["epoch"])
        metrics = [
            entities.Metric(_allowed(f"{network}/{name}"), float(value), now, step)
            for name, value in record.items()
            if name != "epoch"
        ]
        self._client.log_batch(self._run, metrics=metrics)

    def end(self, ending: Ending) -> None:
        """Log the metrics, then the model; see ``Tracker``."""
        self._open()
        entities = require("mlflow.entities", "--track mlflow")
        now = self._now()
        metrics = [entities.Metric(_allowed(name), value, now, 0) for name, value in ending.metrics.items()]
        self._client.log_batch(self._run, metrics=metrics)
        self._publish(self._log_model(ending.bundle))

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
        if self._run:
            self._client.set_terminated(self._run, status="FAILED" if failed else "FINISHED")

    def _log_model(self, bundle: Path) -> str:
        """Log a bundle as the model "model" of the run, and return its id.

        The functions of MLflow that do this at once add the user and the command, and know one server a process.
        """
        entities = require("mlflow.entities", "--track mlflow")
        experiment = self._client.get_run(self._run).info.experiment_id
        model = self._client.create_logged_model(experiment, name="model", source_run_id=self._run)
        with TemporaryDirectory() as folder:
            save_model(bundle, Path(folder) / "model", run=self._run, identity=model.model_id)
            self._client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(self._run, [entities.LoggedModelOutput(model.model_id, step=0)])
        return str(model.model_id)

    def _publish(self, identity: str) -> None:
        """Make a logged model a version of the registered one, where one was asked for."""
        if not self._model:
            return
        if not self._client.search_registered_models(f"name = '{self._model}'"):
            self._client.create_registered_model(self._model)
        source = self._client.get_logged_model(identity).artifact_location
        version = self._client.create_model_version(self._model, source, run_id=self._run, model_id=identity)
        if self._alias:
            self._client.set_registered_model_alias(self._model, self._alias, version.version)

    def _now(self) -> int:
        """Milliseconds, as MLflow counts time."""
        return int(require("mlflow.utils.time", "--track mlflow").get_current_time_millis())

    def _open(self) -> None:
        """The run of before, or a new one; tried again by the next call where the server did not answer."""
        if self._run:
            return
        self._client = self._client or mlflow_package().MlflowClient(self._uri or None)
        known = self._memory.recall()
        run = known or self._client.create_run(self._experiment(), tags={"hounsfield.version": __version__}).info.run_id
        self._memory.keep(run)
        if not known:
            entities = require("mlflow.entities", "--track mlflow")
            settings = [entities.Param(_allowed(name), str(value)) for name, value in self._settings.items()]
            self._client.log_batch(run, params=settings)
        self._run = run

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found is not None else self._client.create_experiment(name))


def _allowed(name: str) -> str:
    """A name as MLflow takes it: other characters, which a label may have, as their code points."""
    return re.sub(r"[^\w./: -]", lambda found: f"_{ord(found[0]):x}_", name)


def mlflow_package() -> Any:
    """The package, with settings under which it sends nothing to its makers.

    Raises:
        MissingDependency: it is not installed.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    return require("mlflow", "--track mlflow")


def save_model(bundle: Path, folder: Path, *, run: str, identity: str) -> None:
    """Write a bundle in MLflow's form; no code is pickled, its loader is a module of this package.

    Args:
        bundle: the folder.
        folder: that is made.
        run: the id of the run.
        identity: of the model in MLflow.
    """
    models = require("mlflow.models", "--track mlflow")
    types = require("mlflow.types", "--track mlflow")
    with warnings.catch_warnings():
        # It warns of type hints of its own, and that no example of an input, which would be a patient's, is given.
        warnings.simplefilter("ignore")
        require("mlflow.pyfunc", "--track mlflow").save_model(
            str(folder),
            mlflow_model=models.Model(run_id=run, model_uuid=identity, model_id=identity),
            loader_module=LOADER,
            data_path=str(bundle),
            signature=models.ModelSignature(inputs=types.Schema([types.ColSpec("string", "image")])),
            pip_requirements=[f"hounsfield[openvino]=={__version__}"],
        )
