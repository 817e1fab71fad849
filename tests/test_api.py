"API providers against a real local server with every fault: no question lost, none twice, no key anywhere."
import json, logging, threading, time

import pytest

from wattnb.llm.calls import Gate
from wattnb.llm.registry import ModelEntry
from wattnb.llm.protocol import Request, open_model
from wattnb.testing.server import FAULTS, FakeServer, environment
from wattnb.core.workspace import UserError
from conftest import CANARY, KEYS, Page, send


def entry(provider, **kw): return ModelEntry('m', provider, 'some/model', max_concurrent=kw.pop('max_concurrent', 8), precision='auto', **kw)


def where(s): return s.env()


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
    with FakeServer(faults=[fault], retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider)) as m: r = m.complete(requests(1))[0]
    assert r.ok and r.attempts == (1 if fault == 'no-usage' else 2), (r.error, r.attempts)
    if fault == 'no-usage': assert r.prompt_tokens is None and r.completion_tokens is None


def test_hang_ends_at_the_timeout(provider):
    with FakeServer(faults=['hang'] * 9, hang=600) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), timeout=.4, deadline=1.5) as m: r = m.complete(requests(1))[0]
    assert not r.ok and 'no answer within' in r.error and r.attempts <= 4


def test_rate_limit_halves_the_calls_in_flight():
    with FakeServer(faults=['429'] * 4, latency=.02, retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', max_concurrent=6)) as m: got = m.complete(requests(30))
    assert all(r.ok for r in got) and s.most <= 6


def test_server_without_schema_gets_a_request_without_it(provider):
    "Also where several calls are refused at once; no question fails for it."
    with FakeServer(knows_schema=False, latency=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider, max_concurrent=5)) as m: got = m.complete(requests(12))
    assert all(r.ok for r in got) and not {'response_format', 'outputConfig'} & set(s.bodies[-1])
    assert s.calls <= 17 and 'response_format' in m.info['not_sent']


def test_unknown_parameters_are_left_out():
    "A server that knows neither seed nor temperature nor `max_tokens` still answers; what was left out is recorded."
    with FakeServer() as s, environment(**KEYS, **where(s)):
        plain = s._answer
        def picky(h, body, fault):
            for k, hint in (('seed', ''), ('temperature', ''), ('max_tokens', ': use max_completion_tokens')):
                if k in body: return s._send(h, 400, dict(error=dict(message=f'{k} is not supported{hint}', param=k)))
            plain(h, body, fault)
        s._answer = picky
        with open_model(entry('openai')) as m: got = m.complete(requests(10))
    assert all(r.ok for r in got), got[0].error
    assert m.info['not_sent'] == ['seed', 'temperature'] and s.bodies[-1]['max_completion_tokens'] == 50


def test_too_long_a_prompt_costs_no_parameter():
    with FakeServer(errors={400: dict(error=dict(message='maximum context length is 8192 tokens, reduce max_tokens or the json_schema'))}) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai')) as m: got = m.complete(requests(2))
    assert all('maximum context' in r.error for r in got) and s.calls == 2 and m.info['not_sent'] == []


def test_sampling_settings_are_always_sent(provider):
    with FakeServer() as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), seed=7, temperature=.5) as m: m.complete(requests(1))
    b = s.bodies[0]
    if provider == 'bedrock': assert b['inferenceConfig'] == dict(maxTokens=50, temperature=.5) and m.info['not_sent'] == ['seed']
    else: assert (b['seed'], b['temperature'], b['max_tokens'], b['response_format']['type']) == (7, .5, 50, 'json_schema')


def test_words_in_an_error_do_not_decide():
    "The words 'server' and '500' in the text of a 400 make no retry."
    with FakeServer(errors={400: dict(error=dict(message='the server says: 1500 tokens'))}) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai')) as m: r = m.complete(requests(1))[0]
    assert not r.ok and r.attempts == s.calls == 1


