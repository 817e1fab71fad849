"""Hosted embeddings against a real local server with OpenAI's and Titan's calls: every text its own vector, none paid twice, limits learned from
refusals, and whatever a server does wrong one line without a key."""
import base64, json, logging, math, socket, sqlite3, subprocess, sys, time

import numpy as np, pytest
from hypothesis import given, settings, strategies as st

from wattnb.cli.command import main
from wattnb.core.workspace import UserError, WorkError, read_json
from wattnb.index.embedders import Embedder, EmbedderEntry, find_embedder, load_embedders
from wattnb.index.store import build_index, open_index
from wattnb.llm.hosted_embeddings import batches, HostedEmbedder, items_limit, read_vectors
from wattnb.retrieval.queries import PRESETS
from wattnb.retrieval.search import retrieve
from wattnb.testing.server import FAULTS, FakeServer, environment, hashed_vector
from conftest import CANARY, KEYS, Page, send
from test_index import put, workspace

TEXTS = [f'Site {i} used {i * 7 % 90} MWh of electricity in {2010 + i % 20}.' for i in range(90)]


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    "A cache and a list of trusted embedders of the test."
    monkeypatch.setenv('WATTNB_CACHE', str(tmp_path/'cache')); monkeypatch.setenv('WATTNB_CONFIG', str(tmp_path/'config'))
    monkeypatch.delenv('WATTNB_TRUST_INDEX', raising=False)
    logging.getLogger('wattnb').handlers.clear() # of an earlier call of `main`


@pytest.fixture(params=['openai:some-model', 'bedrock:amazon.titan-embed-text-v2:0'])
def key(request):
    if request.param.startswith('bedrock'): pytest.importorskip('boto3')
    return request.param


def entry(key='openai:some-model', **kw):
    e = find_embedder(None, key)
    return EmbedderEntry(**{**vars(e), 'dimensions': 64 if e.provider == 'bedrock' else 0, **kw})
def expected(texts): return np.array([hashed_vector(t) for t in texts])


# --- vectors of an answer ------------------------------------------------------------------------------------------------

vectors = st.integers(1, 6).flatmap(lambda n: st.integers(1, 5).flatmap(lambda d: st.lists(st.lists(
    st.floats(allow_nan=False, allow_infinity=False), min_size=d, max_size=d).filter(any), min_size=n, max_size=n)))


@settings(max_examples=200)
@given(vectors, st.randoms())
def test_any_finite_vectors_in_any_order_become_unit_vectors_of_the_same_direction(rows, random):
    data = [dict(index=i, embedding=v) for i, v in enumerate(rows)]
    random.shuffle(data)
    got = read_vectors(json.loads(json.dumps(data)), len(rows))
    assert got.dtype == np.float32 and np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    for v, g in zip(rows, got):
        w = np.array(v) / max(map(abs, v))
        assert np.allclose(g, w / np.linalg.norm(w), atol=1e-6)


@settings(max_examples=200)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3).filter(any), min_size=1, max_size=4))
def test_base64_is_the_same_as_numbers(rows):
    coded = [dict(index=i, embedding=base64.b64encode(np.array(v, '<f4').tobytes()).decode()) for i, v in enumerate(rows)]
    assert np.array_equal(read_vectors(coded, len(rows)), read_vectors([dict(index=i, embedding=v) for i, v in enumerate(rows)], len(rows)))


json_value = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(['index', 'embedding', 'x']), c, max_size=3), max_leaves=8)


@settings(max_examples=300)
@given(json_value | st.lists(st.dictionaries(st.sampled_from(['index', 'embedding']), json_value, max_size=2), max_size=3), st.integers(1, 3))
def test_an_odd_answer_is_vectors_or_a_reason(rows, n):
    try: got = read_vectors(rows, n)
    except ValueError as e: assert str(e)
    else: assert got.shape[0] == n and np.isfinite(got).all() and np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


