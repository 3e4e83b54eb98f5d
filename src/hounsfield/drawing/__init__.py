"""Images made fit to be looked at, with boxes, findings or captions on them."""
