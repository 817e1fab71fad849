"A real llama.cpp server (`xllamacpp`) with the embedded model: windows and slots of the kinds that people run, and no question fails."
from contextlib import contextmanager

import pytest

from conftest import words_workspace
from wattnb.core.workspace import read_json
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.llm.prompts import REPLY_SCHEMA
from wattnb.llm.protocol import Request, fetch_model, open_model
from wattnb.testing.server import environment

llama = pytest.importorskip('xllamacpp')


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('ws'))


@pytest.fixture(scope='module')
def weights(): return str(next(fetch_model('smollm2-135m').parent.glob('smollm2-135m-*/*.gguf')))


@contextmanager
def serving(weights, window, slots):
    "The address of a server with so many tokens per slot. One thread: several wait for each other where other tests are at work."
    p = llama.CommonParams()
    p.model.path, p.n_ctx, p.n_parallel, p.port, p.warmup, p.verbosity = weights, window * slots, slots, 0, False, -1
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    server = llama.Server(p)
    try:
        with environment(OPENAI_BASE_URL=f'{server.listening_address}/v1', OPENAI_API_KEY=None): yield server.listening_address
    finally: del server


def results(ws, name, **kw):
    plan = plan_run(RunSettings(name=name, preset='words', max_retries=0, **kw), ws)
    return run_all(plan).summary, read_json(plan.run_dir/'results.json')


@pytest.mark.parametrize('window', [2048, 8192])
@pytest.mark.parametrize('slots', [1, 4])
def test_the_demo_is_answered(ws, weights, window, slots):
    "The model is found by the name of its file, so its prompt is short; latency is that of the model, the queue has its own field."
    with serving(weights, window, slots): summary, rows = results(ws, f'w{window}-s{slots}', model='openai:SmolLM2-135M-Instruct.Q4_1.gguf', limit=5)
    assert summary['by_status']['failed'] == 0 and summary['by_status']['answered'] >= 3
    assert [summary['effective'][k] for k in ('slots', 'concurrency', 'context')] == [slots, slots, window]
    for r in rows:
        seconds = r['attempts'][0]['seconds']
        assert r['tokens']['prompt'] and seconds['generation'] == pytest.approx(seconds['prefill'] + seconds['decode'], abs=.05) and seconds['queue'] >= 0


def test_a_full_prompt_fits_a_small_window(ws, weights):
    "An unknown name has no settings: the preset asks for 8,000 tokens of context, and the window has 2,048."
    with serving(weights, 2048, 1):
        summary, [r] = results(ws, 'full', model='openai:local', limit=1, max_new_tokens=48, retrieval='max_tokens=8000 top_k=80')
    assert summary['by_status']['failed'] == 0 and 1000 < r['context_tokens'] < r['tokens']['prompt'] <= 2048 - 48


def test_settings_by_as(ws, weights):
    with serving(weights, 2048, 1): summary, [r] = results(ws, 'as', model='openai:local', like='smollm2-135m', limit=1)
    assert r['context_tokens'] <= 250 and r['status'] == 'answered' and summary['identity']['like'] == 'smollm2-135m'


def test_tokens_a_window_and_a_schema(weights):
    "The server counts tokens; a prompt that is too long names both numbers; a reply that is cut holds the value."
    with serving(weights, 512, 1), open_model('openai:local') as m:
        assert m.count_tokens('one two three') == 3 and m.entry.context == 512
        long, short = m.complete([Request('long', '', 'word ' * 700), Request('q', 'Reply with JSON.', 'How much energy?', max_tokens=120, schema=REPLY_SCHEMA)])
        assert long.finish_reason == 'too_long' and '512' in long.error
        assert short.ok and '"answer_value"' in short.text and m.info['not_sent'] == []