@settings(max_examples=200)
@given(st.lists(st.text(max_size=40), max_size=30), st.integers(1, 7), st.integers(1, 60), st.integers(5, 100) | st.just(math.inf))
def test_batches_are_all_texts_in_order_within_the_limits(texts, items, size, alone):
    got = batches(texts, items, size, alone)
    assert [i for b in got for i in b] == list(range(len(texts)))
    n = lambda i: len(texts[i].encode())
    for b in got: assert 1 <= len(b) <= items and (len(b) == 1 or sum(map(n, b)) <= size and max(map(n, b)) < alone)


# --- calls ---------------------------------------------------------------------------------------------------------------

def test_every_text_gets_its_vector(key):
    with FakeServer(latency=.01) as s, environment(**KEYS, **s.env()):
        got = Embedder(entry(key)).passages([*TEXTS, TEXTS[3], TEXTS[3]])
    assert np.allclose(got, expected([*TEXTS, TEXTS[3], TEXTS[3]]), atol=1e-6) and 1 < s.most <= 8 or s.calls < 4
    if key.startswith('bedrock'): assert s.calls == len(TEXTS), 'equal texts are asked once'


@pytest.mark.parametrize('fault', [f for f in FAULTS if f != 'hang'])
def test_one_fault_costs_one_try(key, fault):
    with FakeServer(faults=['', fault], retry_after=.05) as s, environment(**KEYS, **s.env()):
        h = HostedEmbedder(entry(key, dimensions=64, prices={'in': 1.}))
        got = h.encode(TEXTS[:2]); h.encode(TEXTS[2:3])
    assert np.allclose(got, expected(TEXTS[:2]), atol=1e-6)
    r = h.record([])
    if fault == 'no-usage': assert r['tokens_asked'] is None and r['usd_asked'] is None and 'not known' in r['reason']
    else: assert r['tokens_asked'] == sum(-(-len(t) // 4) for t in TEXTS[:3]) and r['usd_asked'] == r['tokens_asked'] / 1e6


def test_a_hang_ends_at_the_timeout():
    with FakeServer(faults=['hang'] * 9, hang=600) as s, environment(**KEYS, **s.env()):
        with pytest.raises(WorkError, match='no answer within'): HostedEmbedder(entry(dimensions=64, options=dict(timeout=.3, deadline=1))).encode(TEXTS[:2])


@pytest.mark.parametrize('said, sent, limit', [
    ('batch size 64 > maximum allowed batch size 32', 64, 32), ("Invalid 'input': array too long. Expected an array with maximum length 2048, but got an array with length 3000 instead.", 3000, 2048),
    ('Too many inputs. The max number of inputs is 16.', 128, 16), ('invalid request: total number of texts must be at most 96 - received 97', 97, 96), ('The batch size limit is 1000. Your batch size is 1001.', 1001, 1000),
    ('* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch', 128, 100), ('List should have at most 2048 items after validation, not 3000', 3000, 2048),
    ('The max allowed tokens per submitted batch is 120000. Your batch has 134563 tokens after truncation.', 900, None), ("This model's maximum context length is 512 tokens. However, you requested 600 tokens in the input", 900, None),
    ('Requested 336000 tokens, max 300000 tokens per request', 2048, None), ('input (733 tokens) is too large to process. increase the physical batch size (current batch size: 512)', 128, None), ('Unauthorized', 9, None)])
def test_wordings_of_a_limit(said, sent, limit): assert items_limit(said, sent) == limit


def test_the_number_of_texts_is_learned():
    with FakeServer(items=7, latency=.01) as s, environment(**KEYS, **s.env()):
        h = HostedEmbedder(entry())
        assert np.allclose(h.encode(TEXTS * 2), expected(TEXTS * 2), atol=1e-6)
        n = s.calls
        h.encode([t + ' Again.' for t in TEXTS])
    assert s.calls - n == math.ceil(len(TEXTS) / 7), 'the limit is kept'
    assert n <= 2 + 8 + math.ceil(len(TEXTS) / 7) + 4


def test_a_limit_of_tokens_is_learned():
    "A server that says no number: batches are halved until they fit, and stay so."
    def answer(h, body, n):
        if sum(map(len, body['input'])) > 1500: return send(h, 413, '<html><h1>413 Request Entity Too Large</h1></html>', 'text/html')
        send(h, 200, dict(data=[dict(index=i, embedding=hashed_vector(t).tolist()) for i, t in enumerate(body['input'])]))
    with Page(answer) as s, environment(**KEYS, **s.env()):
        h = HostedEmbedder(entry(dimensions=64))
        assert np.allclose(h.encode(TEXTS), expected(TEXTS), atol=1e-6)
        n = s.calls
        h.encode([t[::-1] for t in TEXTS])
    assert s.calls - n < 10 and max(len(b['input']) for b in s.bodies[n:]) > 8


@pytest.mark.parametrize('status, said', [(400, "This model's maximum context length is {w} tokens. However, you requested {n} tokens in the input"), (413, 'Input validation error: `inputs` must have less than {w} tokens. Given: {n}'),
                                          (500, 'input ({n} tokens) is too large to process. increase the physical batch size (current batch size: {w})'), (400, 'the input length exceeds the context length')])
def test_a_long_text_is_embedded_by_its_beginning(status, said, caplog):
    "Only that text is cut; the others go on in batches."
    def answer(h, body, n):
        long = max(len(t) // 4 for t in body['input'])
        if long > 100: return send(h, status, dict(error=dict(message=said.format(w=100, n=long), code=status)))
        send(h, 200, dict(data=[dict(index=i, embedding=hashed_vector(t).tolist()) for i, t in enumerate(body['input'])], usage=dict(prompt_tokens=9)))
    long = 'turbine ' * 200
    with Page(answer) as s, environment(**KEYS, **s.env()), caplog.at_level(logging.WARNING, 'wattnb'):
        h = HostedEmbedder(entry(dimensions=64))
        got = h.encode([*TEXTS[:40], long, *TEXTS[40:]])
    assert np.allclose(np.delete(got, 40, 0), expected(TEXTS), atol=1e-6) and np.allclose(got[40], hashed_vector('turbine'), atol=1e-5)
    assert h.record([])['shortened'] == 1 and 'beginning was embedded of 1 texts' in caplog.text and s.calls < 30


def test_a_server_without_base64_is_asked_without():
    def answer(h, body, n):
        if 'encoding_format' in body: return send(h, 400, dict(error=dict(message='encoding_format is not supported', param='encoding_format')))
        send(h, 200, dict(data=[dict(embedding=hashed_vector(t).tolist()) for t in body['input']]))
    with Page(answer) as s, environment(**KEYS, **s.env()): assert np.allclose(HostedEmbedder(entry(dimensions=64)).encode(TEXTS[:3]), expected(TEXTS[:3]), atol=1e-6)
    assert s.calls == 2


def test_queries_and_passages_have_their_own_fields_and_prompts(key):
    options = dict(body=dict(user='me'), query=dict(input_type='query'), passage=dict(input_type='passage'))
    with FakeServer() as s, environment(**KEYS, **s.env()):
        e = Embedder(entry(key, dimensions=32, truncate_dim=32, options=options, query_prompt='query: ', passage_prompt='passage: '))
        p, q = e.passages(['turbine']), e.queries(['turbine', 'lake'])
    text = lambda b: b.get('inputText') or b['input'][0]
    assert p.shape == (1, 32) and q.shape == (2, 32) and {b['input_type'] for b in s.bodies if text(b).startswith('query: ')} == {'query'}
    assert [b['input_type'] for b in s.bodies if text(b).startswith('passage: ')] == ['passage'] and all(b['user'] == 'me' and b['dimensions'] == 32 for b in s.bodies)
    if key.startswith('openai'): assert s.calls == 2, 'all queries in one call'


@pytest.mark.parametrize('status, body, says', [
    (401, dict(error=dict(message=f'Incorrect API key provided: {CANARY}')), 'OPENAI_API_KEY was refused'), (404, dict(error=dict(message='model not found')), 'does not know some-model'), (429, dict(error=dict(message='insufficient', code='insufficient_quota')), 'no credit'),
    (503, dict(error='busy'), 'HTTP 503'), (200, '<html>Login</html>', 'is not JSON'), (200, dict(object='list'), 'not one with embeddings: no list'), (200, [1], 'not one with embeddings'), (200, dict(error=dict(message='no such model', code=400)), 'no such model'),
    (200, dict(data=[dict(index=0, embedding=[1, 2])]), '1 vectors for 2'), (200, dict(data=[dict(index=i, embedding=[0, 0]) for i in (0, 1)]), 'zero'), (200, '{"data": [{"index": 0, "embedding": [NaN, 1]}, {"index": 1, "embedding": [1, 1]}]}', 'NaN'),
    (200, dict(data=[dict(index=i, embedding=[1, 2]) for i in (0, 0)]), 'not numbered'), (200, dict(data=[dict(index=i, embedding=[1] * (i + 1)) for i in (0, 1)]), 'different lengths'), (200, dict(data=[dict(index=i, embedding=[1, 2, 3]) for i in (0, 1)]), 'gives 3 dimensions, not 2')])
def test_what_goes_wrong_is_one_line_without_a_key(status, body, says, tmp_path, capsys):
    ws = workspace(tmp_path/'ws', a='energy of water', b='carbon of power')
    ws.models_toml.write_text("[embedder.mine]\nprovider = 'openai'\nid = 'some-model'\ndimensions = 2\noptions = { tries = 2 }\n")
    with Page(lambda h, b, n: send(h, status, body)) as s, environment(**KEYS, **s.env()):
        assert main(['index', '--root', str(ws.root), '--embedder', 'mine']) in (1, 2)
    out, err = capsys.readouterr()
    said = [l for l in err.splitlines() if l.startswith('wattnb: ')]
    assert len(said) == 1 and says in said[0] and 'defect' not in err and CANARY not in out + err and not (ws.embeddings/'mine').exists()


@pytest.mark.parametrize('status, kind, says', [(403, 'AccessDeniedException', 'AccessDenied'), (400, 'ValidationException', 'Malformed'), (404, 'ResourceNotFoundException', 'Malformed')])
def test_errors_of_bedrock_are_one_line(status, kind, says):
    pytest.importorskip('boto3')
    with Page(lambda h, b, n: send(h, status, dict(message='Malformed input request'), x_amzn_errortype=kind)) as s, environment(**KEYS, AWS_ENDPOINT_URL_BEDROCK_RUNTIME=f'http://{s.host}', AWS_REGION='us-east-1'):
        with pytest.raises(WorkError, match=says): HostedEmbedder(entry('bedrock:amazon.titan-embed-text-v2:0')).encode(['x'])
        with pytest.raises(UserError, match='only amazon.titan'): HostedEmbedder(entry('bedrock:cohere.embed-english-v3', dimensions=3)).encode(['x'])
    assert s.calls < 8


def test_without_a_key_or_an_address_it_says_so():
    with environment(OPENAI_API_KEY=None, OPENAI_BASE_URL=None):
        with pytest.raises(UserError, match='needs OPENAI_API_KEY.*OPENAI_BASE_URL'): HostedEmbedder(entry()).encode(['x'])
    with environment(OPENAI_BASE_URL='http://127.0.0.1:9/v1', OPENAI_API_KEY=None):
        with pytest.raises(WorkError, match='cannot reach'): HostedEmbedder(entry()).encode(['x'])


# --- the cache -----------------------------------------------------------------------------------------------------------

def test_a_damaged_cache_is_set_aside(tmp_path, caplog):
    with FakeServer() as s, environment(**KEYS, **s.env()):
        h = HostedEmbedder(entry(dimensions=64)); h.encode(TEXTS[:3])
        h.cache.file.write_bytes(b'garbage' * 999)
        with caplog.at_level(logging.WARNING, 'wattnb'): again = HostedEmbedder(entry(dimensions=64)).encode(TEXTS[:3])
    assert np.allclose(again, expected(TEXTS[:3]), atol=1e-6) and s.calls == 2 and 'was moved' in caplog.text and h.cache.file.with_suffix('.damaged').exists()


def test_vectors_of_two_makers_are_never_mixed():
    with FakeServer() as s, FakeServer() as t:
        for one in (s, t):
            with environment(**KEYS, **one.env()):
                for e in (entry(dimensions=64), entry('openai:other', dimensions=64), entry(dimensions=16, truncate_dim=16), entry(dimensions=64, passage_prompt='p: ')): HostedEmbedder(e).encode(TEXTS[:2])
    assert s.calls == t.calls == 4


# --- the index -----------------------------------------------------------------------------------------------------------

def pages(n=6): return {f'p{i}': '. '.join(f'{w} {i} {j} energy of the {w} in the year {2000 + j}' for j in range(25) for w in ('turbine', 'reactor')) + '.' for i in range(n)}


def test_an_index_is_made_searched_and_made_again_for_nothing(tmp_path, key):
    ws = workspace(tmp_path/'ws', **pages())
    price = "prices = { in = 2.0 }\n"
    ws.models_toml.write_text(f"[embedder.mine]\nprovider = '{key.partition(':')[0]}'\nid = '{key.partition(':')[2]}'\n{price}" + ('dimensions = 64\n' if 'bedrock' in key else ''))
    with FakeServer(items=5, share=.1, retry_after=.02) as s, environment(**KEYS, **s.env()):
        r = build_index(ws, embedder='mine')
        n = s.calls
        ix = open_index(ws, 'mine')
        texts = [p.search_text for p in ix.passages]
        assert np.allclose(ix.vectors, expected(texts), atol=1e-6) and r.embedded == len(set(texts))
        got, = retrieve(ix, ['the reactor of p3'], PRESETS['words'].__class__(lexical=0., dense=1.))
        assert got.hits and s.calls > n
        m = read_json(r.index_dir/'manifest.json')['embedding']
        assert m == r.embedding and m['model'] == key.partition(':')[2] and m['dimensions'] == 64 and m['host'] == f'127.0.0.1:{s.port}' and m['date']
        tokens = sum(-(-len(t) // 4) for t in set(texts))
        if m['tokens'] is None: assert 'not known' in m['reason'] # a fault without usage
        else: assert abs(m['tokens'] - tokens) <= 1 and abs(m['usd'] - m['tokens'] * 2e-6) < 1e-12 and 'USD' in str(r)
        assert build_index(ws, embedder='mine').up_to_date
        n = s.calls
        again = build_index(ws, embedder='mine', name='again')
        assert s.calls == n and again.embedding['asked'] == again.embedding['calls'] == 0 and again.embedding['tokens'] == m['tokens'] and (again.index_dir/'vectors.npy').read_bytes() == (r.index_dir/'vectors.npy').read_bytes()
        put(ws, 'p0', pages()['p0'] + ' A new sentence about a lamp and a mill stands here at the end of it.')
        changed = build_index(ws, embedder='mine')
        assert 0 < changed.embedding['asked'] < 6
        assert 'made by' in ix.card().to_text() and 'USD' in ix.card().to_text()
        text = (r.index_dir/'manifest.json').read_text()
        assert CANARY not in text and 'prices' not in text and 'base_url' not in text


def test_the_default_and_the_server_of_wattnb_toml(tmp_path, capsys):
    ws = workspace(tmp_path/'ws', a='energy of water', b='carbon of power')
    with FakeServer() as s, environment(OPENAI_API_KEY=None, OPENAI_BASE_URL=None):
        (ws.root/'wattnb.toml').write_text(f'[index]\nembedder = "openai:org/local model"\nbase_url = "http://me:{CANARY}@127.0.0.1:{s.port}/v1"\n')
        assert main(['index', '--root', str(ws.root)]) == 0
        assert (ws.embeddings/'openai-org-local-model'/'manifest.json').exists()
        r = read_json(ws.embeddings/'openai-org-local-model'/'manifest.json')
        assert r['embedding']['host'] == f'127.0.0.1:{s.port}' and main(['search', 'power', '--root', str(ws.root)]) == 0
        out, err = capsys.readouterr()
        assert CANARY not in out + err + json.dumps(r) and s.headers[0]['Authorization'].startswith('Basic ')
        with environment(WATTNB_CONFIG=str(tmp_path/'another machine')):
            assert main(['search', 'power', '--root', str(ws.root)]) == 2
        assert '--trust-index' in (said := capsys.readouterr().err) and CANARY not in said, 'questions go to no server that only the workspace names'
        (ws.root/'wattnb.toml').write_text('[index]\nembeder = "x"\n')
        assert main(['index', '--root', str(ws.root)]) == 2 and "unknown key 'embeder'" in capsys.readouterr().err


def test_another_model_at_the_address_is_refused(tmp_path):
    "The name and the dimensions are the same; a passage that is embedded again shows it."
    ws = workspace(tmp_path/'ws', **pages(2))
    with FakeServer() as s, environment(**KEYS, **s.env()): build_index(ws, embedder='openai:some-model')
    turned = lambda d, b: d | dict(data=[dict(index=x['index'], embedding=hashed_vector(t[::-1]).tolist()) for x, t in zip(d['data'], b['input'])])
    with FakeServer(change=turned) as s, environment(**KEYS, **s.env()):
        with pytest.raises(UserError, match='is not the model that made the vectors'): open_index(ws, 'openai-some-model').load_embedder()
        with pytest.raises(UserError, match='is not the model that made the vectors'): open_index(ws, 'openai-some-model').embed_queries(['x'])
    with FakeServer(change=lambda d, b: d | dict(data=[dict(index=x['index'], embedding=[1., 2.]) for x in d['data']])) as s, environment(**KEYS, **s.env()):
        with pytest.raises(UserError, match='gives 2 dimensions, not 64'): open_index(ws, 'openai-some-model').load_embedder()
    with FakeServer() as s, environment(**KEYS, **s.env()): # the same model, elsewhere
        assert open_index(ws, 'openai-some-model').load_embedder().embed_queries(['a', 'b']).shape == (2, 64)
        assert s.calls == 2, 'one passage, then all queries'
        assert not build_index(ws, embedder='openai:some-model').up_to_date, 'a build at another server makes all vectors anew'
        ws.models_toml.write_text("[embedder.openai-some-model]\nprovider = 'openai'\nid = 'some-model'\nquery_prompt = 'q: '\n")
        with pytest.raises(UserError, match='another entry.*query_prompt'): open_index(ws, 'openai-some-model').load_embedder()


def test_a_killed_build_goes_on(tmp_path):
    ws = workspace(tmp_path/'ws', **pages(20))
    def saved():
        try: return sum(sqlite3.connect(f).execute('SELECT count(*) FROM vectors').fetchone()[0] for f in (tmp_path/'cache').glob('embeddings/*.sqlite'))
        except sqlite3.Error: return 0
    with FakeServer(items=4, latency=.2) as s, environment(**KEYS, **s.env()):
        p = subprocess.Popen([sys.executable, '-m', 'wattnb.cli', 'index', '--root', str(ws.root), '--embedder', 'openai:some-model'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while saved() < 8 and time.monotonic() < end: time.sleep(.01)
        p.kill(); p.wait()
        time.sleep(.2)
        r = build_index(ws, embedder='openai:some-model')
        texts = {p.search_text for p in open_index(ws, 'openai-some-model').passages}
        assert 0 < r.embedding['asked'] < len(texts) and r.embedding['tokens'] == sum(-(-len(t) // 4) for t in texts)
        assert np.allclose(open_index(ws, 'openai-some-model').vectors, expected([p.search_text for p in open_index(ws, 'openai-some-model').passages]), atol=1e-6)


def test_an_index_without_torch_and_onnxruntime(tmp_path):
    ws = workspace(tmp_path/'ws', **pages(2))
    code = f"""import sys
for name in ('torch', 'onnxruntime', 'sentence_transformers', 'tokenizers'): sys.modules[name] = None
from wattnb.cli.command import main; from wattnb.cli import verbs
sys.exit(main(['index', '--root', {str(ws.root)!r}, '--embedder', 'openai:some-model']) or main(['search', 'turbine', '--root', {str(ws.root)!r}]))"""
    with FakeServer() as s, environment(**KEYS, **s.env()): p = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert p.returncode == 0 and 'turbine' in p.stdout, p.stderr


@pytest.mark.parametrize('line, why', [("options = { api_key = 'x' }", 'keys come from the environment'), ("prices = { out = 1 }", 'prices need in'), ("prices = { in = -1 }", 'prices need in'), ("host = 'x'", 'unknown field host'),
                                       ("options = { concurrent = 0 }", 'concurrent must be'), ("options = { body = 3 }", 'body must be a table'), ("options = { items = 'x' }", 'items must be'), ("options = { timeout = -1 }", 'timeout must be')])
def test_a_bad_entry_is_one_line(tmp_path, line, why):
    ws = workspace(tmp_path/'ws', a='energy')
    ws.models_toml.write_text(f"[embedder.mine]\nprovider = 'openai'\nid = 'x'\ndimensions = 64\n{line}\n")
    with FakeServer() as s, environment(**KEYS, **s.env()):
        with pytest.raises(UserError, match=why): build_index(ws, embedder='mine')


def test_entries_that_run_here_are_written_as_before():
    "An index of an earlier version stays up to date."
    from wattnb.core.workspace import jsonable
    for e in load_embedders().values():
        if not e.hosted: assert set(jsonable(e)) == {'key', 'provider', 'id', 'name', 'revision', 'dimensions', 'max_tokens', 'query_prompt', 'passage_prompt', 'truncate_dim', 'task', 'trust_remote_code', 'pypi'}


REAL = '''
import socket, sys, threading, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.ui, p.warmup, p.verbosity, p.fit_params, p.embedding = sys.argv[1], int(sys.argv[2]), False, False, 0, False, True
p.n_ctx = p.n_batch = p.n_ubatch = 96
p.n_parallel, p.pooling_type = 1, xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(p)
print('ready', flush=True)
threading.Event().wait()
'''


def test_a_real_server(monkeypatch):
    "llama.cpp with a language model as embedder: its base64, its count of tokens, and its refusal of a text that is longer than its batch."
    pytest.importorskip('xllamacpp')
    from wattnb.llm.protocol import fetch_model
    monkeypatch.delenv('WATTNB_CACHE') # the weights may be there
    try: weights = fetch_model('smollm2-135m')
    except WorkError as e: pytest.skip(f'no weights: {e}')
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    p = subprocess.Popen([sys.executable, '-c', REAL, str(weights), str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        while (line := p.stdout.readline()) and 'ready' not in line: pass
        assert line, 'the server did not start'
        texts = ['The cluster used 40 MWh.', 'The cluster used 38 MWh.', 'A lake.', 'energy ' * 150]
        with environment(OPENAI_BASE_URL=f'http://127.0.0.1:{port}/v1', OPENAI_API_KEY=None):
            h = HostedEmbedder(entry('openai:smollm2-as-embedder', options=dict(timeout=300)))
            v = h.encode(texts, cached=False)
            assert v.shape == (4, 576) and np.allclose(np.linalg.norm(v, axis=1), 1, atol=1e-5) and v[0] @ v[1] > v[0] @ v[2]
            assert h.shortened == 1 and h.price == 0 and 100 < h.tokens < 140
            assert (h.encode(texts[:1], cached=False)[0] @ v[0]) > .999
    finally: p.kill(); p.wait()
