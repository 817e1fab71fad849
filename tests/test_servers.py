"Servers as they are: what they refuse, how they word it, what they leave out, and how long they take."
import json, threading, time
from dataclasses import replace

import pytest

from wattnb.core.questions import Question
from wattnb.core.workspace import UserError, read_json
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.llm.parsing import clean_value, find_fields, parse_reply
from wattnb.llm.protocol import Request, open_model
from wattnb.llm.registry import ModelEntry, load_registry
from wattnb.llm.server_limits import TOO_LONG, Limits, loading_wait, read_limits, refuses_system
from wattnb.testing.server import FakeServer, environment
from conftest import CANARY as KEY, KEYS, Page, send

VALUE = '{"explanation": "p. 3", "answer": "much", "answer_value": "412", "ref_id": [], "supporting_materials": ""}'


def entry(provider='openai', **kw): return ModelEntry('m', provider, 'some/model', precision='auto', **dict(max_concurrent=8) | kw)
def requests(n, **kw): return [Request(f'q{i}', 'Be brief.', f'Question {i}?', **dict(max_tokens=50) | kw) for i in range(n)]


def ask(server, rs=None, model=None, **kw):
    "(replies, info of the model, bodies of the calls)"
    with server as s, environment(**KEYS, **s.env()):
        with open_model(model or entry(), **kw) as m: got = m.complete(rs or requests(1))
    return got, m.info, s.bodies


def answering(**message):
    "A change of the reply's message and of the choice's finish reason."
    def change(reply, body):
        c = reply['choices'][0]
        c['finish_reason'] = message.get('finish_reason', 'stop')
        c['message'] = dict(role='assistant', content=None) | {k: v for k, v in message.items() if k != 'finish_reason'}
        return reply
    return change


def chat(text=VALUE, **more): return dict(choices=[dict(message=dict(content=text), finish_reason='stop')], usage=dict(prompt_tokens=9, completion_tokens=9)) | more


# --- the role of the system ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('status, message', [(400, 'System role not supported'), (400, 'Conversation roles must alternate user/assistant/user/assistant/...'),
                                             (400, "'messages[0].role' does not support 'system' with this model."), (500, 'Jinja Exception: System role not supported'), (422, 'Only user and assistant roles are supported!')])
def test_a_refused_system_role_is_merged_once(status, message):
    def answer(h, body, n): return send(h, status, dict(error=dict(message=message))) if body['messages'][0]['role'] == 'system' else send(h, 200, chat(body['messages'][0]['content']))
    got, info, bodies = ask(Page(answer), requests(6), entry(max_concurrent=1))
    assert all(r.ok and r.text.startswith('Be brief.\n\nQuestion') for r in got) and len(bodies) == 7 and 'merged' in info['system_role']


@pytest.mark.parametrize('message', ['This model only supports user and assistant roles', 'Unexpected role "system". The Messages API accepts a top-level parameter', "Input should be 'user' or 'assistant'",
    'Developer instruction is not enabled for models/gemma-3-27b-it', 'Only user, assistant and tool roles are supported, got system.', 'Please use a valid role: user, model.', 'system role is unsupported',
    "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.", "'system' is not one of ['user', 'assistant']", 'Role must be in [user, assistant]', 'messages: first message must use the "user" role', 'System messages are disabled for this model',
    'Conversation must start with a user message', 'System instructions are not enabled for models/gemma-3', 'unsupported message role: system', 'The system role cannot be used with this model', 'Model does not have a system prompt', 'System role is forbidden',
    "role: unexpected value; permitted: 'user', 'assistant'", 'Expected first message to be from user', 'Only alternating user/assistant messages are supported', "Invalid value at 'contents[0].role': system"])
def test_wordings_of_a_refused_system_role(message):
    assert refuses_system(message)
    for m in ('the system is busy', 'model x not found', 'System memory not available', 'Internal system error: not supported operation', 'role must be one of: system, user, assistant'): assert not refuses_system(m), m


@pytest.mark.parametrize('message, window, prompt, reply', [
    ('`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 3700 `inputs` tokens and 512 `max_new_tokens`', 4096, 3700, None), ('`max_new_tokens` must be <= 64. Given: 512', None, None, 64),
    ('Sequence length 5000 exceeds maximum 4096', 4096, 5000, None), ('input tokens (5000) exceed the limit of 4096', 4096, 5000, None), ('`inputs` must have less than 4095 tokens. Given: 5000', 4095, 5000, None),
    ('Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens). Use a shorter input or enable --allow-auto-truncate.', 4090, 5000, None), ('Cannot truncate prompt with n_keep (5000) >= n_ctx (4096)', 4096, 5000, None),
    ('The number of tokens to keep from the initial prompt is greater than the context length (n_keep: 5000>= n_ctx: 4096). Try to load', 4096, 5000, None), ('prompt too long; exceeded max context length by 1234 tokens', None, None, None),
    ('The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).', 1048576, 1200000, None), ("This model's maximum prompt length is 131072 but the request contains 200000 tokens.", 131072, 200000, None),
    ('too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000. Try using a shorter prompt or a smaller max_tokens value', 4081, 5000, None), ('Requested tokens (5000) exceed context window of 4096', 4096, 5000, None),
    ('The sum of prompt length (3700.0), query length (0) should not exceed max_num_tokens (4096)', 4096, 3700, None), ('Context length 5000 is greater than max_seq_len 4096. Generation is aborted', 4096, 5000, None),
    ('The prompt is too long: 5000, model maximum context length: 4095', 4095, 5000, None), ('Range of max_tokens should be [1, 8192]', None, None, 8192), ('InvalidParameter: Range of input length should be [1, 30720]', 30720, None, None),
    ('invalid params, context window exceeds limit (2013)', None, None, None), ('max_tokens must be in [1, 2048]', None, None, 2048), ('Value for max_tokens exceeds the limit of 2048', None, None, 2048),
    ('max_new_tokens (512) + input length (3700) exceeds model max length 4096', 4096, 3700, None), ('prompt token count of 5000 exceeds the limit of 4096', 4096, 5000, None), ('Total tokens 5000 exceeds 4096', 4096, 5000, None),
    ('Prompt length 5000 is over the engine limit of 4096 tokens', 4096, 5000, None), ('the prompt has 5000 tokens but only 4096 are allowed', 4096, 5000, None), ('max_completion_tokens must not exceed 20', None, None, 20), ('the request has max_tokens 50, which exceeds 20', None, None, None),
    ("Invalid 'max_tokens': integer above maximum value. Expected a value <= 20, but got 50 instead.", None, None, 20),
    ("You passed 3585 input tokens and requested 512 output tokens. However, the model's context length is only 4096 tokens, resulting in a maximum input length of 3584 tokens.", 4096, 3585, None), ('Context window exceeded: 5000/4096 tokens', 4096, 5000, None),
    ('messages too long for context window: 5000 > 4096', 4096, 5000, None), ("This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.", 4096, 5000, None), ('Too many input tokens. Max input tokens: 8000, request input token count: 9000', 8000, 9000, None),
    ("Your request has 5000 input tokens, but the model's limit is 4096 tokens.", 4096, 5000, None), ('Prompt too long (5,000 tokens). Maximum allowed: 4,096 tokens.', 4096, 5000, None), ('Request too large for model `llama-3.1-8b-instant` on tokens per minute (TPM): Limit 6000, Requested 7000', 6000, 7000, None),
    ('Your request exceeded model token limit: 8192', 8192, None, None), ('maxTokens: Number must be less than or equal to 256', None, None, 256), ('#/max_tokens: 512 is not less or equal to 256', None, None, 256), ('400 is no valid status, but 200', None, None, None), ('Request body too large for gpt-4o model. Max size: 8000 tokens.', 8000, None, None)])
def test_wordings_of_a_limit(message, window, prompt, reply):
    assert read_limits(message) == Limits(window, prompt, reply) and (reply or window or TOO_LONG.search(message) or 'max_tokens 50' in message or 'status' in message)


@pytest.mark.parametrize('status, message', [(503, 'Model not ready'), (503, 'The server is starting'), (424, 'Model not ready for inference. Wait and try your request again.'), (429, 'Model is loading, please retry'), (502, 'model is still loading'), (503, 'Initializing'), (503, 'loading'), (503, 'no healthy upstream'), (503, 'Waiting for model to load'), (503, 'Endpoint is scaled to zero, starting'), (503, 'Warm-up in progress'), (500, 'model loading in progress'),
    (503, 'Pod is not ready'), (503, 'Model not loaded yet'), (502, 'connect ECONNREFUSED 127.0.0.1:8000'), (503, 'No replicas available, scaling up'), (503, 'Instance is booting'), (409, 'Model is loading')])
