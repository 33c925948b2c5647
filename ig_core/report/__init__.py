"""Pictures of labelled numbers as text, HTML and figures; knows nothing of models."""
