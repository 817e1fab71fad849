"What several test files start from."
import functools, gc, json, os, shutil, sys, tempfile, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

root = str(Path(__file__).resolve().parent.parent)
sys.path.insert(0, root) # this checkout, whatever is installed; in processes that tests start, too
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
os.environ['WATTNB_CONFIG'] = tempfile.mkdtemp(prefix='wattnb-config-') # what tests name as trusted is not the user's

from wattnb.index.corpus import build_corpus
from wattnb.index.store import build_index
from wattnb.core.workspace import Workspace

settings.register_profile('any load', deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
settings.load_profile('any load')


LONG = ('local benchmark decode without_torch plots study_file experiment llamacpp one_number foreign tasks output gpu_benchmark faults loading '
        'engines json_pin telemetry models index competition served study random_weights').split() # by their time, in order


def pytest_collection_modifyitems(items):
    "The files that take longest come first; the order within a file stays."
    rank = {f'test_{name}.py': i for i, name in enumerate(LONG)}
    items.sort(key=lambda i: rank.get(i.path.name, len(LONG)))


@functools.cache
def demo_words():
    "The folder that `words_workspace` copies, made once in a process."
    from wattnb.cli.command import init_workspace
    folder = tempfile.TemporaryDirectory(prefix='wattnb-words-')
    init_workspace(folder.name, demo=True)
    w = Workspace.find(folder.name)
    build_index(w, embedder='none', corpus=build_corpus(w))
    return folder


def words_workspace(folder, **files):
    "A demo workspace with an index of words only, so that no embedder is loaded. `files`: texts by their field of `Workspace`."
    shutil.copytree(demo_words().name, folder, dirs_exist_ok=True)
    w = Workspace.find(folder)
    for field, text in files.items(): getattr(w, field).write_text(text, 'utf-8')
    if 'metadata' in files: build_index(w, embedder='none', corpus=build_corpus(w))
    return w


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('ws'))


@pytest.fixture(autouse=True)
def settled():
    "What earlier tests imported is no longer searched when a model that is closed collects its cycles: .6 s each time with torch and transformers."
    gc.freeze()


CANARY = 'sk-CANARY-9876543210-do-not-print' # a key that nothing may show
KEYS = dict(OPENAI_API_KEY=CANARY, OPENROUTER_API_KEY=CANARY, AWS_ACCESS_KEY_ID='AKIACANARY0000000000', AWS_SECRET_ACCESS_KEY=CANARY, AWS_PROFILE=None, AWS_SESSION_TOKEN=None)


class Page:
    "A server on this machine whose every answer to a POST is made by `answer(handler, body, n)`: the n-th call. A context manager."
    def __init__(self, answer=None):
        self.calls, self.bodies = 0, []
        if answer: self.answer = answer
    def __enter__(self):
        outer = self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *a): pass
            def do_POST(self):
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers.get('content-length') or 0))))
                outer.calls += 1
                outer.answer(self, outer.bodies[-1], outer.calls)
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.host = f'127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, args=(.05,), daemon=True).start()
        return self
    def __exit__(self, *a): self.server.shutdown(); self.server.server_close()
    def env(self): return dict(OPENAI_BASE_URL=f'http://{self.host}/v1')


def send(h, status, data, kind='application/json', **headers):
    "Answer through the handler `h`: text and bytes as they are, anything else as JSON."
    raw = data if isinstance(data, bytes) else data.encode() if isinstance(data, str) else json.dumps(data).encode()
    h.send_response(status)
    for k, v in [('content-type', kind), ('content-length', str(len(raw))), *headers.items()]: h.send_header(k.replace('_', '-'), v)
    h.end_headers(); h.wfile.write(raw)


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


def picture(seed, width, height, document_id='okafor2031', page=2):
    "A picture of noise for a prompt, so that models of random weights tell it from another."
    import numpy as np
    from wattnb.index.page_images import _png
    from wattnb.index.page_parts import PagePart
    from wattnb.retrieval.images import ImageHit, PromptImage
    png = _png(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    part = PagePart(document_id, page, None, width, height, f'{seed:064x}', png)
    return PromptImage(ImageHit(document_id, page, 'Figure 1', 'Figure 1', 1, 'p1'), part)
