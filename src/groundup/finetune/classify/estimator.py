"""The frozen classifier as an estimator of scikit-learn."""
