"A real llama.cpp server (`xllamacpp`) with the embedded model: windows and slots of the kinds that people run, and no question fails."
import importlib.util
from contextlib import ExitStack
from pathlib import Path

import pytest

from wattnb.core.workspace import environment, read_json
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.llm.prompts import REPLY_SCHEMA
from wattnb.llm.protocol import Request, open_model

pytest.importorskip('xllamacpp')
spec = importlib.util.spec_from_file_location('llamacpp_benchmark', Path(__file__).resolve().parents[1] / 'benchmarks/llamacpp_demo.py')
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo) # it asks all 87 questions


@pytest.fixture(scope='module')
def one_slot():
    "The address of a server with one slot of 2,048 tokens, which several tests ask."
    with demo.serving(2048, 1) as address: yield f'{address}/v1'


def results(ws, name, **kw):
    plan = plan_run(RunSettings(name=name, preset='words', max_retries=0, **kw), ws)
    return run_all(plan).summary, read_json(plan.run_dir/'results.json')


@pytest.mark.parametrize('window, slots, n', [(2048, 1, 3), (2048, 4, 5), (8192, 1, 1), (8192, 4, 5)])
def test_the_demo_is_answered(ws, request, window, slots, n):
    "The model is found by the name of its file, so its prompt is short; latency is that of the model, the queue has its own field."
    with ExitStack() as s:
        if (window, slots) == (2048, 1): s.enter_context(environment(OPENAI_BASE_URL=request.getfixturevalue('one_slot'), OPENAI_API_KEY=None))
        else: s.enter_context(demo.serving(window, slots))
        summary, rows = results(ws, f'w{window}-s{slots}', model=demo.NAMED, limit=n, max_new_tokens=24)
    assert summary['by_status']['failed'] == 0 and summary['by_status']['answered'] >= n / 2
    assert [summary['effective'][k] for k in ('slots', 'concurrency', 'context')] == [slots, slots, window]
    for r in rows:
        seconds = r['attempts'][0]['seconds']
        assert r['tokens']['prompt'] and seconds['generation'] == pytest.approx(seconds['prefill'] + seconds['decode'], abs=.05) and seconds['queue'] >= 0


def test_a_full_prompt_fits_a_small_window(ws, one_slot):
    "An unknown name has no settings: the preset asks for 8,000 tokens of context, and the window has 2,048."
    with environment(OPENAI_BASE_URL=one_slot, OPENAI_API_KEY=None):
        summary, [r] = results(ws, 'full', model=demo.UNKNOWN, limit=1, max_new_tokens=32, retrieval='max_tokens=8000 top_k=80')
    assert summary['by_status']['failed'] == 0 and 1000 < r['context_tokens'] < r['tokens']['prompt'] <= 2048 - 32


def test_settings_by_as(ws, one_slot):
    with environment(OPENAI_BASE_URL=one_slot, OPENAI_API_KEY=None):
        summary, [r] = results(ws, 'as', model=demo.UNKNOWN, like='smollm2-135m', limit=1, max_new_tokens=24)
    assert r['context_tokens'] <= 250 and r['status'] == 'answered' and summary['identity']['like'] == 'smollm2-135m'


def test_tokens_a_window_and_a_schema():
    "The server counts tokens; a prompt that is too long names both numbers; a reply that is cut holds the value."
    with demo.serving(512, 1), open_model(demo.UNKNOWN) as m:
        assert m.count_tokens('one two three') == 3 and m.entry.context == 512
        long, short = m.complete([Request('long', '', 'word ' * 700), Request('q', 'Reply with JSON.', 'How much energy?', max_tokens=120, schema=REPLY_SCHEMA)])
        assert long.finish_reason == 'too_long' and '512' in long.error
        assert short.ok and '"answer_value"' in short.text and m.info['not_sent'] == []
