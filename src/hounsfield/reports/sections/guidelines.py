"""Reporting guidelines item by item, each with its answer or who gives it; topics in short words of our own.

CLAIM: Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 update", Radiology:
Artificial Intelligence 6(4):e240300. TRIPOD+AI: Collins et al., BMJ 385:e078378 (2024). STARD-AI and PROBAST+AI have
modules of their own. The originals rule.
"""

from __future__ import annotations

from hounsfield.reports.sections.answers import Facts, Items, answer, author
from hounsfield.reports.sections.content import Checklist, ChecklistRow
from hounsfield.reports.sections.probast import PROBAST_AI
from hounsfield.reports.sections.stard import STARD_AI

CLAIM: Items = {
    "1": ("Title: says AI, and of which kind", "title"),
    "2": ("Abstract: design, methods, results, conclusions", "abstract"),
    "3": (
        "Background, intended use, clinical role",
        author("why this model, for whom, in which step of care.", "rationale", "intended_use", "users"),
    ),
    "4": ("Aims and hypotheses", author("what the study was meant to show.", "objectives")),
    "5": ("Prospective or retrospective", "retrospective"),
    "6": ("Goal of the study", "goal"),
    "7": ("Sources of data", "source"),
    "8": ("Inclusion and exclusion", "exclusions"),
    "9": ("Preprocessing", "preprocessing"),
    "10": ("Selection of subsets", "subsets"),
    "11": ("De-identification", author("how the data was de-identified.", "deidentification")),
    "12": ("Missing data", "missing"),
    "13": ("Image acquisition", "acquisition"),
    "14": ("Reference standard: how obtained", author("how each label was determined.", "reference_standard")),
    "15": ("Reference standard: why this one", author("why this standard was chosen.", "reference_standard")),
    "16": ("Who annotated", author("who annotated the images, with which qualification and training.", "annotators")),
    "17": ("How the test set was annotated", author("how, with which tools.", "annotators")),
    "18": ("Agreement of annotators", author("how well they agreed, and how differences were settled.", "agreement")),
    "19": ("How data was assigned to partitions", "partition"),
    "20": ("Level at which partitions are disjoint", "disjoint"),
    "21": ("Sample size", "sample_size"),
    "22": ("The model in detail", "network"),
    "23": ("Software and versions", "software"),
    "24": ("Initialisation", "initialisation"),
    "25": ("Training", "training"),
    "26": ("How the final model was selected", "selection"),
    "27": ("Ensembling", "ensembling"),
    "28": ("Metrics", "metrics"),
    "29": ("Significance and uncertainty", "uncertainty"),
    "30": ("Robustness or sensitivity analysis", "robustness"),
    "31": ("Explainability", "explainability"),
    "32": ("Test on internal data", "internal"),
    "33": ("Test on external data", "external"),
    "34": ("Registration of a trial", author("the registration number, or that there is none.", "registration")),
    "35": ("Numbers included and excluded", "flow"),
    "36": ("Demographics by partition", "demographics"),
    "37": ("Performance in all partitions, with uncertainty", "performance"),
    "38": ("Diagnostic performance and its precision", "accuracy"),
    "39": ("Analysis of failures", "failures"),
    "40": ("Limitations", "limits"),
    "41": (
        "Implications for practice",
        author("what the results mean for care, and what stands in the way.", "implications"),
    ),
    "42": ("Protocol or technical details", "protocol"),
    "43": ("Availability of software, model, data", "availability"),
    "44": ("Funding and the funders' role", author("the sources and their role.", "funding")),
}

