"""Statistics, scores, metrics, and runs read as one table."""
from .statistics import *
from .wattbot_score import *
from .answers import *
from .diagnosis import *
from .judging import *
from .metrics import *
from .scores import *
from .run_folders import *
from .truths import *
from .run_costs import *
from .numbers import *
from .tidy import *
from .store import *
from .retrieval_metrics import *
