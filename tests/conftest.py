"What several test files start from."
import os, sys, tempfile
from pathlib import Path

import pytest

root = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, root) # this checkout, whatever is installed; in processes that tests start, too
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
os.environ['WATTNB_CONFIG'] = tempfile.mkdtemp(prefix='wattnb-config-') # what tests name as trusted is not the user's

from wattnb.index.corpus import build_corpus
from wattnb.index.store import build_index
from wattnb.core.workspace import Workspace


def words_workspace(folder, **files):
    "A demo workspace with an index of words only, so that no embedder is loaded. `files`: texts by their field of `Workspace`."
    from wattnb.cli.command import init_workspace
    init_workspace(folder, demo=True)
    w = Workspace.find(folder)
    for field, text in files.items(): getattr(w, field).write_text(text, 'utf-8')
    build_index(w, embedder='none', corpus=build_corpus(w))
    return w


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('ws'))


def plug(variable, stream):
    """Text of a `sitecustomize.py`: in processes where the environment has `variable`, the baselines answer through `stream`, source of
    a function of (self, requests) that may call `real(self, requests)`."""
    body = '\n'.join(' ' * 20 + line for line in stream.strip().splitlines())
    return f'''
import os, sys
if os.environ.get({variable!r}):
    import importlib.abc, importlib.machinery
    class Hook(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != 'wattnb.llm.baselines': return None
            sys.meta_path.remove(self)
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            inner = spec.loader
            class Loader(importlib.abc.Loader):
                def create_module(self, s): return inner.create_module(s)
                def exec_module(self, m):
                    inner.exec_module(m)
                    real = m.BaselineModel.stream
{body}
                    m.BaselineModel.stream = stream
            spec.loader = Loader()
            return spec
    sys.meta_path.insert(0, Hook())
'''
