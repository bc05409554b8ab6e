"""A softmax regression, once it is there: formulas, file, answers, figures, exports."""
