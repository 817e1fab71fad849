"""What `pip install wattnb[demo]` gives: the index, the search and runs where torch, transformers and sentence-transformers are not installed,
and the embedder on onnxruntime beside the one on torch. Weights are the real ones; without a network and without a cache these tests are skipped."""
import json, os, shutil, subprocess, sys
from pathlib import Path

import numpy as np, pytest

from wattnb.core.questions import read_questions
from wattnb.core.workspace import UserError, WorkError, Workspace, read_json, write_json
from wattnb.index.corpus import build_corpus
from wattnb.index.embedders import Embedder, EmbedderEntry, fetch_embedder, load_embedders
from wattnb.index.store import build_index, exact_search, open_index
from wattnb.scoring.retrieval_metrics import evaluate_retrieval

ort = pytest.importorskip('onnxruntime')
root = Path(__file__).resolve().parent.parent
ABSENT = '''
import importlib.machinery
_find, _absent = importlib.machinery.PathFinder.find_spec, ('torch', 'transformers', 'sentence_transformers', 'accelerate', 'hnswlib')
importlib.machinery.PathFinder.find_spec = classmethod(lambda cls, name, path=None, target=None: None if name.split('.')[0] in _absent else _find(name, path, target))
'''


@pytest.fixture(scope='module')
def weights():
    "The folder of the default embedder in the cache."
    try: return fetch_embedder(load_embedders()['minilm'])
    except WorkError as e: pytest.skip(str(e))


@pytest.fixture(scope='module')
def ws(tmp_path_factory, weights):
    "The demo, indexed with nothing named."
    from wattnb.cli.command import init_workspace
    folder = tmp_path_factory.mktemp('demo')
    init_workspace(folder, demo=True)
    w = Workspace.find(folder)
    build_index(w, corpus=build_corpus(w, fetch=False))
    return w


@pytest.fixture(scope='module')
def both(ws):
    "The demo's index twice: by onnxruntime and by torch."
    pytest.importorskip('sentence_transformers')
    build_index(ws, embedder='minilm-torch')
    yield open_index(ws, 'minilm'), open_index(ws, 'minilm-torch')
    shutil.rmtree(ws.embeddings/'minilm-torch')


@pytest.fixture
def torchless(ws, tmp_path):
    "Runs `wattnb` in a process (and its children) in which the packages are not there."
    (tmp_path/'sitecustomize.py').write_text(ABSENT)
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), os.environ['PYTHONPATH']])}
    def call(*args, status=0):
        p = subprocess.run([sys.executable, '-m', 'wattnb.cli', *args, '--root', str(ws.root)], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert p.returncode == status, p.stdout + p.stderr
        return p.stdout if status == 0 else p.stderr
    return call


def test_the_packages_are_not_there(torchless, tmp_path):
    "The hook does what it says, so that the tests below show what they say."
    for code in ('import torch', 'import sentence_transformers', 'import importlib.util as u; assert u.find_spec("torch") is None; import transformers'):
        p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(tmp_path)})
        assert 'ModuleNotFoundError: No module named' in p.stderr


def test_index_and_search(torchless, ws):
    "Found by meaning: the passage shares no rare word with the question."
    assert 'index minilm)' in torchless('index')
    found = json.loads(torchless('search', 'Where does the money for running a cluster go?', '--preset', 'dense', '--json'))
    assert found['hits'][0]['doc_id'] == 'novak2030' and found['hits'][0]['dense'] > .3
    metrics = json.loads(torchless('retrieval', '--preset', 'hybrid', '--json'))
    assert metrics['presets']['hybrid']['any_at_8'] > .9


def test_baselines_run_with_the_default_index(torchless, ws):
    torchless('run', '--model', 'extractive', '--env', 'bare', '--limit', '5')
    summary = json.loads(next((ws.artifacts/'experiments/bare').rglob('summary.json')).read_text())
    assert summary['by_status']['failed'] == 0
    assert 'extractive' in torchless('results', '--env', 'bare')