def test_wordings_of_loading(status, message):
    assert loading_wait(status, message, {}) and loading_wait(429, 'Rate limit reached', {}) is None
    for m in ('error loading model', 'failed to load model: out of memory', 'the server is overloaded'): assert loading_wait(500, m, {}) is None, m


def test_bedrock_without_system_messages():
    pytest.importorskip('boto3')
    s = FakeServer('fine')
    plain = s._answer
    s._answer = lambda h, body, fault: s._send(h, 400, dict(message="This model doesn't support system messages. Try again without"), [('x-amzn-errortype', 'ValidationException')]) if 'system' in body else plain(h, body, fault)
    got, info, bodies = ask(s, requests(3), entry('bedrock', max_concurrent=1))
    assert all(r.ok for r in got) and len(bodies) == 4 and 'Be brief.' in bodies[-1]['messages'][0]['content'][0]['text']


def test_the_registry_knows_the_model_of_a_server():
    reg = load_registry()
    for id in ('google/gemma-2-9b-it', 'gemma-2-9b-it-Q4_K_M.gguf', '/models/gemma-2-9b-it.Q8_0.gguf', 'gemma2:9b', 'bartowski/gemma-2-9b-it-GGUF', 'gemma-2-9b-it-AWQ', 'C:\\models\\gemma-2-9b-it-IQ4_XS.gguf'):
        assert not (e := reg.find(f'openai:{id}')).system_role and (e.like, e.provider, e.id, e.prices, e.options) == ('gemma2-9b', 'openai', id, None, {}), id
    assert reg.find('openai:SmolLM2-135M-Instruct.Q4_1.gguf').prompt == 'compact' and reg.find('openai:anything', like='smollm2-135m').max_new_tokens == 48
    assert [reg.find(f'openai:{x}').like for x in ('mine', 'my-7b', 'gemma')] == ['', '', '']


# --- the server's limits -------------------------------------------------------------------------------------------------

def test_window_and_slots_are_asked_for():
    with FakeServer(window=2048, slots=2, latency=.02) as s, environment(**KEYS, **s.env()):
        with open_model(entry(context=8192)) as m: got = m.complete(requests(12)); assert (m.entry.context, m.limit, m.info['slots']) == (2048, 2, 2)
    assert all(r.ok for r in got) and s.most <= 2


@pytest.mark.parametrize('told', [True, False])
def test_the_window_is_taken_from_an_error(told):
    "A reply of 512 does not fit beside the prompt: it is shortened, which costs no try."
    long = [Request('q', '', 'word ' * 480, max_tokens=512)]
    got, info, bodies = ask(FakeServer(window=1000, told=told), long)
    assert got[0].ok and len(bodies) == 2 and bodies[-1]['max_tokens'] < 400 and info['context'] == 1000
    got, *_ = ask(FakeServer(window=500, told=told), long)
    assert not got[0].ok and got[0].finish_reason == 'too_long' and got[0].attempts == 1


def test_a_shorter_reply_for_the_whole_run():
    def answer(h, body, n): return send(h, 400, dict(error=dict(message='max_tokens must be at most 24'))) if body['max_tokens'] > 24 else send(h, 200, chat())
    got, _, bodies = ask(Page(answer), requests(5), entry(max_concurrent=1))
    assert all(r.ok for r in got) and [b['max_tokens'] for b in bodies] == [50, 24, 24, 24, 24, 24]


def test_a_shorter_reply_that_other_calls_in_flight_learn():
    "Four calls are refused together: each compares the limit with what it sent itself, and not with what the first one has learned."
    together = threading.Barrier(4, timeout=20)
    def answer(h, body, n):
        if n <= 4: together.wait()
        return send(h, 400, dict(error=dict(message='max_tokens must be at most 24'))) if body['max_tokens'] > 24 else send(h, 200, chat())
    got, _, bodies = ask(Page(answer), requests(4), entry(max_concurrent=4))
    assert all(r.ok for r in got) and len(bodies) == 8


def test_a_request_that_is_too_large_is_too_long():
    got, *_ = ask(Page(lambda h, body, n: send(h, 413, 'Payload Too Large', 'text/plain')))
    assert got[0].finish_reason == 'too_long' and (got[0].prompt_tokens, got[0].completion_tokens) == (0, 0)


def run(ws, s, name, model='openai:served', n=6, **kw):
    with s, environment(**KEYS, **s.env()): return run_all(plan_run(RunSettings(model=model, name=name, limit=n, preset='words', **kw), ws)).summary


@pytest.mark.parametrize('told', [True, False])
@pytest.mark.parametrize('window', [2048, 8192])
def test_contexts_fit_the_window(ws, window, told):
    "Told before, or learned from the first error: no question fails."
    s = FakeServer('extractive', window=window, slots=2, told=told)
    got = run(ws, s, f'window-{window}-{told}', retrieval='max_tokens=8000 top_k=80', max_retries=0)
    assert got['by_status']['failed'] == 0 and got['timing'].get('queue_seconds') is None
    if told: assert s.most <= 2 and s.calls <= 7


