"""The parts of the report of a run: blocks, sections, checklists, model card."""
