"""STARD-AI item by item; topics in short words of our own.

Sounderajah et al., "The STARD-AI reporting guideline for diagnostic accuracy studies using artificial intelligence",
Nature Medicine 31:3283-3289 (2025), 40 items in 48 rows. The original rules.
"""

from __future__ import annotations

from hounsfield.reports.sections.answers import Items, author

STARD_AI: Items = {
    "1": ("Title or abstract: AI, and a measure of accuracy", "title"),
    "2": ("Abstract", "abstract"),
    "3": (
        "Background, intended use, place in the workflow",
        author("why this test, for which use, in which workflow.", "rationale", "intended_use", "users"),
    ),
    "4": ("Objectives and hypotheses", author("what the study was meant to show.", "objectives")),
    "5": ("Prospective or retrospective", "retrospective"),
    "6": ("Ethics", author("the committee and its approval, or why none is needed.", "ethics")),
    "7": ("Eligibility of participants and of data", "exclusions"),
    "8": ("How participants were identified", author("by symptoms, earlier tests or a registry.", "population")),
    "9": ("Setting and dates", author("where and when patients were identified.", "setting", "dates")),
    "10": ("Consecutive, random or by convenience", author("how the series was formed.", "inclusion")),
    "11": ("Source of the data", "source"),
    "12": ("Annotation of the data", author("who annotated, with which experience, and how.", "annotators")),
    "13": ("Devices and software", "devices"),
    "14": ("Acquisition and preprocessing", "preprocessing"),
    "15a": ("Index test in detail", "network"),
    "15b": ("Development of the index test", "partition"),
    "15c": ("Cutoffs of the index test", "output"),
    "15d": ("Users and their expertise", author("who uses it, with which expertise.", "users")),
    "16a": ("Reference standard", author("how each label was determined.", "reference_standard")),
    "16b": ("Why this reference standard", author("why it was chosen.", "reference_standard")),
    "16c": ("Cutoffs of the reference standard", author("its cutoffs or categories.", "reference_standard")),
    "17a": ("What the index test knew", "blind_index"),
    "17b": ("What assessors of the reference standard knew", author("whether they were blinded.", "blinding")),
    "18": ("Methods of estimation", "uncertainty"),
    "19": ("Indeterminate results", "indeterminate"),
    "20": ("Missing data", "missing"),
    "21": ("Variability of accuracy", "variability"),
    "22": ("Sample size", "sample_size"),
    "23": ("Analysis of errors, bias and fairness", "error_analysis"),
    "24": ("Flow of participants", "flow"),
    "25": ("Characteristics of each data set", "demographics"),
    "26a": ("Severity of disease", author("its distribution in those with the condition.", "demographics")),
    "26b": ("Alternative diagnoses", author("those of patients without the condition.", "demographics")),
    "27": ("Interval and interventions between the tests", author("the time and treatment between.", "interval")),
    "28": ("Whether the test set is like the intended use", "representative"),
    "29": ("How an external test set differs", "external"),
    "30": ("Cross-tabulation with the reference standard", "cross_tabulation"),
    "31": ("Accuracy and its precision", "accuracy"),
    "32": ("Adverse events", author("any harm, or that there was none.", "adverse_events")),
    "33": ("Limitations", "limits"),
    "34": ("Implications for practice", author("what the results mean for care.", "implications")),
    "35": ("Ethics and fairness of use", author("ethical considerations and fairness of its use.", "fairness")),
    "36": ("Registration", author("the register and number, or that there is none.", "registration")),
    "37": ("Protocol", author("where it can be found, or that there is none.", "protocol")),
    "38": ("Funding", author("the sources and their role.", "funding")),
    "39": ("Commercial interests", author("those of all authors, or that there are none.", "conflicts")),
    "40a": ("Availability of data and code", "availability"),
    "40b": ("Storage and audit of outputs", "audit_trail"),
}
