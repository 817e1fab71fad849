"""The page for guests over HTTP: several guests at once, what each waits for, the pages beside an answer, limits, and what a paper, a reply, a
form or another page of the internet cannot do. In a real browser where there is one."""
import html, http.client, json, logging, os, re, socket, subprocess, sys, time
import urllib.error, urllib.parse, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wattnb.core.workspace import UserError
from wattnb.experiment.guests import GuestLimits, GuestServer
from wattnb.experiment.settings import RunSettings
from wattnb.testing.server import FakeServer, environment
from conftest import CANARY, KEYS, words_workspace

QUESTION = 'How much energy did the Tarn hall draw in 2028?'
LIMITS = GuestLimits(per_minute=1000, each=1000, waiting=1000)


def server(ws, model='extractive', limits=LIMITS, **kw): return GuestServer(ws, RunSettings(model, preset='words'), port=0, limits=limits, **kw)


class Answer(urllib.request.HTTPErrorProcessor):
    "Errors and redirects are answers."
    def http_response(self, request, response): return response


def call(s, path, data=None, source=None, **headers):
    "(status, headers, body) of a request, from an address of this machine."
    c = http.client.HTTPConnection('127.0.0.1', s.port, timeout=30, source_address=(source, 0) if source else None)
    try:
        body = urllib.parse.urlencode(data) if isinstance(data, dict) else data
        h = {'Content-Type': 'application/x-www-form-urlencoded'} if data is not None else {}
        c.request('POST' if data is not None else 'GET', path, body, h | {k.replace('_', '-'): v for k, v in headers.items()})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()
    finally: c.close()


def asked(s, text=QUESTION, unit='MWh', **kw):
    "Address of the answer to a question."
    status, headers, body = call(s, '/ask', dict(question=text, unit=unit), **kw)
    assert status == 303, body.decode()
    return headers['Location']


def answer(s, at, seconds=60, **kw):
    "The page of an answer when it is there, and all state lines that were seen before."
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        status, headers, body = call(s, at.replace('/a/', '/part/'), **kw)
        assert status == 200
        if headers.get('x-over'): return call(s, at, **kw)[2].decode(), seen
        seen += re.findall(r'role="status">([^<]*)', body.decode())
        time.sleep(.02)
    raise AssertionError(f'no answer: {seen[-3:]}')


def test_a_question_is_answered_with_its_page_and_cost(ws, caplog):
    files = lambda: {p: p.stat().st_mtime_ns for p in ws.root.rglob('*') if p.is_file()}
    before = files()
    with caplog.at_level(logging.DEBUG), server(ws) as s:
        at = asked(s)
        page, _ = answer(s, at)
        main = page.partition('<main>')[2]
        assert '<b>3184</b> MWh' in main and 'halvorsen2029' in main and re.search(r'in the queue|of which', main)
        assert re.search(r'[\d.]+ J \(|energy not measured: \w', main), 'joules, or the reason'
        assert 'tokens' in main and re.search(r'in all \d', main)
        image, = re.findall(r'<img src="(/page/[\w-]+/0\.png)" alt="page 1 of halvorsen2029', main)
        status, headers, png = call(s, image)
        assert (status, headers['Content-Type'], png[:8]) == (200, 'image/png', b'\x89PNG\r\n\x1a\n') and len(png) > 20_000
        assert call(s, image)[2] == png
        from wattnb.index.page_images import page_image
        doc, n, text = s.desk.tickets[at[3:]].places[0]
        assert page_image(ws, doc, n, text, 100).png == png != page_image(ws, doc, n, dpi=100).png, 'the passage is outlined'
        for other in (image.replace('/0.', '/1.'), image.replace('/0.', '/9.'), '/page/xxxxxxxxxxxx/0.png', '/page/halvorsen2029/0.png', '/page/../../etc/passwd', '/page/%2e%2e/0.png', '/data/metadata.csv', '/a/../..'):
            assert call(s, other)[0] == 404, other
    assert files() == before and 'Tarn hall' not in caplog.text, 'nothing is written, and no question is in the log'