TRIPOD_AI: Items = {
    "1": ("Title", "title"),
    "2": ("Abstract", "abstract"),
    "3a": ("Context and rationale", author("diagnosis or prognosis, why a model, which others exist.", "rationale")),
    "3b": (
        "Target population, purpose, users",
        author("for whom, at which step of care, and used by whom.", "population", "intended_use", "users"),
    ),
    "3c": ("Known health inequalities", author("what is known of differences between groups.", "fairness")),
    "4": ("Objectives", author("development, evaluation, or both, and of what.", "objectives")),
    "5a": ("Sources of data", "source"),
    "5b": ("Dates", author("when the images were taken.", "dates")),
    "6a": ("Setting and centres", author("the kind of care, the number of centres and where they are.", "setting")),
    "6b": ("Eligibility", "exclusions"),
    "6c": ("Treatments", author("whether treatment could be visible in the images.", "interval")),
    "7": ("Preparation of data", "prepared"),
    "8a": ("Outcome", author("what exactly each label means, and how it was assessed.", "reference_standard")),
    "8b": ("Assessors of the outcome", author("their qualifications.", "annotators")),
    "8c": ("Blinding of the outcome", author("whether the assessors knew anything of the model.", "blinding")),
    "9a": ("Choice of predictors", "predictors"),
    "9b": ("Definition of predictors", "acquisition"),
    "9c": ("Assessors of predictors", "readers"),
    "10": ("Sample size", "sample_size"),
    "11": ("Missing data", "missing"),
    "12a": ("Use of the data", "partition"),
    "12b": ("Handling of predictors", "preprocessing"),
    "12c": ("Kind of model, building, internal validation", "training"),
    "12d": ("Differences between clusters", "groups"),
    "12e": ("Measures and plots", "metrics"),
    "12f": ("Updating in evaluation", "updating"),
    "12g": ("How predictions were calculated", "prediction"),
    "13": ("Class imbalance", "imbalance"),
    "14": ("Fairness", "fairness"),
    "15": ("Output and threshold", "output"),
    "16": ("Differences of development and evaluation data", "demographics"),
    "17": ("Ethics", author("the committee, its approval, and consent or waiver.", "ethics")),
    "18a": ("Funding", author("the sources and their role.", "funding")),
    "18b": ("Conflicts of interest", author("those of all authors.", "conflicts")),
    "18c": ("Protocol", author("where it can be found, or that there is none.", "protocol")),
    "18d": ("Registration", author("the register and number, or that there is none.", "registration")),
    "18e": ("Availability of data", "availability"),
    "18f": ("Availability of code", "availability"),
    "19": ("Patients and public", author("how they were involved, or not.", "patients_involved")),
    "20a": ("Flow of participants", "flow"),
    "20b": ("Characteristics", "demographics"),
    "20c": ("Comparison with development data", "demographics"),
    "21": ("Participants and events in each analysis", "participants"),
    "22": ("The full model", "specification"),
    "23a": ("Performance with intervals, by subgroup", "performance"),
    "23b": ("Heterogeneity between clusters", "groups"),
    "24": ("Results of updating", "updating"),
    "25": (
        "Interpretation",
        author("what the results mean in view of other studies, and for fairness.", "interpretation"),
    ),
    "26": ("Limitations", "limits"),
    "27a": ("Poor or missing input", "poor_input"),
    "27b": ("What users must do and know", "interaction"),
    "27c": ("Next steps", author("what should be studied next.", "implications")),
}

# Guideline -> its items, in the order of the report.
GUIDELINES = {"CLAIM 2024": CLAIM, "TRIPOD+AI": TRIPOD_AI, "STARD-AI": STARD_AI, "PROBAST+AI": PROBAST_AI}


def checklist(name: str, items: Items, facts: Facts) -> Checklist:
    """Answer every item of a guideline."""
    rows = []
    for number, (topic, found) in items.items():
        reply = answer(found, facts)
        rows.append(ChecklistRow(number, topic, reply.status, reply.text))
    filled = sum(row.status == "filled" for row in rows)
    partly = sum(row.status == "partly" for row in rows)
    left = len(rows) - filled - partly
    title = f"{name}: {filled} of {len(rows)} filled in, {partly} in part, {left} left to the author"
    return Checklist(title, tuple(rows))
