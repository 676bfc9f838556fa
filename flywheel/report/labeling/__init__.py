"""The labeling page: annotators, queue, money, disputes."""
