"""From a bibliography to an index: papers, passages, vectors and words on disk."""
from .boxes import *
from .documents import *
from .corpus import *
from .passages import *
from .embedders import *
from .store import *
from .page_images import *
from .page_parts import *