def test_a_long_queue_is_not_the_deadlines():
    "40 calls of 50 ms one at a time take longer than the deadline of each."
    with FakeServer(latency=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', max_concurrent=1), deadline=1.) as m: got = m.complete(requests(40))
    assert all(r.ok and r.seconds < .5 for r in got) and s.most == 1


def test_a_refused_key_ends_the_calls(provider):
    error = dict(error=dict(message='bad key'), message='bad key', __type='UnrecognizedClientException')
    with FakeServer(errors={401: error}) as s, environment(**KEYS, **where(s)):
        s._answer = lambda h, body, fault: s._send(h, 401, error, [('x-amzn-errortype', 'UnrecognizedClientException')])
        with open_model(entry(provider, max_concurrent=4)) as m: got = m.complete(requests(50))
    assert not any(r.ok for r in got) and s.calls <= 4 and all('bad key' in r.error for r in got)


def test_a_wait_beyond_the_deadline_is_not_waited():
    with FakeServer(faults=['429'] * 9, retry_after=3600) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai')) as m: r = m.complete(requests(1))[0]
    assert '3600 s' in r.error and s.calls == 1


def test_no_call_before_the_named_time():
    times = []
    with FakeServer(lambda p: times.append(time.monotonic()) or 'x', faults=['429'], retry_after=.5) as s, environment(**KEYS, **where(s)):
        t = time.monotonic()
        with open_model(entry('openai', max_concurrent=1)) as m: got = m.complete(requests(5))
    assert all(r.ok for r in got) and min(times) - t > .45


def test_who_stops_reading_cancels_the_rest(provider):
    with FakeServer(latency=.3) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider, max_concurrent=2)) as m:
            replies = m.stream(requests(60))
            next(replies), replies.close()
        for t in threading.enumerate():
            if t.name == 'wattnb-api': t.join(60); assert not t.is_alive(), 'the thread that makes the calls ends'
        assert s.calls <= 6


def test_cached_tokens_are_part_of_the_prompt(provider):
    with FakeServer() as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider)) as m: r = m.complete([Request('q', 'S' * 200, 'U' * 200)])[0]
    assert r.prompt_tokens == (50 if provider == 'bedrock' else 100) and r.cached_tokens == r.prompt_tokens // 2


def test_thoughts_are_split_off(provider):
    with FakeServer('<think>hm {"a": 1}</think>4') as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider, thinking='always', thinking_tokens=900)) as m: r = m.complete(requests(1))[0]
    assert (r.text, r.reasoning) == ('4', 'hm {"a": 1}')
    assert 950 in (s.bodies[0].get('max_tokens'), s.bodies[0].get('inferenceConfig', {}).get('maxTokens'))


def test_a_file_holds_a_server_and_no_key():
    with FakeServer() as s, environment(OPENAI_API_KEY=None, OPENAI_BASE_URL=None):
        with open_model(entry('openai', options=dict(base_url=s.url))) as m: assert m.complete(requests(1))[0].ok
    assert 'Authorization' not in s.headers[0]


def test_one_burst_halves_once():
    import asyncio
    async def run():
        g, t = Gate(16), time.monotonic()
        for _ in range(10): g.slower(t)
        return g.limit
    assert asyncio.run(run()) == 8


def test_unreachable_server_is_reported_soon():
    with environment(**KEYS, OPENAI_BASE_URL='http://127.0.0.1:9/v1'):
        with open_model(entry('openai')) as m: got = m.complete(requests(60))
    assert all('cannot reach' in r.error for r in got) and sum(r.attempts for r in got) <= 8 * 3, 'eight at a time, three tries each: the others are not sent'


def test_missing_key_is_one_line(provider, tmp_path):
    "A missing profile is not replaced by another one, and the number of attempts at a call does not depend on blank answers."
    gone = {**dict.fromkeys((*KEYS, 'OPENAI_BASE_URL', 'OPENROUTER_BASE_URL', 'AWS_BEARER_TOKEN_BEDROCK')), 'AWS_EC2_METADATA_DISABLED': 'true', 'AWS_REGION': 'us-east-1',
            'AWS_SHARED_CREDENTIALS_FILE': str(tmp_path / 'none'), 'AWS_CONFIG_FILE': str(tmp_path / 'none')}
    with environment(**gone):
        with pytest.raises(UserError) as e: open_model(entry(provider))
        assert 'set ' in str(e.value) and '\n' not in str(e.value)
        if provider == 'bedrock':
            with pytest.raises(UserError, match='no-such-profile'): open_model(entry(provider, options=dict(profile='no-such-profile')))


def test_inside_a_running_loop():
    import asyncio
    async def cell():
        with open_model(entry('openai')) as m: return m.complete(requests(2))
    with FakeServer() as s, environment(**KEYS, **where(s)): assert all(r.ok for r in asyncio.run(cell()))