def test_several_guests_at_once_are_answered_in_turn(ws):
    "Twelve guests; none gets the answer of another, and the line says how many are before."
    from wattnb.core.questions import read_questions
    qs = [q for q in read_questions(ws.questions('demo_QA.csv'))][:12]
    with server(ws) as s, ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda q: answer(s, asked(s, q.question, q.unit or '', source=f'127.0.0.{2 + qs.index(q)}')), qs))
        assert s.desk.answered == 12 and len({t.id for t in s.desk.tickets.values()}) == 12
    for q, (page, _) in zip(qs, got): assert f'<p class="question">{html.escape(q.question)}</p>' in page.replace('&#x27;', '&#x27;')


def test_it_says_what_it_waits_for(ws):
    "Loading, the place in the queue, reading, and the text as it is written."
    reply = json.dumps(dict(explanation='A long explanation of it. ' * 12, answer='4', answer_value='4', ref_id=['halvorsen2029'], supporting_materials=''))
    with FakeServer(reply, latency=.4, pause=.02, local=True) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        first, second = asked(s), asked(s, 'What was the PUE?')
        assert '<noscript><meta http-equiv="refresh"' in call(s, second)[2].decode(), 'a browser without script loads it again'
        time.sleep(.1)
        page, seen = answer(s, first)
        more = answer(s, second)[1]
    lines = ' | '.join(seen)
    assert 'reading the passages' in lines and 'tokens)' in lines and 'writing' in lines and 'so far' in lines, lines
    assert '<noscript>' not in page and '<b>4</b> MWh' in page and ('1 question before yours' in ' '.join(more) or more)


def test_the_queue_is_told(ws):
    with FakeServer(latency=1., local=True) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        assert s.desk.wait_until(lambda: s.desk.ready, 30)
        a, b, c = (asked(s, f'{QUESTION} {i}') for i in range(3))
        time.sleep(.3)
        said = [re.search(r'role="status">([^<]*)', call(s, x.replace('/a/', '/part/'))[2].decode())[1] for x in (a, b, c)]
        assert said[0].startswith('reading the passages') and '1 question before yours' in said[1] and '2 questions before yours' in said[2], said
        for x in (a, b, c): answer(s, x)
        assert f.most == 1, 'one at a time on this machine'


def test_models_elsewhere_answer_side_by_side(ws):
    with FakeServer(latency=.5) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        ats = [asked(s, f'{QUESTION} {i}') for i in range(6)]
        for x in ats: answer(s, x)
        assert 1 < f.most <= 4
        page = answer(s, ats[0])[0]
        assert 'energy not measured: the model runs elsewhere' in page and CANARY not in page


def test_loading_is_shown_and_its_failure_ends_the_server(ws, caplog):
    with FakeServer(loading=1.5, window=8000) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        seen = answer(s, asked(s))[1]
        assert any('loading' in line for line in seen), seen
    with environment(OPENAI_API_KEY=None, OPENAI_BASE_URL=None), pytest.raises(UserError, match='needs OPENAI_API_KEY'): server(ws, 'openai:gpt-4.1-mini')
    with pytest.raises(UserError, match='no index'): GuestServer(ws, RunSettings('extractive', index='absent'), port=0)
    with server(ws) as s, pytest.raises(UserError, match='cannot listen on 127.0.0.1'): GuestServer(ws, RunSettings('extractive'), port=s.port)


def test_a_failure_says_nothing_about_this_machine(ws, caplog):
    with environment(OPENAI_BASE_URL='http://127.0.0.1:9/v1', OPENAI_API_KEY=CANARY), caplog.at_level(logging.WARNING, 'wattnb'), server(ws, 'openai:served') as s:
        page = answer(s, asked(s))[0]
    assert 'could not be answered' in page and '127.0.0.1:9' not in page and CANARY not in page and str(ws.root) not in page
    assert 'cannot reach' in caplog.text and CANARY not in caplog.text


