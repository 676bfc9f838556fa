"""Details: the small example of a text with spans, read word by word by an estimator of scikit-learn."""