LEAKY = {
    'refused': {401: dict(error=dict(message=f'bad key {CANARY}'), message=f'bad key {CANARY}')},
    'rate': {429: dict(error=dict(message=f'key {CANARY} is over its rate'), message=CANARY)},
    'at the cut': {400: dict(error=dict(message='x' * 285 + CANARY), message='x' * 285 + CANARY)},
    'text': {403: f'<html>{CANARY}</html>'.encode()},
    'list': {500: [CANARY]},
    'in an answer': {200: dict(choices=[dict(message=dict(content=CANARY, reasoning=CANARY))], output=dict(message=dict(content=[dict(text=CANARY)])))},
}


@pytest.mark.parametrize('how', LEAKY)
def test_no_key_anywhere(provider, how, caplog, capsys):
    "The server repeats the key in everything it sends; it reaches no reply, log or stream, not even by half."
    caplog.set_level(logging.DEBUG)
    with FakeServer(errors=LEAKY[how]) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), tries=1 if how == 'rate' else 2) as m: got = m.complete(requests(3))
        texts = [json.dumps([vars(r) for r in got], default=str), repr(m), str(m.info), caplog.text, *capsys.readouterr()]
    assert how == 'in an answer' or not any(r.ok for r in got)
    assert not any(part in t for t in texts for part in (CANARY, CANARY[:12]))


def test_no_key_of_an_address():
    with environment(OPENAI_API_KEY=f'{CANARY}\n', OPENAI_BASE_URL=f'http://user:{CANARY}@127.0.0.1:9/v1'):
        with open_model(entry('openai')) as m: r = m.complete(requests(1))[0]
        assert not r.ok and CANARY not in r.error + str(m.info)
    with environment(OPENAI_API_KEY=f'{CANARY}\u201c', OPENAI_BASE_URL='http://127.0.0.1:9/v1'):
        with pytest.raises(UserError) as e: open_model(entry('openai'))
        assert CANARY not in str(e.value)


def test_many_questions_many_faults(provider):
    "150 questions, 30 % faults of all kinds: each ends once, and never are more calls in flight than allowed."
    with FakeServer(lambda p: p, share=.3, latency=.01, retry_after=.05, kinds=FAULTS, hang=5, seed=3) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider, max_concurrent=16), timeout=1) as m: got = list(m.stream(requests(150)))
    assert sorted(r.id for r in got) == sorted(f'q{i}' for i in range(150))
    assert m.info['concurrency_used'] <= 16 and s.most <= 16
    assert sum(r.ok for r in got) >= 147 and all(r.error for r in got if not r.ok)
    assert all(r.text == f'Question {r.id[1:]}?' for r in got if r.ok)


# --- latency mode: answers as a stream -----------------------------------------------------------------------------------

def test_latency_mode_times_the_first_token(provider):
    with FakeServer('a reply of forty characters, more or less.', latency=.05, pause=.1) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), latency_mode=True) as m: got = m.complete(requests(2))
    for r in got:
        assert r.text == 'a reply of forty characters, more or less.' and r.finish_reason in ('stop', 'end_turn') and r.prompt_tokens and r.completion_tokens and r.cached_tokens is not None
        assert .05 <= r.ttft_seconds < r.ttft_seconds + r.decode_seconds <= r.seconds and r.decode_seconds >= .08
    assert s.most == 1 and (provider == 'bedrock' or all(b['stream'] and b['stream_options'] == dict(include_usage=True) for b in s.bodies))


@pytest.mark.parametrize('fault', [f for f in FAULTS if f != 'hang'])
def test_one_fault_costs_one_try_in_a_stream(provider, fault):
    with FakeServer(CANARY[:3] + ' reply', faults=[fault], retry_after=.05) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), latency_mode=True) as m: r = m.complete(requests(1))[0]
    assert r.ok and r.text == 'sk- reply' and r.attempts == (1 if fault == 'no-usage' else 2), (r.error, r.attempts)
    assert (r.prompt_tokens is None) == (fault == 'no-usage')


@pytest.mark.parametrize('kind, said', [('AccessDeniedException', 'not authorized to perform: bedrock:InvokeModelWithResponseStream'), ('ValidationException', 'The model is unsupported for streaming')])
def test_bedrock_without_permission_to_stream_is_called_without_a_stream(kind, said):
    pytest.importorskip('boto3')
    with FakeServer('whole') as s, environment(**KEYS, **where(s)):
        plain = s._answer
        s._answer = lambda h, body, fault: s._send(h, 403 if kind.startswith('A') else 400, dict(message=said), [('x-amzn-errortype', kind)]) if h.path.endswith('-stream') else plain(h, body, fault)
        with open_model(entry('bedrock'), latency_mode=True) as m: got = m.complete(requests(2))
    assert [(r.text, r.ttft_seconds) for r in got] == [('whole', None)] * 2 and s.calls == 3 and m.info['not_sent'] == ['seed', 'stream']


