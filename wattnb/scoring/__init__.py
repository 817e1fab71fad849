"""Statistics, scores, metrics, and runs read as one table."""
from .statistics import *
from .wattbot_score import *
from .answers import *
from .judging import *
from .scores import *
from .run_folders import *
from .numbers import *
from .store import *
from .retrieval_metrics import *
from .official_scorer import *
from .submissions import *
from .tracing import *
