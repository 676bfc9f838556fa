"""Tumours: the small example of a table, whose model is an estimator of scikit-learn."""