# --- how sure -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('latency_mode', [False, True])
def test_token_probabilities_where_requested(latency_mode):
    "In one piece and as a stream; without the option they are not requested, and the reason is recorded."
    from wattnb.llm.parsing import token_confidence
    with FakeServer('{"answer": "much", "answer_value": "412"}') as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', options=dict(logprobs=True)), latency_mode=latency_mode) as m: r = m.complete(requests(1))[0]
        with open_model(entry('openai')) as m: silent, why = m.complete(requests(1))[0], m.no_logprobs_reason
    assert ''.join(t for t, _ in r.logprobs) == r.text and s.bodies[0]['logprobs'] is True
    assert token_confidence(r.logprobs) == (pytest.approx(2.718281828 ** -.5), 'value tokens')
    assert silent.logprobs is None and 'not requested' in why and 'logprobs' not in s.bodies[-1]


@pytest.mark.parametrize('content', [None, 'x', [], [None], [dict(token=None, logprob=-1)], [dict(token='x')], [dict(token='x', logprob=None)], [dict(token='x', logprob='much')], [dict(token=c, logprob=-.1) for c in CANARY]])
def test_odd_probabilities_cost_no_answer(content):
    "Anything but a list of tokens counts as no probabilities; a key that is spelled out token by token is not kept."
    choice = dict(message=dict(content='{"answer_value": 4}'), finish_reason='stop', logprobs=dict(content=content))
    with FakeServer(errors={200: dict(choices=[choice])}) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai', options=dict(logprobs=True))) as m: r = m.complete(requests(1))[0]
    assert r.ok and r.text == '{"answer_value": 4}' and r.logprobs in (None, (('None', -1.),))


def test_a_server_that_refuses_probabilities_is_called_without():
    with FakeServer(errors={400: dict(error=dict(message="You are not allowed to request logprobs from this model", param='logprobs'))}) as s, environment(**KEYS, **where(s)):
        refuse, s.errors = s.errors, None
        plain = s._answer
        def picky(h, body, fault): return s._send(h, 400, refuse[400]) if 'logprobs' in body else plain(h, body, fault)
        s._answer = picky
        with open_model(entry('openai', options=dict(logprobs=True))) as m: r = m.complete(requests(1))[0]
    assert r.ok and r.logprobs is None and m.info['not_sent'] == ['logprobs'] and m.no_logprobs_reason == 'the server returned no token probabilities'


def test_a_server_that_does_not_stream_still_answers():
    with FakeServer('whole') as s, environment(**KEYS, **where(s)):
        s._stream = lambda h, reply, *rest: s._send(h, 200, reply)
        with open_model(entry('openai'), latency_mode=True) as m: r = m.complete(requests(1))[0]
    assert (r.text, r.ttft_seconds) == ('whole', None) and r.prompt_tokens


def test_text_is_streamed_to_the_callback_which_can_end_the_call(provider):
    text, heard = 'a reply of forty characters, more or less.', []
    def enough(id, so_far): raise RuntimeError('enough')
    with FakeServer(text, pause=.01) as s, environment(**KEYS, **where(s)):
        with open_model(entry(provider), latency_mode=True) as m:
            m.on_text = lambda id, so_far: heard.append((id, so_far))
            [r] = m.complete(requests(1))
            m.on_text = enough
            [ended] = m.complete(requests(1))
    assert r.text == text and {i for i, _ in heard} == {'q0'} and len(heard) > 2
    assert all(text.startswith(t) for _, t in heard) and [len(t) for _, t in heard] == sorted({len(t) for _, t in heard}) and heard[-1][1] == text
    assert not ended.ok and 'enough' in ended.error and s.calls == 2



def test_the_server_answers_from_a_model():
    from wattnb.llm.protocol import Reply
    asked = []
    class Model:
        def complete(self, rs): asked.extend(rs); return [Reply(r.id, r.user[::-1], prompt_tokens=7, completion_tokens=3) for r in rs]
    with FakeServer(Model()) as s, environment(**KEYS, **where(s)):
        with open_model(entry('openai')) as m: got = m.complete(requests(3))
    assert [r.text for r in got] == [f'?{i} noitseuQ' for i in range(3)] and {(r.prompt_tokens, r.completion_tokens) for r in got} == {(7, 3)} and asked[0].system == 'Be brief.'


