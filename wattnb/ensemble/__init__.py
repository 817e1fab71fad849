"""Votes over runs, and the choice of a model, an ensemble or a cascade."""
from .voting import *
from .ensemble_runs import *
from .systems import *
from .choice import *
from .recommendation import *
