"""A model that is asked for a row at a time: what of it predicting needs, without scikit-learn."""
