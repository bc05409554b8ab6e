"""A softmax regression, once it is there: formulas, file, predictions, figures, exports."""