def test_the_window_of_ollama(ws, caplog):
    "It is known only after the model is loaded; a longer prompt would be cut, and nobody would know."
    s = FakeServer('extractive', window=2048, ollama=True)
    got = run(ws, s, 'ollama', retrieval='max_tokens=8000 top_k=80', max_retries=0)
    sizes = [sum(len(m['content']) for m in b['messages']) // 4 + b['max_tokens'] for b in s.bodies]
    assert got['by_status']['failed'] == 0 and 1200 < max(sizes) <= 2048 and s.loads == 1, sizes
    assert got['effective']['context'] == 2048 and 'OLLAMA_CONTEXT_LENGTH' in caplog.text and 'num_ctx' in caplog.text
    caplog.clear()
    _, info, _ = ask(FakeServer(window=32768, ollama=True), model=replace(entry(), id='served'))
    assert info['context'] == 32768 and 'num_ctx' not in caplog.text
    s = FakeServer(window=32768, ollama=True)
    _, info, _ = ask(s, model=replace(entry(), id='served:7b'))
    assert 'context' not in info and s.loads == 0, 'it has no such model: nothing is loaded'
    for thinking, effort in (('off', 'none'), ('on', None)): # Ollama does not know chat_template_kwargs, and thinks unless told not to
        *_, (body,) = ask(FakeServer('x', window=32768, ollama=True), model=replace(entry(thinking=thinking, thinking_tokens=9), id='served'))
        assert body.get('reasoning_effort') == effort and 'chat_template_kwargs' not in body
    *_, (body,) = ask(FakeServer('x', window=32768), model=entry(thinking='off'))
    assert body['chat_template_kwargs'] == dict(enable_thinking=False) and 'reasoning_effort' not in body


@pytest.mark.parametrize('provider', ['openai', 'openrouter'])
def test_a_level_of_effort_is_asked_for_and_never_left_out(provider):
    got, _, (body,) = ask(FakeServer('x'), model=entry(provider).at_effort('low'))
    assert (body['reasoning_effort'] if provider == 'openai' else body['reasoning']['effort']) == 'low' and body.get('max_tokens', body.get('max_completion_tokens')) > 4000
    (reply,), _, bodies = ask(FakeServer('x', errors={400: '{"error": {"message": "unsupported parameter: reasoning is not supported"}}'}), model=entry(provider).at_effort('low'))
    assert 'takes no effort low' in reply.error and len(bodies) == 1, 'it was asked again without the level'


def test_sglang_tells_its_version():
    "Not at `/version`, which it does not have."
    class Sglang(FakeServer):
        def about(self, path, body): return {'/v1/models': dict(data=[dict(id='some/model', owned_by='sglang', max_model_len=4096)]),
                                             '/server_info': dict(version='0.5.23', dtype='auto')}.get(path)
    _, info, _ = ask(Sglang('x', local=True))
    assert (info['engine'], info['engine_version'], info['context']) == ('sglang', '0.5.23', 4096)


# --- waiting -------------------------------------------------------------------------------------------------------------

def test_a_slow_queue_lowers_the_calls_in_flight():
    "One slot, .2 s each, a timeout of 1 s, ten calls at a time: most of them would time out in the queue, again and again."
    got, info, _ = ask(FakeServer('x', latency=.25, slots=1, told=False), requests(20), entry(max_concurrent=10), timeout=1., deadline=5., batch_size=10)
    assert all(r.ok for r in got), [r.error for r in got if not r.ok]
    assert info['concurrency_lowest'] < 5


def test_a_stuck_call_among_fast_ones_counts():
    got, info, _ = ask(FakeServer('x', faults=['', 'hang'], hang=60), requests(20), entry(max_concurrent=4), timeout=.6, deadline=4.)
    assert all(r.ok for r in got) and info['concurrency_lowest'] == 4


def test_a_call_that_is_slow_by_itself_gets_more_time(monkeypatch):
    with FakeServer('x', latency=.5) as s, environment(**KEYS, **s.env()):
        with open_model(entry(max_concurrent=1)) as m:
            m.timeout, m._longest_timeout = .2, .8
            monkeypatch.setattr(m, '_set_times', lambda t: setattr(m, 'timeout', t))
            got = m.complete(requests(3))
    assert all(r.ok for r in got) and sum(r.attempts for r in got) == 5 and m.timeout == .8


@pytest.mark.parametrize('answer', [(503, dict(error=dict(message='Loading model', code=503, type='unavailable_error'))), (503, dict(error='Model me/x is currently loading', estimated_time=.3)),
                                    (502, '<html><h1>502 Bad Gateway</h1></html>'), (503, ''), (504, '<html>Gateway Time-out</html>'), (521, 'error code: 521')])
def test_a_loading_server_is_waited_for(answer, monkeypatch):
    monkeypatch.setattr('wattnb.llm.server_limits.LOADING_WAIT', .3)
    first = {} # the time of the first call
    s = Page(lambda h, body, n: send(h, *answer) if time.monotonic() < first.setdefault('call', time.monotonic()) + 2.5 else send(h, 200, chat()))
    got, _, bodies = ask(s, requests(4), tries=2)
    assert all(r.ok for r in got) and len(bodies) > 6


def test_a_time_named_before_the_first_answer_is_waited_for(caplog):
    "A proxy in front of a server that starts says 503 and when to come again; one that never answers costs one deadline."
    first = {} # the time of the first call
    got, _, bodies = ask(Page(lambda h, body, n: send(h, 503, 'Service Unavailable', retry_after='0.1') if time.monotonic() < first.setdefault('call', time.monotonic()) + 1.5 else send(h, 200, chat())), requests(3), tries=2)
    assert all(r.ok for r in got) and len(bodies) > 12
    t = time.monotonic()
    got, *_ = ask(Page(lambda h, body, n: send(h, 503, 'Service Unavailable', retry_after='0.1')), requests(6), entry(max_concurrent=1), tries=2, timeout=.5, deadline=.8)
    assert not any(r.ok for r in got) and time.monotonic() - t < 3


def test_a_server_that_restarts_is_waited_for(monkeypatch, caplog):
    "It has answered before: refused connections and a proxy's 502 are no faults of a question until its deadline; then no question is sent any more."
    monkeypatch.setattr('wattnb.llm.calls.LOADING_WAIT', .1)
    monkeypatch.setattr('wattnb.llm.server_limits.LOADING_WAIT', .1)
    s = FakeServer('x')
    with s, environment(**KEYS, **s.env()), open_model(entry(max_concurrent=2), tries=2) as m:
        assert all(r.ok for r in m.complete(requests(2)))
        s.__exit__()
        threading.Timer(1.2, FakeServer('x', listen=s.port).__enter__).start()
        got = m.complete([replace(r, id=f'again-{r.id}') for r in requests(6)])
        assert all(r.ok for r in got) and 'waiting, at most' in caplog.text
    s = FakeServer('x')
    with s, environment(**KEYS, **s.env()), open_model(entry(max_concurrent=1), deadline=.5, timeout=.4) as m:
        assert m.complete(requests(1))[0].ok
        s.__exit__()
        got = m.complete(requests(50))
        assert all('cannot reach' in r.error for r in got) and sum(r.attempts > 0 for r in got) <= 2
    def answer(h, body, n): return send(h, 502, '<html>Bad Gateway</html>') if 2 <= n < 9 else send(h, 200, chat())
    got, *_ = ask(Page(answer), requests(3), entry(max_concurrent=1), tries=2)
    assert all(r.ok for r in got)


def test_loading_is_waited_for_before_the_first_question(monkeypatch, caplog):
    monkeypatch.setattr('wattnb.llm.server_limits.LOADING_WAIT', .2)
    s = FakeServer('x', window=2048, loading=1.)
    got, info, bodies = ask(s, requests(4))
    assert all(r.ok and r.attempts == 1 for r in got) and info['context'] == 2048 and 'is loading its model' in caplog.text


def test_the_queue_is_no_latency():
    "llama.cpp's own times of prompt and reply, Groq's of its queue."
    def answer(h, body, n): time.sleep(.5); send(h, 200, chat(timings=dict(prompt_ms=20., predicted_ms=80.)) if n == 1 else chat(usage=dict(prompt_tokens=1, completion_tokens=1, queue_time=.4)))
    got, *_ = ask(Page(answer), requests(2), entry(max_concurrent=1))
    assert .09 < got[0].seconds < .11 and got[0].queue_seconds > .38 and (got[0].prefill_seconds, got[0].decode_seconds) == (.02, .08)
    assert got[1].queue_seconds == .4 and .05 < got[1].seconds < .3


def test_queue_seconds_are_in_the_record(ws):
    slow = lambda reply, body: reply | dict(timings=dict(prompt_ms=1., predicted_ms=2.))
    s = FakeServer('extractive', latency=.3, change=slow)
    summary = run(ws, s, 'queue', n=2, max_retries=0)
    [r, _] = read_json(ws.experiments/'train_QA'/'queue'/'results.json') if (ws.experiments/'train_QA'/'queue').exists() else read_json(next(ws.experiments.rglob('queue/results.json')))
    assert r['queue_seconds'] > .2 and r['generation_seconds'] == pytest.approx(.003) and summary['timing']['queue_seconds'] > .2


# --- odd answers ---------------------------------------------------------------------------------------------------------

def test_the_answer_in_the_field_for_reasoning():
    got, *_ = ask(FakeServer(change=answering(reasoning_content=VALUE)))
    assert got[0].text == VALUE and not got[0].reasoning and 'field for reasoning' in got[0].note
    got, *_ = ask(FakeServer(change=answering(reasoning='hm, is it 4 or 5')), model=entry(thinking='always', thinking_tokens=100))
    assert got[0].text == '' and got[0].reasoning and 'nothing but reasoning' in got[0].note


def test_a_call_of_a_tool_and_a_refusal():
    got, *_ = ask(FakeServer(change=answering(tool_calls=[dict(type='function', function=dict(name='reply', arguments=VALUE))], finish_reason='tool_calls')))
    assert got[0].text == VALUE and 'tool' in got[0].note
    got, *_ = ask(FakeServer(change=answering(refusal=f'I cannot help with that, {KEY}')))
    a = parse_reply(got[0].text, note=got[0].note)
    assert a.status == 'unparsed' and a.explanation == 'the model refused: I cannot help with that, [redacted]'


@pytest.mark.parametrize('message, note', [
    (dict(reasoning_details=[dict(type='reasoning.text', text=VALUE)]), 'field for reasoning'), (dict(thinking=VALUE), 'field for reasoning'), (dict(reasoning_content=[dict(text=VALUE)]), 'field for reasoning'), (dict(content=json.loads(VALUE)), ''), (dict(content=[VALUE[:9], VALUE[9:]]), ''),
    (dict(tool_calls=[dict(function=dict(name='reply', arguments=VALUE)), dict(function=dict(name='cite', arguments='{"page": 3}'))]), 'call of a tool'), (dict(tool_calls=[dict(name='reply', arguments=VALUE)]), 'call of a tool'),
    (dict(tool_calls=dict(function=dict(name='reply', parameters=json.loads(VALUE)))), 'call of a tool')])
def test_places_of_the_answer(message, note):
    got, *_ = ask(FakeServer(change=answering(**message)))
    assert json.loads(got[0].text) == json.loads(VALUE) and note in got[0].note and bool(note) == bool(got[0].note)


def test_other_refusals_and_forms_of_an_answer():
    for message, note in ((dict(content=[dict(type='refusal', refusal='No.')]), 'the model refused: No.'), (dict(finish_reason='refusal'), 'the model refused'), (dict(finish_reason='SAFETY'), 'content filter')):
        got, *_ = ask(FakeServer(change=answering(**message)))
        assert got[0].text == '' and note in got[0].note
    whole = json.dumps(chat())
    for body in (json.dumps(whole), whole.encode()[:-1] + b', "x": "\xe9"}', json.dumps(dict(choices=[dict(text=VALUE)]))):
        got, *_ = ask(Page(lambda h, b, n: send(h, 201, body)))
        assert got[0].text == VALUE, body
    got, *_ = ask(Page(lambda h, b, n: send(h, 200, dict(detail='Not authenticated'))), tries=1)
    assert 'Not authenticated' in got[0].error


def test_half_a_surrogate_and_nul_are_not_stored(ws):
    "They come as escapes, of the answer's JSON or of the reply's: the files of the run are UTF-8, and the CSV can be read."
    odd = VALUE.replace('p. 3', 'p\\u0000. \\ud800 3')
    summary = run(ws, FakeServer(change=answering(content='\ud800\0' + odd)), 'odd', n=2, max_retries=0)
    folder = next(ws.experiments.rglob('odd/results.json')).parent
    r = read_json(folder/'results.json')[0]
    assert summary['by_status']['answered'] == 2 and r['pred_explanation'] == 'p. ? 3' and b'\0' not in (folder/'submission.csv').read_bytes()


THOUGHT = dict(reasoningContent=dict(reasoningText=dict(text='p. 3 says so')))

@pytest.mark.parametrize('latency_mode', [False, True])
@pytest.mark.parametrize('blocks, stop, text, reasoning, note', [
    ([dict(text='I call the tool.'), dict(toolUse=dict(toolUseId='t1', name='reply', input=json.loads(VALUE)))], 'tool_use', VALUE, '', 'call of a tool'),
    ([THOUGHT, dict(toolUse=dict(toolUseId='t1', name='reply', input=json.loads(VALUE)))], 'tool_use', VALUE, 'p. 3 says so', 'call of a tool'),
    ([THOUGHT, dict(text=VALUE)], 'end_turn', VALUE, 'p. 3 says so', ''),
    ([dict(text=f'Sorry, this was blocked ({KEY}).')], 'guardrail_intervened', '', '', 'a guardrail intervened: Sorry, this was blocked ([redacted]).'),
    ([dict(text=VALUE)], 'guardrail_intervened', VALUE, '', 'a guardrail intervened'),
    ([dict(text='{"explanation": "p. 3, th')], 'content_filtered', '', '', 'withheld by a content filter'),
    ([dict(text='I will not answer.')], 'refusal', '', '', 'the model refused: I will not answer.'),
    ([THOUGHT], 'max_tokens', '', 'p. 3 says so', '--max-new-tokens')])
def test_blocks_of_bedrock(blocks, stop, text, reasoning, note, latency_mode):
    "As real boto3 reads them, in one piece and as a stream; a note is the reason of an unparsed answer."
    pytest.importorskip('boto3')
    change = lambda reply, body: reply | dict(output=dict(message=dict(role='assistant', content=blocks)), stopReason=stop)
    got, *_ = ask(FakeServer(change=change), model=entry('bedrock'), latency_mode=latency_mode)
    r = got[0]
    assert r.ok and (json.loads(r.text) == json.loads(VALUE) if text else r.text == '') and r.reasoning.split('\n')[-1] == reasoning and note in r.note and bool(note) == bool(r.note)
    a = parse_reply(r.text, note=r.note)
    assert a.value == '412' if text else a.status == 'unparsed' and note in a.explanation


def test_a_sentence_before_the_call_of_a_tool():
    given = [dict(type='function', function=dict(name='reply', arguments=VALUE))]
    got, *_ = ask(FakeServer(change=answering(content='I call the tool.', tool_calls=given, finish_reason='tool_calls')))
    assert got[0].text == VALUE and 'tool' in got[0].note
    got, *_ = ask(FakeServer(change=answering(content=VALUE, tool_calls=[dict(function=dict(arguments='{"path": "x"}'))], finish_reason='tool_calls')))
    assert got[0].text == VALUE and not got[0].note


def test_an_error_within_an_answer_is_tried_again():
    "A provider behind OpenRouter fails; a gateway writes its code as text."
    for bad in (dict(choices=[dict(error=dict(code=502, message='Provider returned error'), finish_reason='error', message=dict(content=''))]), dict(error=dict(message='Rate limit', code='429'))):
        got, *_ = ask(Page(lambda h, body, n: send(h, 200, bad if n == 1 else chat())), requests(1))
        assert got[0].ok and got[0].attempts == 2


@pytest.mark.parametrize('error, why, calls', [
    (dict(code='invalid_api_key', message='Incorrect API key provided'), 'OPENAI_API_KEY was refused', 1), (dict(type='authentication_error', message='x'), 'was refused', 1), (dict(code=402, message='Insufficient credits'), 'no credit left', 1),
    (dict(code='insufficient_quota', message='x'), 'no credit left', 1), (dict(code=404, message='No endpoints found'), 'does not know some/model', 1), (dict(code='model_not_found', message='x'), 'does not know some/model', 1),
    (dict(code=400, message="maximum context length is 90 tokens. However, you requested 400 tokens (350 of text input, 50 in the output)"), '90 tokens', 3), ('overloaded', 'overloaded', 12)])
def test_an_error_with_the_status_of_a_success(error, why, calls):
    got, info, bodies = ask(Page(lambda h, body, n: send(h, 200, dict(error=error))), requests(3), entry(max_concurrent=1), tries=2)
    assert why in got[0].error and not any(r.ok for r in got) and len(bodies) == calls


def minimax(code, text, **more): return dict(choices=None, base_resp=dict(status_code=code, status_msg=text)) | more


@pytest.mark.parametrize('d, why, calls', [
    (minimax(1004, "login fail: Please carry the API secret key in the 'Authorization' field"), 'HTTP 401: OPENAI_API_KEY was refused: login fail', 1), (minimax(1008, 'insufficient balance'), 'HTTP 402: no credit left: insufficient balance', 1),
    (minimax(2013, "invalid params, unknown model 'some/model'"), 'does not know some/model', 1), (minimax(1002, 'rate limit'), 'HTTP 429: rate limit (', 12), (minimax(1000, 'unknown error'), 'HTTP 500: unknown error (2 calls)', 6), (minimax(1027, 'output new_sensitive'), 'HTTP 400: output', 3),
    (dict(code=1302, msg='rate limit reached'), 'HTTP 429: rate limit reached (', 12), (dict(success=False, errors=[dict(code=3040, message='out of capacity')], result=None), 'HTTP 500: out of capacity (2 calls)', 6),
    (dict(object='error', message='EngineCore died', code=500), 'HTTP 500: EngineCore died (2 calls)', 6), (dict(detail='it failed'), 'HTTP 500: it failed (2 calls)', 6)])
def test_an_answer_without_a_reply_is_the_error_that_it_holds(d, why, calls):
    "As MiniMax, Zhipu, Cloudflare and others answer, with status 200; in a stream, too."
    for raw, kind in ((d, 'application/json'), (f'data: {json.dumps(d)}\n\n', 'text/event-stream')):
        got, info, bodies = ask(Page(lambda h, body, n: send(h, 200, raw, kind)), requests(3), entry(max_concurrent=1), tries=2)
        assert why in got[0].error and '{' not in got[0].error and not any(r.ok for r in got) and len(bodies) == calls
    got, *_ = ask(Page(lambda h, body, n: send(h, 200, chat(base_resp=dict(status_code=0, status_msg='success')))))
    assert got[0].ok


def half(**last): return ': PROCESSING\n\n' + ''.join(f'data: {json.dumps(e)}\n\n' for e in (dict(choices=[dict(delta=dict(content='{"answer_value": "4'))]), last)) + 'data: [DONE]\n\n'


@pytest.mark.parametrize('raw, why', [(half(error=dict(code='server_error', message='Provider left'), choices=[dict(delta=dict(content=''), finish_reason='error')]), 'Provider left'),
    (half(choices=[dict(delta=dict(content=''), error=dict(code=502, message='Provider left'), finish_reason='error')]), 'HTTP 502: Provider left'), (half(choices=[dict(delta=dict(content=''), finish_reason='error')]), 'broke off the reply (error)'),
    (json.dumps(dict(choices=[dict(message=dict(content='{"answer_value": "4'), finish_reason='abort')])), 'broke off the reply (abort)')])
def test_half_a_reply_is_no_answer(raw, why):
    "A provider behind OpenRouter, or the engine, ended in the middle of the text."
    for tries in (1, 2):
        got, *_ = ask(Page(lambda h, body, n: send(h, 200, raw, 'application/json' if raw[0] == '{' else 'text/event-stream') if n < 2 else send(h, 200, chat())), tries=tries)
        assert got[0].ok if tries == 2 else why in got[0].error


def test_a_role_or_a_window_is_mended_whatever_the_status():
    said = dict(message='Provider returned error', code=400, metadata=dict(raw='{"error":{"message":"System role not supported"}}'))
    for status, bad in ((200, dict(error=said)), (200, dict(choices=[dict(error=said)])), (400, dict(error=said))):
        got, _, bodies = ask(Page(lambda h, body, n: send(h, status, bad) if body['messages'][0]['role'] == 'system' else send(h, 200, chat())), requests(3), entry(max_concurrent=1))
        assert all(r.ok for r in got) and len(bodies) == 4


def test_words_and_numbers_of_other_servers():
    for usage in (dict(prompt_tokens=9., completion_tokens=8.), dict(prompt_tokens='9', completion_tokens='8'), dict(input_tokens=9, output_tokens=8)):
        got, *_ = ask(Page(lambda h, body, n: send(h, 200, chat(usage=usage))))
        assert (got[0].prompt_tokens, got[0].completion_tokens) == (9, 8)
    for finish in ('max_output_tokens', 'LENGTH', 'token_limit'):
        got, _, bodies = ask(FakeServer(change=answering(content='', reasoning='hm', finish_reason=finish)))
        assert '--max-new-tokens' in got[0].note and len(bodies) == 3
    for finish in ('content_filtered', 'guardrail', 'moderation'): assert 'content filter' in ask(FakeServer(change=answering(finish_reason=finish)))[0][0].note
    got, _, bodies = ask(Page(lambda h, body, n: send(h, 200, dict(choices=[dict(message=dict(content=''), finish_reason='insufficient_system_resource')]) if n < 3 else chat())))
    assert got[0].text == VALUE and got[0].attempts == 3
    got, *_ = ask(FakeServer(change=answering(content=[dict(type='tool_use', name='reply', input=json.loads(VALUE))], finish_reason='tool_use')))
    assert json.loads(got[0].text) == json.loads(VALUE)
    got, _, bodies = ask(Page(lambda h, body, n: send(h, 422, dict(error='`temperature` must be strictly positive')) if 'temperature' in body else send(h, 200, chat())), requests(2), entry(max_concurrent=1))
    assert all(r.ok for r in got) and len(bodies) == 3


@pytest.mark.parametrize('env, why', [(dict(OPENAI_BASE_URL='http://[::1/v1'), 'OPENAI_BASE_URL is not a web address'), (dict(OPENAI_BASE_URL='http://127.0.0.1:99999/v1'), 'OPENAI_BASE_URL is not a web address'),
    (dict(OPENAI_BASE_URL='http://198.51.100.1/v1', HTTP_PROXY=f'socks4://u:{KEY}@127.0.0.1:9', http_proxy=None), 'HTTP_PROXY'), (dict(OPENAI_BASE_URL='https://198.51.100.1/v1', SSL_CERT_FILE='/nonexistent.pem'), 'SSL_CERT_FILE')])
def test_an_environment_that_allows_no_connection(env, why):
    with environment(**KEYS, **env), pytest.raises(UserError, match=why) as e: open_model(entry())
    assert KEY not in str(e.value) and '\n' not in str(e.value)


def test_a_page_is_told_without_its_tags():
    page = '<html><head><title>Sign in</title><style>p {}</style></head><body>Hotel &amp; Bar</body></html>'
    for status in (200, 403):
        got, *_ = ask(Page(lambda h, body, n: send(h, status, page, 'text/html')), tries=1)
        assert 'Sign in Hotel & Bar' in got[0].error and '<' not in got[0].error


def events(text=VALUE): return ''.join(f'data: {json.dumps(dict(choices=[dict(delta=dict(content=text[i:i + 9]))]))}\n\n' for i in range(0, len(text), 9)) + 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize('kind', ['text/event-stream', 'application/json', 'text/plain; charset=utf-8'])
def test_a_stream_that_nobody_asked_for(kind):
    got, _, bodies = ask(Page(lambda h, body, n: send(h, 200, events(), kind)))
    assert got[0].text == VALUE and got[0].attempts == 1 and bodies[0]['stream'] is False


@pytest.mark.parametrize('raw', [': PROCESSING\n\n' + events(), 'event: message\n' + events(), 'id: 1\nretry: 9\n' + events(), events().replace('\n', '\r\n'), 
    'data: {"choices":\ndata: [{"message": {"content": ' + json.dumps(VALUE) + '}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n',
    events().replace('data: [DONE]', '').replace('data: ', '').replace('\n\n', '\n'), '\ufeff' + events(), events().replace('"delta": {"content": ', '"text": ').replace('}}]}', '}]}'),
    events().replace('{"delta":{},', '{"delta":{},"message":{"content":' + json.dumps(VALUE) + '},'), 'data: {"choices":[{"index":1,"delta":{"content":"another"}}]}\n\n' + events()])
@pytest.mark.parametrize('kind', ['text/event-stream', 'application/json'])
def test_forms_of_a_stream(raw, kind):
    if not raw.startswith('{') or kind == 'application/json':
        got, *_ = ask(Page(lambda h, body, n: send(h, 200, raw, kind)))
        assert got[0].text == VALUE and got[0].attempts == 1


def test_a_separator_of_lines_in_a_text_ends_no_line():
    text = VALUE.replace('p. 3', 'p\u2028\x85\x0c3')
    raw = 'data: ' + json.dumps(dict(choices=[dict(delta=dict(content=text), finish_reason='stop')]), ensure_ascii=False) + '\n\n'
    for kind in ('text/event-stream', 'text/plain'):
        got, *_ = ask(Page(lambda h, body, n: send(h, 200, raw, kind)))
        assert got[0].text == text
    got, *_ = ask(Page(lambda h, body, n: send(h, 200, 'event: error\ndata: {"message": "overloaded"}\n\n', 'text/event-stream')), tries=1)
    assert 'overloaded' in got[0].error
    got, *_ = ask(Page(lambda h, body, n: send(h, 200, 'data: [DONE]\n\n' if n == 1 else events(), 'text/event-stream')))
    assert got[0].text == VALUE and got[0].attempts == 2, 'a stream without a reply'


@pytest.mark.parametrize('status, to', [(307, ''), (308, 'http://{host}:99999/v1/chat/completions'), (307, '/v1/chat/completions')])
def test_a_redirect_to_nowhere_ends_the_calls(status, to):
    got, _, bodies = ask(Page(lambda h, body, n: send(h, status, '', location=to.format(host='127.0.0.1'))), requests(3), entry(max_concurrent=1))
    assert 'no other address' in got[0].error and len(bodies) == 1


@pytest.mark.parametrize('status', [301, 302, 307, 308])
def test_a_redirect_is_followed_on_the_same_server(status):
    def answer(h, body, n): return send(h, 200, chat()) if h.path.startswith('/api/') else send(h, status, '', location='/api/v2/chat/completions')
    got, _, bodies = ask(Page(answer), requests(4), entry(max_concurrent=1))
    assert all(r.ok for r in got) and len(bodies) == 5
    got, *_ = ask(Page(lambda h, body, n: send(h, status, '', location='http://elsewhere.example/v1/chat/completions')), requests(3))
    assert all('elsewhere.example' in r.error for r in got) and sum(r.attempts for r in got) <= 3
    got, _, bodies = ask(Page(lambda h, body, n: send(h, status, '', location=f'/{n}/chat/completions')), tries=2)
    assert not got[0].ok and len(bodies) < 40


@pytest.mark.parametrize('status, text', [(404, '404 page not found'), (405, dict(detail='Method Not Allowed')), (404, dict(error=dict(message='File Not Found'))), (200, dict(error='Unexpected endpoint or method. (POST /chat/completions)')), (501, dict(error='Unexpected endpoint or method.'))])
def test_an_address_without_v1_is_named(status, text):
    with Page(lambda h, body, n: send(h, status, text)) as s, environment(**KEYS, OPENAI_BASE_URL=f'http://{s.host}'):
        with open_model(entry()) as m: [r] = m.complete(requests(1))
    assert f'http://{s.host}/v1' in r.error and 'does not know' not in r.error
    with Page(lambda h, body, n: send(h, 404, dict(error=dict(message='model x not found')))) as s, environment(**KEYS, **s.env()):
        with open_model(entry()) as m: [r] = m.complete(requests(1))
    assert 'does not know some/model' in r.error
    said = dict(error=dict(message='/chat/completions: Invalid model name passed in model=some/model. Call `/v1/models` to view', type='invalid_request_error', code='400'))
    for body, why in ((said, 'does not know some/model'), (dict(error=dict(message='No connected db.', type='no_db_connection', code='400')), 'OPENAI_API_KEY was refused')): # LiteLLM
        got, _, bodies = ask(Page(lambda h, b, n: send(h, 400, body)), requests(20), entry(max_concurrent=1))
        assert why in got[0].error and len(bodies) == 1
    with Page(lambda h, body, n: send(h, 200, '<html>a chat</html>', 'text/html')) as s, environment(**KEYS, OPENAI_BASE_URL=f'http://{s.host}'):
        with open_model(entry(), tries=1) as m: [r] = m.complete(requests(1))
    assert 'not JSON' in r.error and '/v1' in r.error


class Site(Page):
    "A server that has chat completions and a list of models at one address only."
    def __init__(self, base, query=''): super().__init__(); self.base, self.query = base, query
    def __enter__(self):
        def get(h): self.answer(h, None, 0)
        super().__enter__().server.RequestHandlerClass.do_GET = get
        return self
    def answer(self, h, body, n):
        known = {f'{self.base}/models{self.query}': dict(data=[dict(id='some/model')]), f'{self.base}/chat/completions{self.query}': chat()}
        send(h, 200 if h.path in known else 404, known.get(h.path, '404 page not found'))


@pytest.mark.parametrize('base, given', [('/v1', '/api/chat'), ('/v1', '/v1/messages'), ('/v1', '/v1/models'), ('/v1', '/v1/v1'), ('/v1beta/openai', '/v1beta'), ('/v1beta/openai', '/v1beta/models/m:generateContent'),
                                         ('/openai/v1', ''), ('/api/v1', '/v1'), ('/api', '/v1')])
def test_the_right_address_is_looked_for(base, given):
    with Site(base) as s, environment(**KEYS, OPENAI_BASE_URL=f'http://{s.host}{given}'):
        with open_model(entry()) as m: [r] = m.complete(requests(1))
    assert f'they are below http://{s.host}{base} (OPENAI_BASE_URL)' in r.error and 'does not know' not in r.error


@pytest.mark.parametrize('given', ['/openai/v1', '/openai/v1/', '/openai/v1/chat/completions'])
def test_the_query_of_an_address_stays_at_its_end(given):
    "Azure names a version there, gateways a key."
    with Site('/openai/v1', '?api-version=2024-10-21') as s, environment(**KEYS, OPENAI_BASE_URL=f'http://{s.host}{given}?api-version=2024-10-21'):
        with open_model(entry()) as m: assert m.complete(requests(1))[0].ok and m._names == ('some/model',) and m.info['server'] == f'http://{s.host}/openai/v1'


def test_azure_has_the_key_in_a_header_of_its_own():
    "At the address of a deployment; there a token of Entra, and everywhere else a key, is that of a bearer."
    sent = []
    def answer(h, body, n): sent.append((h.headers.get('api-key'), h.headers.get('authorization'))); return send(h, 200, chat())
    for path, key, seen in (('/openai/deployments/m/chat/completions?api-version=2024-10-21', KEY, (KEY, None)), ('/openai/deployments/m?api-version=2024-10-21', 'eyJhbGciOi.x.y', (None, 'Bearer eyJhbGciOi.x.y')), ('/openai/v1', KEY, (None, f'Bearer {KEY}'))):
        with Page(answer) as s, environment(**KEYS | dict(OPENAI_API_KEY=key, OPENAI_BASE_URL=f'http://{s.host}{path}')):
            with open_model(entry()) as m: assert m.complete(requests(1))[0].ok and sent[-1] == seen


# --- errors that every question would meet ---------------------------------------------------------------------------------

@pytest.mark.parametrize('status, error, why', [
    (400, [dict(error=dict(code=400, message='API key not valid. Please pass a valid API key.', status='INVALID_ARGUMENT'))], 'HTTP 400: OPENAI_API_KEY was refused: API key not valid.'), # Gemini
    (403, [dict(error=dict(code=403, message="Method doesn't allow unregistered callers.", status='PERMISSION_DENIED'))], 'OPENAI_API_KEY was refused'), (403, dict(detail='Not authenticated'), 'OPENAI_API_KEY was refused'),
    (403, dict(result=None, success=False, errors=[dict(code=10000, message='Authentication error')]), 'OPENAI_API_KEY was refused: Authentication error'), # Cloudflare
    (400, dict(code='Client specified an invalid argument', error='Incorrect API key provided: sk-CA***nt.'), 'OPENAI_API_KEY was refused'), # xAI
    (400, dict(error=dict(message='Your credit balance is too low to access the API.')), 'no credit left'), # Anthropic
    (400, dict(error=dict(message="The requested model 'some/model' is not supported by any provider.", code='model_not_supported')), 'does not know some/model'), # Hugging Face
    (400, dict(error=dict(message='The model `some/model` has been decommissioned.', code='model_decommissioned')), 'does not know some/model'), (400, dict(error=dict(message='Model Not Exist')), 'does not know some/model'), # Groq, DeepSeek
    (403, dict(error=dict(message='Project `p` does not have access to model `some/model`', code='model_not_found')), 'does not know some/model'), (400, dict(detail="Server is pinned to 'a'; requested 'some/model'."), 'does not know some/model'),
    (400, dict(error='No models loaded. Please load a model.'), 'does not know some/model'), # LM Studio
    (500, dict(error='model requires more system memory (9.4 GiB) than is available (5.6 GiB)'), 'does not fit into the memory of the server: model requires'), # Ollama
    (400, dict(error=dict(code='Arrearage', message='Access denied, please make sure your account is in good standing.')), 'no credit left'), # DashScope
    (404, dict(error=dict(code='DeploymentNotFound', message='The API deployment for this resource does not exist.')), 'does not know some/model')]) # Azure
def test_an_error_of_every_question_ends_the_calls_whatever_its_status(status, error, why):
    got, _, bodies = ask(Page(lambda h, body, n: send(h, status, error)), requests(9), entry(max_concurrent=1))
    assert why in got[0].error and len(bodies) == 1


def test_an_error_after_an_answer_may_be_the_questions_own():
    got, *_ = ask(Page(lambda h, body, n: send(h, 403, dict(error=dict(message='The text holds an API key and was flagged.'))) if n == 2 else send(h, 200, chat())), requests(9), entry(max_concurrent=1))
    assert sum(r.ok for r in got) == 8


def test_an_unknown_model_behind_a_plain_500_is_told_with_the_list():
    "As `transformers serve` answers."
    s = Site('/v1')
    s.answer = lambda h, body, n: send(h, 500, 'Internal Server Error', 'text/plain') if body else send(h, 200, dict(data=[dict(id='another')]))
    got, *_ = ask(s, tries=2)
    assert got[0].error == 'HTTP 500: Internal Server Error (it has another) (2 calls)'


@pytest.mark.parametrize('masked', ['sk-CANARY-98***********print', '****rint', 'sk-...rint', 'sk-CANA…rint'])
def test_what_a_server_left_of_a_key_is_removed(masked):
    got, *_ = ask(Page(lambda h, body, n: send(h, 401, dict(error=dict(message=f'Incorrect API key provided: {masked}. Wait... **no** more.')))))
    assert 'Incorrect API key provided: [redacted]. Wait... **no** more.' in got[0].error


# --- requests that must be made in another way -----------------------------------------------------------------------------

@pytest.mark.parametrize('message', ['This model only support stream mode, please enable the stream parameter to access the model.', 'parameter.enable_thinking must be set to false for non-streaming calls',
                                     'Streaming is required for operations that may take longer than 10 minutes.', 'stream=false is not supported'])
def test_a_server_that_only_streams_is_asked_for_a_stream(message):
    def answer(h, body, n):
        if not body['stream']: return send(h, 400, dict(error=dict(message=message)))
        events = [dict(choices=[dict(delta=dict(content=VALUE))]), dict(choices=[dict(delta={}, finish_reason='stop')]), dict(choices=[], usage=dict(prompt_tokens=9, completion_tokens=9))]
        return send(h, 200, ''.join(f'data: {json.dumps(e)}\n\n' for e in events if e['choices'] or body.get('stream_options')), 'text/event-stream')
    got, _, bodies = ask(Page(answer), requests(4), entry(max_concurrent=1))
    assert [(r.text, r.prompt_tokens) for r in got] == [(VALUE, 9)] * 4 and len(bodies) == 5


@pytest.mark.parametrize('message', ["Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.", 'Failed to validate JSON.'])
def test_a_reply_that_breaks_the_schema_is_asked_for_without(message):
    "Groq refuses the reply of its own model."
    got, info, _ = ask(Page(lambda h, body, n: send(h, 400, dict(error=dict(message=message, code='json_validate_failed'))) if 'response_format' in body else send(h, 200, chat())), requests(3, schema=dict(type='object')))
    assert all(r.ok for r in got) and info['not_sent'] == ['response_format']


@pytest.mark.parametrize('message', ['The model is overloaded. Please try again later.', 'server busy, please try again. maximum pending requests exceeded', 'slot unavailable'])
def test_an_overloaded_server_is_asked_less(message):
    "Gemini, Ollama and llama.cpp say with 503 what others say with 429."
    got, info, bodies = ask(Page(lambda h, body, n: send(h, 503, dict(error=dict(message=message)), retry_after='0') if n < 8 else send(h, 200, chat())), requests(1), tries=4)
    assert got[0].ok and len(bodies) == 8


@pytest.mark.parametrize('message', ['The model has crashed without additional information. (Exit code: 6)', 'Model unloaded.'])
def test_a_model_that_ended_is_asked_again(message):
    "LM Studio loads it again with the next call."
    got, *_ = ask(Page(lambda h, body, n: send(h, 400, dict(error=message)) if n == 1 else send(h, 200, chat())))
    assert got[0].ok and got[0].attempts == 2


def test_a_reply_without_room_shows_the_window(ws):
    "llama.cpp behind a proxy: no list tells the window, and a reply ends where it does. Tokens are those of all calls, and the record has what the calls showed."
    def answer(h, body, n):
        if 'seed' in body: return send(h, 422, dict(detail=[dict(loc=['body', 'seed'], msg='Extra inputs are not permitted')]))
        size = len(str(body['messages']))
        if size > 7000 and n > 4: return send(h, 400, dict(error=dict(message=f'request ({size // 3} tokens) exceeds the available context size')))
        if size > 6000: return send(h, 200, dict(choices=[dict(message=dict(content=VALUE[:8]), finish_reason='length')], usage=dict(prompt_tokens=2041, completion_tokens=7)))
        return send(h, 200, chat(usage=dict(prompt_tokens=size // 3, completion_tokens=40)))
    summary = run(ws, Page(answer), 'room', 'openai:some-model', max_retries=0, max_new_tokens=60)
    assert summary['by_status'] == dict(answered=6, abstained=0, unparsed=0, failed=0) and summary['tokens']['prompt'] > 6 * 1000
    assert {k: summary['effective'][k] for k in ('context', 'not_sent')} == dict(context=2048, not_sent=['seed']) and summary['effective']['concurrency_used']


# --- reasoning -----------------------------------------------------------------------------------------------------------

def thinker(need):
    "A server whose model needs so many tokens for its reasoning."
    def answer(h, body, n):
        most = body.get('max_tokens') or body.get('max_completion_tokens')
        if most > need: return send(h, 200, chat())
        send(h, 200, dict(choices=[dict(message=dict(content=''), finish_reason='length')], usage=dict(prompt_tokens=max(100, len(str(body)) // 4), completion_tokens=most, completion_tokens_details=dict(reasoning_tokens=most))))
    return Page(answer)


def test_a_budget_for_reasoning_is_learned(caplog):
    got, info, bodies = ask(thinker(3000), requests(4), entry(max_concurrent=1))
    assert all(r.text == VALUE for r in got) and [b['max_tokens'] for b in bodies] == [50, 4146, 4146, 4146, 4146] and info['thinking_tokens'] == 4096
    assert (got[0].prompt_tokens, got[0].completion_tokens) == (109, 59) and 'all reasoning' in caplog.text
    got, *_ = ask(thinker(6000), requests(1))
    assert got[0].text == VALUE and got[0].attempts == 3


def test_a_reply_that_stays_reasoning_says_so(ws, caplog):
    s = thinker(10**9)
    summary = run(ws, s, 'thought', n=2, max_retries=0)
    r = read_json(next(ws.experiments.rglob('thought/results.json')))[0]
    assert r['status'] == 'unparsed' and '--max-new-tokens' in r['pred_explanation'] and r['attempts'][0]['note'] and '--max-new-tokens' in caplog.text
    asked = [b for b in s.bodies if 'response_format' in b] # the others measure the server
    assert len(asked) <= 6 and summary['by_status']['unparsed'] == 2


@pytest.mark.parametrize('id', ['o3-mini', 'o1', 'deepseek/deepseek-r1', 'deepseek-reasoner', 'QwQ-32B', 'magistral-small', 'gpt-oss:20b', 'kimi-k2-thinking', 'Qwen/Qwen3-1.7B-Thinking'])
def test_models_that_are_known_to_think(id): assert load_registry().find(f'openai:{id}').longest() > 2000


# --- prompts that were cut ------------------------------------------------------------------------------------------------

def test_a_cut_prompt_is_told_and_audited(ws, caplog):
    from wattnb.compare.auditing import audit
    cut = lambda reply, body: reply | dict(usage=reply['usage'] | dict(prompt_tokens=min(reply['usage']['prompt_tokens'], 1024)))
    run(ws, FakeServer('extractive', change=cut), 'cut', retrieval='max_tokens=4000 top_k=40', max_retries=0)
    assert 'cut by the server, to 1,024 tokens' in caplog.text
    flags = {r['run'].split('/')[-1]: {f['rule'] for f in r['flags']} for r in audit(ws).runs}
    assert 'TRUNCATED_PROMPT' in flags['cut'] and all('TRUNCATED_PROMPT' not in f for n, f in flags.items() if n != 'cut')
    if 'thought' in flags: assert 'EMPTY_REPLIES' in flags['thought']


# --- replies --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('turn', ['\n\nQuestion: How many servers?\n', '\nUSER: and now?\nASSISTANT: ', '\n\nHuman: more\n\n', '\n### Question 2:\n', '\n<|im_start|>user\nwhat?', '\n[INST] next [/INST]', '</s>[INST] next [/INST]', '\nQ: more\nA: ', '\n\n## Question\nmore\n', ' Question: more\n', '<end_of_turn>\n<start_of_turn>user\nmore', '<|endoftext|>Question: more\n',
    '\nSystem: more\n', '\nAssistant: sure\n', '\n\nQ2. How many?\n', '\n\nQuestion 2\nHow?\n', '\n\nHere is another question: how?\n', '\nUSER\nHow?\n', '\n\nFrage: wie?\n', '\n\n问题：多少?\n', '\n\nFollow-up question: x\n', '\n<user>How?</user>\n', '<｜end▁of▁sentence｜><｜User｜>x', '<|end_of_text|><|start_of_role|>user', '\n---\nQuestion - How?\n'])
def test_a_question_of_the_models_own_is_cut(turn):
    assert find_fields('{"answer_value": "1287", "ref_id": ["a"]}' + turn + '{"answer_value": "96"}')[0]['answer_value'] == '1287'
    assert find_fields('I think.' + turn + '{"answer_value": "96"}')[0]['answer_value'] == '96', 'no object came before'


@pytest.mark.parametrize('text', [json.dumps('{"answer_value": "4", "answer": "say \\"four\\""}'), json.dumps(json.dumps('{"answer_value": "4"}')), json.dumps(dict(reply='{"answer_value": "4"}')), json.dumps(dict(answer='{"answer_value": "4"}')),
                                  json.dumps([json.dumps(dict(answer_value='4'))]), '```json\n' + json.dumps(dict(output='{"answer_value": 4}')) + '\n```',
                                  'Here it is: ' + json.dumps('{"answer_value": "4"}'), '```json\n' + json.dumps('{\n"answer_value": "4"}') + '\n```', r'{\"answer_value\": \"4\"}', json.dumps(dict(a=json.dumps(dict(b='{"answer_value": 4}')))), json.dumps(dict(reply='```json\n{"answer_value": 4}\n```'))])
def test_json_in_json(text): assert str(find_fields(text)[0]['answer_value']) == '4'


@pytest.mark.parametrize('written, unit, value', [
    ('1.287 × 10^3', 'kWh', '1287'), ('1.287 x 10^{3}', 'kWh', '1287'), ('1.287·10³', 'kWh', '1287'), ('3.2*10**-2', 'kWh', '0.032'), (r'1.287 \times 10^3', 'kWh', '1287'), ('10^6', 'FLOPs', '1000000'),
    ('1\u202f287', 'kWh', '1287'), ('1\u00a0287\u00a0kWh', 'kWh', '1287'), ('1 287', 'kWh', '1287'), ('12 345 678', '', '12345678'), ('1.3 million', 'USD', '1300000'), ('$1.3 million', 'USD', '1300000'), ('1.3M', 'parameters', '1300000'),
    ('70 billion', 'parameters', '70000000000'), ('5k', 'GPUs', '5000'), ('1.3 million', 'million USD', '1.3'), ('1.3 million USD', 'million USD', '1.3'), (['1287'], 'kWh', '1287'), ('["1287"]', 'kWh', '1287'), ([1287], 'kWh', '1287'),
    ('**1287**', 'kWh', '1287'), ('`1287`', 'kWh', '1287'), ('$1287$', 'kWh', '1287'), (r'\boxed{1287}', 'kWh', '1287'), ('552 tCO₂e', 'tCO2e', '552'), ('552 tCO2e', 'tCO₂e', '552'), ('–5', '%', '-5'), ('1.2 to 1.3 million', 'USD', '[1200000,1300000]'),
    ('1.5 m', 'km', '1.5 m'), ('4 GWh', 'kWh', '4 GWh'), ("1'287", 'kWh', '1287'), ('*1287*', 'kWh', '1287'), ('__1287__', 'kWh', '1287'), ("['1287']", 'kWh', '1287'), ('<b>1287</b>', 'kWh', '1287'), (r'\text{1287}', 'kWh', '1287'), ('1.3 bn', 'USD', '1300000000'),
    ('USD 1.3 million', 'USD', '1300000'), ('552 t CO₂e', 'tCO2e', '552'), ('552 tCO_2e', 'tCO2e', '552'), ('5 per cent', 'percent', '5'), (dict(value=1287, unit='kWh'), 'kWh', '1287'), (dict(value=4, unit='GWh'), 'kWh', '4 GWh'), ('2 M', 'kWh', '2 M'),
    ('1.3 Million', 'USD', '1300000'), ('1.3 mn', 'USD', '1300000'), ('(1287)', 'kWh', '1287'), ('[1287]', 'kWh', '1287'), ('\u201c1287\u201d', 'kWh', '1287'), ('**1287** kWh', 'kWh', '1287'), ('_1287_', 'kWh', '1287'), ('\u20145', '%', '-5'), ('- 5', '%', '-5'),
    ('$$1287$$', 'kWh', '1287'), (r'\[1287\]', 'kWh', '1287'), ('1{,}287', 'kWh', '1287'), (r'1\,287', 'kWh', '1287'), (r'\approx 1287', 'kWh', '1287'), ('<code>1287</code>', 'kWh', '1287'), ('1287.', 'kWh', '1287'), ('= 1287', 'kWh', '1287'), ('+1287', 'kWh', '1287'),
    ('1287 (kWh)', 'kWh', '1287'), ('1287 (MWh)', 'kWh', '1287 (MWh)'), ([[1287]], 'kWh', '1287'), ('{"value": 1287}', 'kWh', '1287'), (dict(amount=4, unit='GWh'), 'kWh', '4 GWh'), ('3.2 × 10<sup>3</sup>', 'kWh', '3200'), ('5% - 10%', '%', '[5,10]'), ('5~10', '%', '[5,10]'),
    ('5 \u2212 10', '%', '[5,10]'), ('\ufeff1287\u200b', 'kWh', '1287'), ('1287[1]', 'kWh', '1287'), ('1287*', 'kWh', '1287'), ('4 [GWh]', 'kWh', '4 [GWh]'),
    ('[3,5]', 'kWh', '[3,5]'), ('[100,500]', 'kWh', '[100,500]'), ('[1200,1300]', '', '[1200,1300]'), ('[-1.5,2]', '%', '[-1.5,2]'), ('["3","5"]', '', '[3,5]'), ('(3, 5)', '%', '[3,5]'), (dict(low=3, high=5), '%', '[3,5]'), ('3...5', '%', '[3,5]'),
    ('1.234,5', 'kWh', '1234.5'), ('1.234.567', 'kWh', '1234567'), ('1 234,5', 'kWh', '1234.5'), ('0,5', 'kWh', '0.5'), ('1,5 million', 'USD', '1500000'), ('1.234', 'kWh', '1.234'), ('Twelve', 'racks', '12'), ('twenty-one racks', 'racks', '21'),
    ('three million', 'USD', '3000000'), ('one or two', 'racks', 'one or two'), ('12 kilowatt-hours', 'kWh', '12'), ('12 hrs', 'hours', '12'), ('12 €', 'EUR', '12'), ('12\\%', '%', '12'), (r'\$1.2 million', 'USD', '1200000'), (r'12\,\text{kWh}', 'kWh', '12'),
    ('12&nbsp;kWh', 'kWh', '12'), ('<value>12</value>', 'kWh', '12'), ('12 ± 3 kWh', 'kWh', '12'), ('12 kWh (43.2 MJ)', 'kWh', '12'), ('12 (MWh)', 'kWh', '12 (MWh)'), ('12 kWh [ref_id=a2031]', 'kWh', '12'), ('12 [a2031]', 'kWh', '12'),
    ('(12 kWh)', 'kWh', '12'), ('exactly 12', 'kWh', '12'), ('∼12', 'kWh', '12'), ('The answer is 12 kWh', 'kWh', '12'), ('5 kWh (2019), 6 kWh (2020)', 'kWh', '5 kWh (2019), 6 kWh (2020)')])
def test_spellings_of_a_number(written, unit, value): assert clean_value(written, Question('q', 'How much?', answer_unit=unit)) == value


# --- bounds ---------------------------------------------------------------------------------------------------------------

def test_what_a_server_sends_is_bounded():
    got, info, _ = ask(FakeServer('x' * 900_000 + VALUE, change=lambda reply, body: reply | dict(model='m' * 9000, choices=[reply['choices'][0] | dict(finish_reason='f' * 9000, message=reply['choices'][0]['message'] | dict(reasoning='r' * 900_000))])), model=entry(options=dict(logprobs=True)))
    r = got[0]
    assert r.text.endswith(VALUE) and max(len(r.text), len(r.reasoning)) <= 200_000 and len(r.finish_reason) <= 80 and len(info['served_model']) <= 120 and r.logprobs is None


def test_long_errors_are_read_in_time():
    "Processor time, which other programs do not change; a pattern that backtracks would need minutes of it."
    t = time.process_time()
    got, *_ = ask(Page(lambda h, body, n: send(h, 400, dict(error=dict(message='context length max_tokens system role ' * 50_000)))), tries=1)
    assert not got[0].ok and len(got[0].error) <= 320 and time.process_time() - t < 5


def test_a_reply_cut_at_its_length_still_holds_the_value():
    "The schema bounds the texts before the value, where the server takes such a schema."
    from wattnb.llm.prompts import REPLY_SCHEMA
    got, info, bodies = ask(FakeServer(), requests(1, schema=REPLY_SCHEMA, max_tokens=512))
    most = [p.get('maxLength', 0) for p in bodies[0]['response_format']['json_schema']['schema']['properties'].values()]
    assert 0 < sum(most) <= 4 * 512
    def answer(h, body, n): return send(h, 400, dict(error=dict(message='maxLength is not supported in json_schema'))) if 'maxLength' in json.dumps(body) else send(h, 200, chat())
    got, info, bodies = ask(Page(answer), requests(4, schema=REPLY_SCHEMA), entry(max_concurrent=1))
    assert all(r.ok for r in got) and len(bodies) == 5 and info['not_sent'] == ['maxLength'] and 'response_format' in bodies[-1]