def test_the_model_of_the_demo_answers(torchless, ws):
    "By llama.cpp, in an executed notebook."
    pytest.importorskip('xllamacpp')
    torchless('run', '--model', 'smollm2-135m', '--env', 'llama', '--limit', '2')
    run = ws.artifacts/'experiments/llama/demo_QA/smollm2-135m-bench'
    summary = json.loads((run/'summary.json').read_text())
    assert summary['engine'] == 'llama.cpp' and summary['by_status']['failed'] == 0 and (run/'run_experiment.ipynb').exists()
    assert "pip install 'wattnb[local]'" in torchless('run', '--model', 'smollm2-135m', '--engine', 'transformers', '--env', 'llama', '--limit', '2', status=2)


def test_what_needs_torch_says_so_in_one_line(torchless):
    "And names what needs none."
    said = torchless('index', '--name', 'other', '--embedder', 'minilm-torch', status=2).strip().splitlines()[-1]
    assert "pip install 'wattnb[local]'" in said and '--embedder minilm`' in said


wattbot = os.environ.get('WATTNB_WATTBOT', '/nowhere') # a workspace with the 32 papers and their questions, which are not ours to ship


@pytest.mark.parametrize('place', ['demo', pytest.param('wattbot', marks=pytest.mark.skipif(not Path(wattbot, 'data/train_QA.csv').exists(), reason='WATTNB_WATTBOT names no workspace of WattBot'))])
def test_vectors_and_retrieval_are_those_of_torch(place, request):
    "Vectors to the seventh digit, thus the top-10 of all questions and every retrieval metric."
    if place == 'demo': ws, indexes = request.getfixturevalue('ws'), request.getfixturevalue('both')
    else:
        ws = Workspace(Path(wattbot))
        indexes = [open_index(ws, build_index(ws, embedder=key).index_dir.name) for key in ('minilm', 'minilm-torch')]
    questions = read_questions(ws.data/('demo_QA.csv' if place == 'demo' else 'train_QA.csv'))
    queries = [i.embed_queries([q.question for q in questions]) for i in indexes]
    assert np.abs(indexes[0].vectors - indexes[1].vectors).max() < 2e-6 and np.abs(queries[0] - queries[1]).max() < 2e-6
    tops = [exact_search(i.vectors, q, 10)[1] for i, q in zip(indexes, queries)]
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*tops)]) >= .998
    new, old = (evaluate_retrieval(i, questions, ('hybrid', 'dense')).presets for i in indexes)
    for preset in new:
        for metric in ('any_at_8', 'all_at_8', 'mrr', 'ndcg_at_8', 'answer_in_context'): assert new[preset][metric] == pytest.approx(old[preset][metric], abs=.005), (preset, metric)


def test_vectors_are_not_mixed(ws, both):
    for built, asked in (('minilm', 'minilm-torch'), ('minilm-torch', 'minilm')):
        with pytest.raises(UserError, match=f'index {built} was built with {built}, not with {asked}'): open_index(ws, built, embedder=asked)
    shutil.copytree(ws.embeddings/'minilm-torch', ws.embeddings/'mixed')
    again = build_index(ws, name='mixed')
    assert again.embedded == again.passages, 'not one vector of the other embedder is kept'
    made = open_index(ws, 'mixed').manifest
    assert made['settings']['embedder']['provider'] == 'onnx' and made['settings']['embedder']['pypi']['sha256'] and made['versions']['onnxruntime'] == ort.__version__
    shutil.rmtree(ws.embeddings/'mixed')


def test_an_index_that_torch_made_under_this_name(ws, both):
    "As version 0.1 did: opened as it is, by torch, and made anew by the next build."
    old = ws.embeddings/'minilm-0.1'
    shutil.copytree(ws.embeddings/'minilm-torch', old)
    made = {k: v for k, v in read_json(old/'manifest.json').items() if k != 'seal'}
    made['settings']['embedder'] |= dict(key='minilm', name='all-MiniLM-L6-v2')
    write_json(old/'manifest.json', made)
    index = open_index(ws, 'minilm-0.1', embedder='minilm')
    assert index.entry.provider == 'sentence-transformers' and (index.embed_queries(['40 MWh']) == both[1].embed_queries(['40 MWh'])).all()
    again = build_index(ws, name='minilm-0.1')
    assert again.embedded == again.passages and open_index(ws, 'minilm-0.1').entry.provider == 'onnx'
    shutil.rmtree(old)


