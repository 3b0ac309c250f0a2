"""Contrastive losses on `mmflow.kernels.contrast`: no matrix of all pairs is kept, whatever the score is."""