# --- a server that repeats what it was sent --------------------------------------------------------------------------------

KEY, WHO, PATH, QUERY = 'sk-canary-k0key9182736455', 'u-canary-9182736455user', 'sk-canary-p4th918273645', 'canary-qu3ry-91827364'
AWS = dict(AWS_ACCESS_KEY_ID='AKIACANARYID91827364', AWS_SECRET_ACCESS_KEY='canary+s3cret/9182736455aws', AWS_SESSION_TOKEN='canary-t0ken-918273645')
ALL = (KEY, WHO, PATH, QUERY)


class Echo(Page):
    "A server on this machine whose every field holds the headers and the address of the call, with terminal escapes around them."
    def __init__(self, how): super().__init__(); self.how = how
    def answer(self, h, body, n):
        said = f'\x1b]0;{h.path}\x07\x1b[31m{h.path} ' + ' '.join(f'{k}: {v}' for k, v in h.headers.items()) + f' {" ".join(ALL)} {KEY[:9]}\x1b[3m{KEY[9:]}\x1b[0m\r\n'
        status, kind, head = 200, 'application/json', [('x-request-id', 'canary-' + KEY), ('retry-after', '0')]
        value = '{"answer_value": "4", "ref_id": [], "explanation": "' + KEY + '"}'
        plain = dict(id=said, model=said, system_fingerprint=said, usage=dict(prompt_tokens=3, completion_tokens=2, what=said),
                     choices=[dict(finish_reason=said, message=dict(content=value, reasoning_content=said, tool_calls=[dict(function=dict(name=said, arguments=said))]), logprobs=dict(content=[dict(token=KEY, logprob=-.1)]))])
        if h.path.endswith('converse'): plain = dict(output=dict(message=dict(content=[dict(text=value)])), stopReason=said, usage=dict(inputTokens=1, outputTokens=1))
        if self.how == 'stream':
            kind = 'text/event-stream'
            pieces = [dict(plain, choices=[dict(index=0, delta=dict(content=value[i:i + 5]), finish_reason=None)]) for i in range(0, len(value), 5)] + [dict(plain, choices=[dict(index=0, delta={}, finish_reason=said)])]
            raw = ''.join(f'data: {json.dumps(p)}\n\n' for p in pieces).encode() + b'data: [DONE]\n\n'
        elif self.how == 'plain': raw = json.dumps(plain).encode()
        elif self.how == 'redirect': status, head, raw = 302, [*head, ('location', f'http://{self.host}/{KEY}?key={KEY}')], said.encode()
        elif self.how == 'error in 200': raw = json.dumps(dict(error=dict(message=said, code=403))).encode()
        else: status, raw = int(self.how), json.dumps(dict(error=dict(message=said, code=said, param=said, type=said), message=said)).encode()
        if status != 200: head = [*head, ('x-amzn-errortype', 'SomeException:canary-' + KEY)]
        send(h, status, raw, kind, **dict(head))


HOW = ['plain', 'stream', 'redirect', 'error in 200', '400', '401', '402', '403', '404', '429', '500']


@pytest.mark.parametrize('how', HOW)
def test_a_server_that_repeats_its_caller_leaks_nothing(how, caplog, capsys):
    "Key in the header, in the user part, the path and the query of the address; the server returns them in every field: none is in a reply, in the model's info, in a log or in an exception."
    caplog.set_level(logging.DEBUG)
    with Echo(how) as s, environment(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f'http://{WHO}:{WHO}-pass@{s.host}/{PATH}/v1?key={QUERY}', OTHER_API_KEY='canary'):
        heard = []
        with open_model(entry('openai'), tries=1, latency_mode=how == 'stream') as m:
            m.on_text = lambda id, text: heard.append(text)
            got = m.complete(requests(2))
            told = [json.dumps([vars(r) for r in got], default=str), repr(m), json.dumps(m.info), str(heard), caplog.text, *capsys.readouterr()]
    assert s.calls and (how not in ('plain', 'stream') or all(r.ok for r in got))
    assert not [(c, t[max(0, t.index(c) - 80):t.index(c) + 60]) for t in told for c in ALL if c in t]
    assert not any('\x1b' in str(x) for r in got for x in (r.error, r.finish_reason)) and all(len(r.finish_reason or '') <= 80 for r in got)
    assert not any('\x1b' in str(v) or len(str(v)) > 160 for v in m.info.values())


