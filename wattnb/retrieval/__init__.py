"""From a question to the passages that a model gets."""
from .queries import *
from .context import *
from .search import *
from .images import *
