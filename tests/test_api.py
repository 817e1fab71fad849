"API providers against a real local server with every fault: no question lost, none twice, no key anywhere."
import json, logging, os, subprocess, sys, time

import pytest

from wattnb.llm import ModelEntry, Request, load_registry, open_model
from wattnb.testing import FAULTS, FakeServer, environment
from wattnb.workspace import UserError

CANARY = 'sk-CANARY-9876543210-do-not-print'
KEYS = dict(OPENAI_API_KEY=CANARY, OPENROUTER_API_KEY=CANARY, AWS_ACCESS_KEY_ID='AKIACANARY0000000000', AWS_SECRET_ACCESS_KEY=CANARY, AWS_PROFILE=None, AWS_SESSION_TOKEN=None)


def entry(provider, **kw): return ModelEntry('m', provider, 'some/model', max_concurrent=kw.pop('max_concurrent', 8), precision='auto', **kw)


def where(s): return dict(OPENAI_BASE_URL=s.url, OPENROUTER_BASE_URL=s.url, AWS_ENDPOINT_URL_BEDROCK_RUNTIME=s.bedrock_url, AWS_REGION='us-east-1')


def requests(n): return [Request(f'q{i}', 'Be brief.', f'Question {i}?', max_tokens=50, schema=dict(type='object')) for i in range(n)]


@pytest.fixture(params=['openai', 'openrouter', 'bedrock'])
def provider(request):
    if request.param == 'bedrock': pytest.importorskip('boto3')
    return request.param


def test_answers_in_order_with_usage(provider):
    with FakeServer(lambda p: p.split('Question ')[1].split('?')[0], latency=.02) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider)) as m: got = m.complete(requests(20))
    assert [r.text for r in got] == [str(i) for i in range(20)]
    assert all(r.ok and r.prompt_tokens and r.completion_tokens is not None and r.seconds > 0 for r in got)
    assert 1 < s.most <= 8


@pytest.mark.parametrize('fault', [f for f in FAULTS if f != 'hang'])
def test_one_fault_costs_one_try(provider, fault):
    if provider == 'bedrock' and fault in ('cut', 'garbage', 'not-json', 'no-usage'): pytest.skip('boto3 parses these itself')
    with FakeServer(faults=[fault], retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider)) as m: r = m.complete(requests(1))[0]
    assert r.ok and r.attempts == (1 if fault == 'no-usage' else 2), (r.error, r.attempts)
    if fault == 'no-usage': assert r.prompt_tokens is None and r.completion_tokens is None


def test_hang_ends_at_the_timeout(provider):
    with FakeServer(faults=['hang'] * 9, hang=5) as s, environment(**KEYS, **where(s)):
        t = time.monotonic()
        with open_model(entry(provider), timeout=.4, deadline=1.5) as m: r = m.complete(requests(1))[0]
    assert not r.ok and 'no answer within' in r.error and time.monotonic() - t < 12


def test_rate_limit_halves_the_calls_in_flight():
    with FakeServer(faults=['429'] * 4, latency=.02, retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', max_concurrent=6)) as m: got = m.complete(requests(30))
    assert all(r.ok for r in got) and s.most <= 6


def test_server_without_schema_is_asked_without():
    with FakeServer(knows_schema=False) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', max_concurrent=1)) as m: got = m.complete(requests(3))
    assert all(r.ok for r in got) and s.calls == 4 and 'response_format' not in s.bodies[-1]


def test_unreachable_server_is_told_soon():
    with environment(**KEYS, OPENAI_BASE_URL='http://127.0.0.1:9/v1'):
        t = time.monotonic()
        with open_model(entry('openai')) as m: got = m.complete(requests(60))
    assert all('cannot reach' in r.error for r in got) and time.monotonic() - t < 15


def test_missing_key_is_one_line(provider):
    if provider == 'bedrock': pytest.skip('the default chain is asked at the first call')
    with environment(OPENAI_API_KEY=None, OPENROUTER_API_KEY=None, OPENAI_BASE_URL=None, OPENROUTER_BASE_URL=None):
        with pytest.raises(UserError, match='_API_KEY: set it in the environment'): open_model(entry(provider))


def test_inside_a_running_loop():
    import asyncio
    async def cell():
        with open_model(entry('openai')) as m: return m.complete(requests(2))
    with FakeServer() as s, environment(**KEYS, **where(s)): assert all(r.ok for r in asyncio.run(cell()))


def test_no_key_anywhere(provider, caplog, capsys):
    "The server repeats the key in its errors; it reaches no reply, log or stream."
    caplog.set_level(logging.DEBUG)
    with FakeServer() as s, environment(**KEYS, **where(s)):
        s._answer = lambda h, body, fault: s._send(h, 401, dict(error=dict(message=f'bad key {CANARY}'), message=f'bad key {CANARY}'))
        with open_model(entry(provider)) as m: got = m.complete(requests(3))
        texts = [json.dumps([vars(r) if hasattr(r, '__dict__') else str(r) for r in got], default=str), repr(m), str(m.info), caplog.text, *capsys.readouterr()]
    assert not any(r.ok for r in got) and not any(CANARY in t for t in texts)


def test_many_questions_many_faults():
    "300 questions, 30 % faults: each ends once."
    with FakeServer(lambda p: p[-40:], share=.3, latency=.01, retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', max_concurrent=16)) as m: got = list(m.stream(requests(300)))
    assert sorted(r.id for r in got) == sorted(f'q{i}' for i in range(300)) and s.most <= 16
    assert sum(r.ok for r in got) >= 295 and all(r.error for r in got if not r.ok)