@pytest.mark.parametrize('how', ['plain', '400', '403', '429', '500'])
def test_bedrock_that_repeats_its_caller_leaks_nothing(how, tmp_path, caplog, capsys):
    "The same with credentials from the environment and from a profile."
    caplog.set_level(logging.DEBUG)
    (tmp_path/'credentials').write_text('[canary]\n' + ''.join(f'{k.lower()} = {v}\n' for k, v in AWS.items()))
    none = dict.fromkeys(('AWS_PROFILE', 'AWS_BEARER_TOKEN_BEDROCK', *AWS))
    for env in (AWS, dict(AWS_PROFILE='canary', AWS_SHARED_CREDENTIALS_FILE=str(tmp_path/'credentials'))):
        with Echo(how) as s, environment(**none | env, AWS_REGION='us-east-1', AWS_ENDPOINT_URL_BEDROCK_RUNTIME=f'http://{s.host}'):
            with open_model(entry('bedrock'), tries=1) as m: got = m.complete(requests(2))
            told = [json.dumps([vars(r) for r in got], default=str), repr(m), json.dumps(m.info), caplog.text, *capsys.readouterr()]
        assert s.calls and (how != 'plain' or all(r.ok for r in got))
        assert not [(c, t[max(0, t.index(c) - 80):t.index(c) + 60]) for t in told for c in AWS.values() if c in t]


@pytest.mark.parametrize('content', [5, {'a': 1}, [1, 'x', {'text': 5}], True])
def test_a_stream_of_no_text_is_a_failed_call(content):
    "Content that is neither text nor a list of parts is a bad answer of the server: the call is repeated, and no exception of wattnb is raised."
    class Odd(Echo):
        def answer(self, h, body, n):
            raw = f'data: {json.dumps(dict(choices=[dict(delta=dict(content=content))]))}\n\ndata: [DONE]\n\n'.encode()
            send(h, 200, raw, 'text/event-stream')
    with Odd('stream') as s, environment(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f'http://{s.host}/v1'):
        with open_model(entry('openai'), tries=2, latency_mode=True) as m: r = m.complete(requests(1))[0]
    assert (r.ok and r.text == '') if content == [1, 'x', {'text': 5}] and r.ok else 'not a chat completion' in r.error and s.calls == 2


def test_an_endless_answer_ends(monkeypatch):
    "An answer longer than any chat completion is a failed call before it fills the memory."
    import wattnb.llm.api
    monkeypatch.setattr(wattnb.llm.api, 'MAX_ANSWER', 1 << 20)
    with FakeServer('x' * (3 << 20)) as s, environment(**KEYS, **where(s)):
        for latency in (False, True):
            with open_model(entry('openai'), tries=1, latency_mode=latency) as m: r = m.complete(requests(1))[0]
            assert 'longer than 1 MB' in r.error


@pytest.mark.parametrize('how', ['plain', 'stream', '403', '500'])
def test_a_run_against_a_server_that_repeats_its_caller_keeps_nothing(how, tmp_path, capfd, caplog):
    "The same through a whole run and a question: no file of the workspace, no output and no log holds a key."
    from conftest import words_workspace
    from wattnb.cli.command import main
    from wattnb.experiment.settings import RunSettings
    from wattnb.experiment.plan import plan_run
    from wattnb.experiment.execute import run_all
    w = words_workspace(tmp_path/'ws')
    (w.root/'models.toml').write_text('[model.mine]\nprovider = "openai"\nid = "gpt-mine"\nmax_new_tokens = 40\noptions = { tries = 1 }\n')
    with Echo(how) as s, environment(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f'http://{WHO}:{WHO}-pass@{s.host}/{PATH}/v1?key={QUERY}'):
        said = ''
        try: said = str(run_all(plan_run(RunSettings(model='mine', name='run', limit=2, preset='words', max_retries=0, latency_mode=how == 'stream'), w)).summary)
        except Exception as e: said = repr(e)
        main(['ask', 'How much energy?', '--model', 'mine', '--preset', 'words', '--root', str(w.root)])
    shown = dict(said=said, out='\n'.join(capfd.readouterr()), log=caplog.text, **{str(p): p.read_text('utf-8', 'replace') for p in w.root.rglob('*') if p.is_file()})
    assert s.calls >= 2 and any('journal.jsonl' in k for k in shown)
    assert not [(k, t[max(0, t.index(c) - 80):t.index(c) + 40]) for k, t in shown.items() for c in ALL if c in t]