EVIL = '</p><script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="alert(1)'


def test_no_script_comes_from_questions_replies_or_papers(tmp_path):
    ws = words_workspace(tmp_path, metadata=f'id,title,year,citation,url\nhalvorsen2029,"{EVIL.replace(chr(34), chr(34) * 2)}",2029,"{EVIL.replace(chr(34), chr(34) * 2)} (2029)",javascript:alert(1)\n')
    reply = json.dumps(dict(explanation=EVIL + ' [halvorsen2029]', answer=EVIL, answer_value=EVIL, ref_id=['halvorsen2029', EVIL], ref_url=['javascript:alert(2)'], supporting_materials=EVIL))
    with FakeServer(reply) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        page, _ = answer(s, asked(s, EVIL, EVIL[:30]))
        again = call(s, '/ask', dict(question=EVIL * 20))[2].decode()
    for text in (page, again):
        assert len(re.findall(r'<script\b', text)) == 1 and '<script src="/guests.js"></script>' in text
        assert not re.search(r'<img src=x|<[^>]*\son\w+=|href="javascript', text), text
        assert not re.search(r'<[^>]*\bstyle=', text), 'the policy of the page allows no style of its own'


def test_headers_of_every_answer(ws):
    with server(ws) as s:
        for path in ('/', '/guests.css', '/guests.js', '/nowhere', '/ask'):
            status, h, _ = call(s, path)
            assert "default-src 'none'" in h['Content-Security-Policy'] and 'unsafe' not in h['Content-Security-Policy'] and h['X-Content-Type-Options'] == 'nosniff' and h['X-Frame-Options'] == 'DENY', path
            assert 'Python' not in h['Server']


def test_other_hosts_and_forms_of_other_pages_are_refused(ws):
    with server(ws) as s:
        for host in ('evil.example', 'evil.example:80', '', 'localhost.evil.example'): assert call(s, '/', Host=host)[0] == 421, host
        for host in ('localhost:1', '127.0.0.1', '192.168.3.4:99', '[::1]:8', socket.gethostname()): assert call(s, '/', Host=host)[0] == 200, host
        for origin in ('http://evil.example', 'null', f'http://127.0.0.1:{s.port + 1}'): assert call(s, '/ask', dict(question='x'), Origin=origin)[0] == 403, origin
        assert call(s, '/ask', dict(question=QUESTION), Origin=f'http://127.0.0.1:{s.port}')[0] == 303
        assert not [t for t in s.desk.tickets.values() if t.question.question == 'x']


def test_limits(ws):
    limits = GuestLimits(characters=50, each=2, per_minute=3, waiting=3)
    with FakeServer(latency=1., local=True) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served', limits) as s:
        assert s.desk.wait_until(lambda: s.desk.ready, 30)
        say = lambda text='short', **kw: call(s, '/ask', dict(question=text), **kw)
        for text, why in (('', 'write a question'), (' \n', 'write a question'), ('x' * 51, 'at most 50'), ('\x00\x1b[31m', 'write a question')):
            status, _, body = say(text)
            assert status == 400 and why in body.decode(), (text, status)
        assert [say()[0] for _ in range(3)] == [303, 303, 429] and 'not answered yet' in say()[2].decode()
        assert say(source='127.0.0.9')[0] == 303, 'another guest'
        time.sleep(.2)
        got = [say(source=f'127.0.0.{20 + i}')[0] for i in range(6)]
        assert 303 in got and got[-1] == 429 and 'questions are waiting' in say(source='127.0.0.99')[2].decode()
        assert s.desk.wait_until_idle(60)
        assert say()[0] == 303 and 'in the last minute' in say()[2].decode()
        for data in (b'question=' + b'x' * 9000, b'\xff\xfe=1', b'&'.join(b'a=1' for _ in range(50))): assert call(s, '/ask', data)[0] == 400
        assert call(s, '/' + 'x' * 60_000)[0] in (404, 414) and call(s, '//[')[0] in (400, 404)