def test_a_vector_depends_on_its_text_alone(weights, monkeypatch):
    "On neither the texts beside it nor the number of threads, to the last bit."
    e, texts = Embedder(load_embedders()['minilm']), [f'{i} MWh ' * (1 + i % 90) for i in range(140)]
    got = {}
    for n in ('1', '3'):
        monkeypatch.setenv('OMP_NUM_THREADS', n)
        got[n] = e.passages(texts)
    assert (got['1'] == got['3']).all() and (got['1'][17] == e.queries([texts[17]])[0]).all()
    assert np.allclose(np.linalg.norm(got['1'], axis=1), 1, atol=1e-5)


@pytest.fixture
def own(tmp_path, weights):
    "A folder with a local ONNX model, declared in a workspace."
    folder = tmp_path/'model'
    folder.mkdir()
    shutil.copy(root/'wattnb/minilm.onnx', folder/'model.onnx')
    for f in ('model.safetensors', 'vocab.txt'): shutil.copy(weights/f, folder)
    ws = Workspace(tmp_path/'ws')
    for p in (ws.corpus, ws.artifacts): p.mkdir(parents=True)
    write_json(ws.corpus/'a.json', dict(document_id='a', title='A', text='40 MWh', metadata={}, sections=[dict(title='1', metadata=dict(page=1), paragraphs=[
        dict(text='The hall used 40 MWh.', metadata=dict(page=1), sentences=None)])]))
    ws.models_toml.write_text(f"[embedder.mine]\nprovider = 'onnx'\nid = {json.dumps(str(folder))}\ndimensions = 384\nmax_tokens = 16\npassage_prompt = 'passage: '\nquery_prompt = 'query: '\n")
    return ws, folder


def test_an_onnx_model_of_ones_own(own, monkeypatch, tmp_path):
    "Prompts are put in front; what was named at the build is loaded here, and on another machine only when it is trusted."
    ws, _ = own
    build_index(ws, embedder='mine')
    index = open_index(ws, 'mine')
    plain = Embedder(load_embedders()['minilm'])
    assert np.allclose(index.vectors[0], plain.passages(['passage: ' + index.passages[0].search_text])[0], atol=1e-5)
    assert np.allclose(index.embed_queries(['how much?'])[0], plain.queries(['query: how much?'])[0], atol=1e-5)
    monkeypatch.setenv('WATTNB_CONFIG', str(tmp_path/'another machine'))
    with pytest.raises(UserError, match='--trust-index'): open_index(ws, 'mine').embed_queries(['how much?'])


@pytest.mark.parametrize('harm, said', [('no tokenizer', 'neither tokenizer.json nor vocab.txt'), ('no model', 'there is no file .*model.onnx'), ('damaged', 'mine cannot be loaded'),
                                        ('dimensions', 'gives 384 dimensions, its entry declares 100')])
def test_mistakes_are_one_line(own, harm, said):
    ws, folder = own
    {'no tokenizer': (folder/'vocab.txt').unlink, 'no model': (folder/'model.onnx').unlink, 'damaged': lambda: (folder/'model.onnx').write_bytes(b'no model'),
     'dimensions': lambda: ws.models_toml.write_text(ws.models_toml.read_text().replace('384', '100'))}[harm]()
    with pytest.raises((UserError, WorkError), match=said) as e: build_index(ws, embedder='mine')
    assert '\n' not in str(e.value)


def test_nothing_is_reported(weights, tmp_path):
    "onnxruntime keeps an identifier of the machine in the cache, and sends it, unless this is turned off, as here."
    code = "from wattnb.index.embedders import *; print(Embedder(load_embedders()['minilm']).queries(['a']).shape)"
    (tmp_path/'wattnb/models').mkdir(parents=True)
    (tmp_path/'wattnb/models'/weights.name).symlink_to(weights)
    env = {k: v for k, v in os.environ.items() if k not in ('CI', 'ORT_DISABLE_TELEMETRY', 'ORT_TELEMETRY_DISABLED')} | dict(XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=env)
    assert '(1, 384)' in p.stdout, p.stderr
    assert [f.name for f in tmp_path.iterdir()] == ['wattnb']


def test_first_dimensions_are_brought_to_length_one(weights):
    e = load_embedders()['minilm']
    short = Embedder(EmbedderEntry(**{**vars(e), 'truncate_dim': 64, 'dimensions': 64})).queries(['40 MWh'])
    full = Embedder(e).queries(['40 MWh'])[:, :64]
    assert np.allclose(short, full / np.linalg.norm(full), atol=1e-6)
