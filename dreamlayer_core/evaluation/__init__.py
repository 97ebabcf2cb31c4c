"""Measuring the method: a classifier that looks at pictures, metrics, and the evaluation on held-out scenes.

The doors are ``scenes.evaluate_scenes`` (needs the pipeline) and ``classifier_training.train_classifier`` (needs the training
loop); what is imported here needs neither.
"""

from .classifier import EMBEDDED_CLASSIFIER, SceneClassifier, load_classifier
from .frechet import frechet_distance
from .intervals import Estimate, estimate
from .metrics import measure
from .pictures import LayeredPicture, true_pictures
from .recognition import Wanted

__all__ = ["EMBEDDED_CLASSIFIER", "Estimate", "LayeredPicture", "SceneClassifier", "Wanted", "estimate", "frechet_distance",
           "load_classifier", "measure", "true_pictures"]