def test_a_question_for_which_nobody_waits_is_dropped(ws, monkeypatch):
    import wattnb.experiment.guests as g
    monkeypatch.setattr(g, 'GONE', .3)
    with FakeServer(latency=.8, local=True) as f, environment(**KEYS, **f.env()), server(ws, 'openai:served') as s:
        a, _b = asked(s), asked(s)
        answer(s, a)
        assert s.desk.wait_until_idle(30) and f.calls == 1 and s.desk.answered == 1


def test_tickets_are_forgotten(ws):
    with server(ws, limits=GuestLimits(kept=2, per_minute=99, each=99)) as s:
        ats = []
        for _i in range(4): ats.append(asked(s)); answer(s, ats[-1])
        assert [call(s, a)[0] for a in ats] == [404, 404, 200, 200] or [call(s, a)[0] for a in ats] == [404, 200, 200, 200]


def test_a_password(ws):
    with server(ws, password='green heron') as s:
        for path in ('/', '/a/xxxxxxxxxxxx', '/page/xxxxxxxxxxxx/0.png'): assert call(s, path)[0] == 401
        assert call(s, '/ask', dict(question=QUESTION))[0] == 401 and not s.desk.tickets
        assert call(s, '/login', dict(password='wrong'))[0] == 401 and 'Set-Cookie' not in call(s, '/?key=wrong')[1]
        status, h, _ = call(s, '/?key=green%20heron')
        assert status == 303 and 'HttpOnly' in h['Set-Cookie'] and 'SameSite' in h['Set-Cookie'] and 'heron' not in h['Set-Cookie']
        assert call(s, '/login', dict(password='green heron'))[0] == 303
        cookie = h['Set-Cookie'].split(';')[0]
        assert call(s, '/', Cookie=cookie)[0] == 200 and 'MWh' in answer(s, asked(s, Cookie=cookie), Cookie=cookie)[0]
        for _ in range(4): call(s, '/login', dict(password='wrong'))
        assert call(s, '/login', dict(password='green heron'))[0] == 429, 'after many wrong ones'


