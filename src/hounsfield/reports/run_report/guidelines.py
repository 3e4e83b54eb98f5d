"""CLAIM 2024 and TRIPOD+AI item by item, each with what answers it; topics in short words of our own.

CLAIM: Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update", Radiology:
Artificial Intelligence 6(4):e240300. TRIPOD+AI: Collins et al., BMJ 385:e078378 (2024). The originals hold.
"""

from __future__ import annotations

from hounsfield.reports.run_report import answers as given
from hounsfield.reports.run_report.answers import Answer, Facts, Reply, author
from hounsfield.reports.run_report.content import Checklist, ChecklistRow
from hounsfield.reports.run_report.detector_answers import OF_DETECTORS
from hounsfield.reports.run_report.summary import how_well, what_it_does
from hounsfield.runs.record import DetectorRun


def _abstract(facts: Facts) -> Reply:
    run = facts.run
    return given.filled(f"Retrospective development and {run.split}. {what_it_does(run)} {' '.join(how_well(run))}")


def _retrospective(_: Facts) -> Reply:
    return given.filled("Retrospective: the images existed before the model.")


# Number -> topic, and what answers it.
CLAIM: dict[str, tuple[str, Answer]] = {
    "1": ("Title: says AI, and of which kind", given.title),
    "2": ("Abstract: design, methods, results, conclusions", _abstract),
    "3": ("Background, intended use, clinical role", author("why this model, for whom, in which step of care.")),
    "4": ("Aims and hypotheses", author("what was to be shown.")),
    "5": ("Prospective or retrospective", _retrospective),
    "6": ("Goal of the study", given.goal),
    "7": ("Sources of data", given.source),
    "8": ("Inclusion and exclusion", given.exclusions),
    "9": ("Preprocessing", given.preprocessing),
    "10": ("Selection of subsets", given.subsets),
    "11": ("De-identification", author("how the data was de-identified; this report names no patient and no file.")),
    "12": ("Missing data", given.missing),
    "13": ("Image acquisition", given.acquisition),
    "14": ("Reference standard: how obtained", author("how each label was found.")),
    "15": ("Reference standard: why this one", author("why this standard and no other.")),
    "16": ("Who annotated", author("who set the labels, with which qualification and training.")),
    "17": ("How the test set was annotated", author("how, with which tools.")),
    "18": ("Agreement of annotators", author("how well they agreed, and how differences were settled.")),
    "19": ("How data was assigned to partitions", given.partition),
    "20": ("Level at which partitions are disjoint", given.disjoint),
    "21": ("Sample size", given.sample_size),
    "22": ("The model in detail", given.network),
    "23": ("Software and versions", given.software),
    "24": ("Initialisation", given.initialisation),
    "25": ("Training", given.training),
    "26": ("How the final model was selected", given.selection),
    "27": ("Ensembling", given.ensembling),
    "28": ("Metrics", given.metrics),
    "29": ("Significance and uncertainty", given.uncertainty),
    "30": ("Robustness or sensitivity analysis", given.robustness),
    "31": ("Explainability", given.explainability),
    "32": ("Test on internal data", given.internal),
    "33": ("Test on external data", given.external),
    "34": ("Registration of a trial", author("the number, or that there is none.")),
    "35": ("Numbers included and excluded", given.flow),
    "36": ("Demographics by partition", given.demographics),
    "37": ("Performance in all partitions, with uncertainty", given.performance),
    "38": ("Diagnostic performance and its precision", given.accuracy),
    "39": ("Analysis of failures", given.failures),
    "40": ("Limitations", given.limits),
    "41": ("Implications for practice", author("what follows for care, and what stands in the way.")),
    "42": ("Protocol or technical details", given.protocol),
    "43": ("Availability of software, model, data", given.availability),
    "44": ("Funding and the funders' role", author("sources and their role.")),
}

