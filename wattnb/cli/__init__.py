"""The `wattnb` command, and the explorer for JupyterLab."""
from .command import *
from .verbs import *