def test_many_connections_and_broken_ones_do_not_stop_it(ws):
    "Guests who connect and say nothing, close in the middle, or send what is no request; the others are answered, and places come back."
    with server(ws, limits=GuestLimits(connections=20)) as s:
        idle = [socket.create_connection(('127.0.0.1', s.port)) for _ in range(15)]
        for raw in (b'\x00\xff' * 500, b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n', b'POST /ask HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nquestion=', b'GET / HTTP/9.9\r\n\r\n', b'A' * 70_000):
            with socket.create_connection(('127.0.0.1', s.port)) as c: c.sendall(raw)
        assert '3184' in answer(s, asked(s))[0]
        more = [socket.create_connection(('127.0.0.1', s.port)) for _ in range(30)]
        for c in (*idle, *more): c.close()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                if call(s, '/')[0] == 200: break
            except (OSError, http.client.HTTPException): time.sleep(.1)
        assert call(s, '/')[0] == 200


def test_the_verb(ws, capsys):
    "It says where it listens and who can ask; Ctrl-C ends it, with the number of answers."
    from wattnb.cli.command import main
    assert main(['serve', '--root', str(ws.root), '--check', '--model', 'extractive', '--preset', 'words', '--port', '0']) == 0
    out, err = capsys.readouterr()
    assert 'can be opened' in out and 'only this machine can ask' in err
    assert main(['serve', '--root', str(ws.root), '--check', '--model', 'extractive', '--preset', 'words', '--port', '0', '--host', '0.0.0.0']) == 0
    assert 'anyone on the network can ask' in capsys.readouterr().err
    assert main(['serve', '--root', str(ws.root), '--check', '--model', 'extractive', '--preset', 'words', '--port', '0', '--password', '--json']) == 0
    out, err = capsys.readouterr()
    key, = re.findall(r'/\?key=(\S+)', err)
    assert json.loads(out)['password'] is True and key not in out
    assert main(['serve', '--root', str(ws.root), '--port', '99999', '--model', 'extractive']) == 2 and 'cannot listen' in capsys.readouterr().err
    p = subprocess.Popen([sys.executable, '-m', 'wattnb.cli', 'serve', '--root', str(ws.root), '--model', 'extractive', '--preset', 'words', '--port', '0'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        if m := re.match(r'http://127\.0\.0\.1:(\d+)', line): port = int(m[1])
        if 'is loaded' in line: break
    class s: pass
    s.port = port
    answer(s, asked(s))
    p.terminate() # as Ctrl-C; a shell may have its children ignore that
    out, _ = p.communicate(timeout=30)
    assert p.returncode == 0 and '1 questions answered' in out


def keep(png, path):
    "A picture in 128 colours, for the documentation."
    import io
    from PIL import Image
    Image.open(io.BytesIO(png)).convert('RGB').quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def test_the_page_in_a_real_browser(ws, tmp_path):
    "Ask on a wide page and on a phone in the dark; the script replaces the state by the answer, the picture is there, and nothing is reported to the console."
    import test_browser as t
    if not (t.browser and t.driver): pytest.skip('no Chromium or Chrome with its driver here')
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    reply = json.dumps(dict(explanation='The Tarn hall drew it at the utility meter [halvorsen2029].', answer='3184 MWh', answer_value='3184', ref_id=['halvorsen2029'], supporting_materials='drew 3,184 MWh at the utility meter'))
    with FakeServer(reply, latency=.5, pause=.05) as f, environment(**KEYS, **f.env()), server(ws, 'openai:my-7b') as s:
        for name, size, dark in (('wide', (1280, 860), False), ('phone', (390, 844), True)):
            o = webdriver.ChromeOptions()
            o.binary_location = t.browser
            for flag in (*t.FLAGS, f'--user-data-dir={tmp_path/name}', *(['--force-dark-mode', '--blink-settings=preferredColorScheme=0'] if dark else [])): o.add_argument(flag)
            o.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
            d = webdriver.Chrome(options=o, service=webdriver.ChromeService(str(t.driver)))
            try:
                d.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=size[0], height=size[1], deviceScaleFactor=2 if dark else 1, mobile=dark))
                if dark:
                    d.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value='dark')]))
                d.get(s.url)
                d.find_element(By.NAME, 'question').send_keys(QUESTION)
                d.find_element(By.NAME, 'unit').send_keys('MWh')
                d.find_element(By.TAG_NAME, 'button').click()
                state = t.settle('a state', lambda: [e.text for e in d.find_elements(By.CSS_SELECTOR, '[role=status]')])
                assert re.search('so far', state[0])
                t.settle('the answer', lambda: d.find_elements(By.CSS_SELECTOR, '.wattnb-value b'))
                assert d.find_element(By.CSS_SELECTOR, '.wattnb-value b').text == '3184'
                t.settle('the picture', lambda: d.execute_script('const i = document.querySelector("figure img"); return i && i.complete && i.naturalWidth > 400'))
                wide = d.execute_script('return document.documentElement.scrollWidth <= document.documentElement.clientWidth')
                assert wide, 'nothing is wider than the window'
                answer_, picture = (d.find_element(By.CSS_SELECTOR, c).rect for c in ('.wattnb-answer', 'figure'))
                assert picture['x'] > answer_['x'] + 100 if not dark else picture['y'] > answer_['y']
                light = d.execute_script('return getComputedStyle(document.body).backgroundColor')
                assert (light == 'rgb(15, 19, 24)') == dark, light
                assert not [l for l in d.get_log('browser') if l['level'] == 'SEVERE'], d.get_log('browser')
                if to := os.environ.get('WATTNB_SCREENSHOTS'): keep(d.get_screenshot_as_png(), Path(to)/f'guests{"" if name == "wide" else "-phone"}.png')
            finally: d.quit()
