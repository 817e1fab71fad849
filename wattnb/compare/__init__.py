"""Paired differences between runs, audits, and classes of errors."""
from .rules import *
from .auditing import *
from .scored import *
from .paired import *
from .results_matrix import *
from .errors import *