TRIPOD_AI: dict[str, tuple[str, Answer]] = {
    "1": ("Title", given.title),
    "2": ("Abstract", _abstract),
    "3a": ("Context and rationale", author("diagnosis or prognosis, why a model, which others exist.")),
    "3b": ("Target population, purpose, users", author("for whom, at which step of care, used by whom.")),
    "3c": ("Known health inequalities", author("what is known between groups.")),
    "4": ("Objectives", author("development, evaluation, or both, and of what.")),
    "5a": ("Sources of data", given.source),
    "5b": ("Dates", author("when the images were taken.")),
    "6a": ("Setting and centres", author("kind of care, number and place of centres.")),
    "6b": ("Eligibility", given.exclusions),
    "6c": ("Treatments", author("whether treatment could show in the images.")),
    "7": ("Preparation of data", given.preprocessing),
    "8a": ("Outcome", author("what exactly each label means, and how it was assessed.")),
    "8b": ("Assessors of the outcome", author("their qualification.")),
    "8c": ("Blinding of the outcome", author("whether assessors knew anything of the model.")),
    "9a": ("Choice of predictors", lambda _: given.filled("The image alone; nothing was selected beforehand.")),
    "9b": ("Definition of predictors", given.acquisition),
    "9c": ("Assessors of predictors", lambda _: given.filled("None: images are read as files.")),
    "10": ("Sample size", given.sample_size),
    "11": ("Missing data", given.missing),
    "12a": ("Use of the data", given.partition),
    "12b": ("Handling of predictors", given.preprocessing),
    "12c": ("Kind of model, building, internal validation", given.training),
    "12d": ("Differences between clusters", given.groups),
    "12e": ("Measures and plots", given.metrics),
    "12f": ("Updating in evaluation", given.updating),
    "12g": ("How predictions were calculated", given.prediction),
    "13": ("Class imbalance", given.imbalance),
    "14": ("Fairness", given.groups),
    "15": ("Output and threshold", given.output),
    "16": ("Differences of development and evaluation data", given.demographics),
    "17": ("Ethics", author("committee, approval, consent or waiver.")),
    "18a": ("Funding", author("sources and their role.")),
    "18b": ("Conflicts of interest", author("of all authors.")),
    "18c": ("Protocol", author("where it is, or that there is none.")),
    "18d": ("Registration", author("register and number, or none.")),
    "18e": ("Availability of data", given.availability),
    "18f": ("Availability of code", given.availability),
    "19": ("Patients and public", author("how they were involved, or not.")),
    "20a": ("Flow of participants", given.flow),
    "20b": ("Characteristics", given.demographics),
    "20c": ("Comparison with development data", given.demographics),
    "21": ("Participants and events in each analysis", given.partition),
    "22": ("The full model", given.specification),
    "23a": ("Performance with intervals, by subgroup", given.performance),
    "23b": ("Heterogeneity between clusters", given.groups),
    "24": ("Results of updating", given.updating),
    "25": ("Interpretation", author("what the results mean beside other studies, and for fairness.")),
    "26": ("Limitations", given.limits),
    "27a": ("Poor or missing input", given.poor_input),
    "27b": ("What users must do and know", given.interaction),
    "27c": ("Next steps", author("what is to be studied next.")),
}


def checklist(name: str, items: dict[str, tuple[str, Answer]], facts: Facts) -> Checklist:
    """Answer every item of a guideline."""
    detects = isinstance(facts.run, DetectorRun)
    rows = []
    for number, (topic, answer) in items.items():
        reply = OF_DETECTORS.get(answer, answer)(facts) if detects else answer(facts)
        rows.append(ChecklistRow(number, topic, reply.status, reply.text))
    filled = sum(row.status == "filled" for row in rows)
    partly = sum(row.status == "partly" for row in rows)
    left = len(rows) - filled - partly
    title = f"{name}: {filled} of {len(rows)} filled here, {partly} in part, {left} left to the author"
    return Checklist(title, tuple(rows))
