"""A service around trained models: studies come in from a PACS or over HTTP, results go back, nothing is lost."""
