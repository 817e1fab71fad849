"""Paired differences between runs, audits, and classes of errors."""
from .auditing import *
from .paired import *
from .results_matrix import *
from .errors import *
from .study_design import *
from .run_diff import *
from .thinking import *
from .precision_atlas import *
