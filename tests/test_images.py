"Pictures of tables and figures, from the search to the score: which page arrives at a server, what it costs, what the journal keeps, and the paired effect."
import base64, hashlib, json, re
from dataclasses import replace

import pytest

canvas = pytest.importorskip('reportlab.pdfgen.canvas')
from conftest import KEYS, picture
from wattnb.compare.paired import compare
from wattnb.core.workspace import UserError, Workspace, environment
from wattnb.experiment.asking import ask
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings, attempt_usd, most_usd
from wattnb.experiment.stored import stored_run, verify
from wattnb.index.corpus import build_corpus
from wattnb.index.page_parts import page_part
from wattnb.index.store import build_index
from wattnb.llm.prices import image_tokens
from wattnb.llm.protocol import Request, open_model
from wattnb.llm.registry import load_registry
from wattnb.scoring.run_folders import find_runs
from wattnb.testing.server import FakeServer, png_pixels

BOARDS = dict(kestrel2031=4711, merlin2031=1234, osprey2031=60001) # paper → the value that only its figure shows
MODELS = '''
[model.seeing]
provider = "openai"
id = "served"
family = "qwen2.5-vl"
context = 16000
max_new_tokens = 64
vision = true
prices = { in = 1.0, out = 2.0 }

[model.blind]
provider = "openai"
id = "served"
context = 16000

[model.cloud]
provider = "bedrock"
id = "us.amazon.nova-lite-v1:0"
family = "nova"
context = 16000
vision = true
prices = { in = 1.0, out = 2.0 }
'''
PROSE = ('The boards of the {name} line were measured on a bench for a year, at the full load and when idle, with a meter in each of the two supplies. The bench was in a hall that was kept '
         'at twenty degrees. Nobody opened the door while a board was measured, and the readings of the first hour were left out. ')


def colour(value): return value >> 8, value & 255, 77

def draw_paper(path, name, value):
    "Two pages of text; on the second a figure: a block whose colour is the value, above its caption."
    c = canvas.Canvas(str(path))
    for page in range(2):
        c.setFont('Times-Roman', 10)
        for i, start in enumerate(range(0, 600, 90)): c.drawString(72, 760 - 14 * i, (PROSE.format(name=name) * 3)[start:start + 90])
        if page:
            c.setFillColorRGB(*(v / 255 for v in colour(value)))
            c.rect(150, 330, 200, 160, stroke=0, fill=1)
            c.setFillColorRGB(0, 0, 0)
            c.drawString(72, 300, f'Figure 1: Power of the {name} board at full load, in watts.')
        c.showPage()
    c.save()


def value_of(pixels):
    "The value that a picture of a figure shows; None where it shows none."
    blocks = pixels[(pixels[..., 2] == 77) & (pixels[..., 0] < 250)]
    return int(blocks[0, 0]) * 256 + int(blocks[0, 1]) if len(blocks) > 100 else None

def look(prompt, pictures):
    "The reply of one who reads the first picture of a figure, and the sentence that says whose it is."
    papers = re.findall(r'on page \d+ of (\w+)', prompt.split('\n\n')[0])
    seen = [(v, i) for p, i in zip(pictures, papers, strict=True) if (v := value_of(p)) is not None] or [('is_blank', '')]
    return json.dumps(dict(explanation='seen', answer='x', answer_value=str(seen[0][0]), ref_id=[seen[0][1]], supporting_materials=''))


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    w = Workspace(tmp_path_factory.mktemp('seen'))
    for d in (w.pdfs, w.experiments): d.mkdir(parents=True)
    (w.root/'wattnb.toml').touch()
    rows = ['id,type,title,year,citation,url']
    for id, value in BOARDS.items():
        draw_paper(w.pdfs/f'{id}.pdf', id[:-4].title(), value)
        rows.append(f'{id},paper,{id[:-4].title()} boards,2031,"A. Author, 2031.",https://papers.example.org/{id}.pdf')
    w.metadata.write_text('\n'.join(rows) + '\n')
    asked = ['id,question,answer,answer_value,answer_unit,ref_id,ref_url,supporting_materials,explanation']
    for n, (id, value) in enumerate(BOARDS.items()):
        asked.append(f'b{n},"What is the power of the {id[:-4].title()} board at full load by Figure 1, in watts?",{value} W,{value},W,"[\'{id}\']",,,')
    (w.data/'train_QA.csv').write_text('\n'.join(asked) + '\n')
    w.models_toml.write_text(MODELS)
    build_index(w, embedder='none', corpus=build_corpus(w))
    return w


def run(ws, server, model='seeing', **kw):
    with environment(**KEYS, **server.env()):
        plan = plan_run(RunSettings(model, idle_seconds=0, max_retries=0, preset='words', **kw), ws)
        run_all(plan)
    return plan, stored_run(plan.run_dir, ws)


def score(run): return run.stored.scores['overall']


def test_the_right_page_arrives_and_only_the_picture_holds_the_answer(ws):
    with FakeServer(look=look, answer=json.dumps(dict(answer='x', answer_value='is_blank', ref_id=[]))) as s:
        blind, without = run(ws, s)
        assert not any('image_url' in json.dumps(b) for b in s.bodies)
        n = len(s.bodies)
        seeing, shown = run(ws, s, images=1)
        bodies = s.bodies[n:]
    assert score(without) < .3 and score(shown) > .99
    assert seeing.name == 'seeing-bench-words-images1' and blind.name == 'seeing-bench-words'
    assert 'images' not in blind.identity and seeing.identity['images']['n'] == 1 and {k: v for k, v in seeing.identity.items() if k != 'images'} == blind.identity
    assert 'images' not in without.stored.config_snapshot and shown.stored.config_snapshot['images'] == 1
    for b in bodies: # the picture before the text, a PNG of the part and not of the page
        image, text = b['messages'][-1]['content']
        raw = base64.b64decode(image['image_url']['url'].removeprefix('data:image/png;base64,'))
        assert text['text'].startswith('You are also shown one picture of these papers, in this order: (1) Figure 1 on page 2 of ')
        h, w, _ = png_pixels(raw).shape
        assert h * w < 900_000 and value_of(png_pixels(raw)) in BOARDS.values()


def test_the_journal_keeps_what_was_shown_without_the_picture(ws):
    with FakeServer(look=look) as s: plan, stored = run(ws, s, images=2, name='kept')
    path = plan.run_dir/'journal.jsonl'
    text = path.read_text()
    assert 'base64' not in text and 'iVBORw0' not in text
    for a in read_journal(path).of('attempt'):
        assert 1 <= len(a['images']) <= 2 and set(a['images'][0]) == {'document_id', 'page', 'box', 'width', 'height', 'sha256', 'bytes', 'what', 'rank', 'passage_id'}
        first = a['images'][0]
        again = page_part(ws, first['document_id'], first['page'], f"Figure 1: Power of the {first['document_id'][:-4].title()} board at full load, in watts.")
        assert (again.sha256, list(again.box), len(again.png)) == (first['sha256'], first['box'], first['bytes']) # drawn again from the PDF
        assert hashlib.sha256(again.png).hexdigest() == first['sha256'] and first['page'] == 2
        entry = load_registry(ws)['seeing']
        assert a['image_tokens'] == sum(image_tokens(entry, x['width'], x['height']) for x in a['images']) and a['image_tokens_estimated'] is True
        assert a['tokens']['prompt'] > sum(x['width'] * x['height'] // 784 for x in a['images']) # the server counts pictures
        assert a['cost_usd'] == pytest.approx((a['tokens']['prompt'] + 2 * a['tokens']['completion']) / 1e6)
        guess = attempt_usd(entry, dict(a, cost_usd=None))
        assert guess > attempt_usd(entry, dict(a, cost_usd=None, images=[])) > 0
    assert not [r for r in verify(plan.run_dir) if r['result'] == 'failed']


def test_the_paired_effect_has_labels_that_say_which_is_which(ws):
    names = ['seeing-bench-words', 'seeing-bench-words-images1']
    if set(names) - {r.name for r in find_runs(ws)}: pytest.skip('needs the runs of the first test')
    c = compare(ws, names)
    (pair,) = c.pairs
    assert {pair['a'], pair['b']} == set(names) and abs(pair['value_diff']) == 1 and pair['discordant'] == 3
    assert pair['cost']['usd'][0] != 1 and pair['cost']['same_tokens'] == 0 # what pictures cost is part of it


def test_models_of_text_are_refused_and_baselines_are_as_they_were(ws):
    plan = lambda model, **kw: plan_run(RunSettings(model, preset='words', **kw), ws)
    with environment(**KEYS, OPENAI_BASE_URL='http://127.0.0.1:9/v1'):
        with pytest.raises(UserError, match='^blind reads text alone: --images needs a model whose entry has vision = true'): plan('blind', images=1)
        assert plan('blind', images=0).run == plan('blind').run
        for e in load_registry(ws).values():
            if e.provider == 'baseline': assert plan(e.key, images=2).run == plan(e.key).run and plan(e.key, images=2).name == plan(e.key).name
    for wrong, why in ((dict(images=3), 'images must be 0 to 2, not 3'), (dict(images=-1), 'images must be'), (dict(images=1, mode='closed-book'), 'closed-book shows nothing'),
                       (dict(images=1, weights='random'), 'random weights')):
        with pytest.raises(UserError, match=why): RunSettings('seeing', **wrong)


def test_flags_of_the_questions_choose_nothing(ws, tmp_path):
    "The same questions with and without the columns that say which of them are about a figure."
    header, *rows = (ws.data/'train_QA.csv').read_text().splitlines()
    shown = []
    for n, flags in enumerate((',1,0', ',0,1', '')):
        names = ',Figure,Table' if flags else ''
        (ws.data/f'flags{n}_QA.csv').write_text('\n'.join([header + names, *(r + flags for r in rows)]) + '\n')
        with FakeServer(look=look) as s: plan, _ = run(ws, s, images=2, questions=f'data/flags{n}_QA.csv')
        shown.append([[x['sha256'] for x in a['images']] for a in sorted(read_journal(plan.run_dir/'journal.jsonl').of('attempt'), key=lambda a: a['id'])])
    assert shown[0] == shown[1] == shown[2] and all(shown[0])


def test_a_paper_without_a_pdf_gives_none_and_says_why(ws):
    moved = ws.root/'merlin.pdf'
    (ws.pdfs/'merlin2031.pdf').rename(moved)
    try:
        with FakeServer(look=look) as s: plan, _ = run(ws, s, images=2, name='gone')
    finally: moved.rename(ws.pdfs/'merlin2031.pdf')
    attempts = {a['id']: a for a in read_journal(plan.run_dir/'journal.jsonl').of('attempt')}
    assert any('merlin2031 has no PDF' in why for why in attempts['b1']['images_missing']) and 'merlin2031' not in {x['document_id'] for x in attempts['b1']['images']}
    assert len(attempts['b0']['images']) >= 1


@pytest.mark.parametrize('latency', [False, True])
def test_bedrock_gets_blocks(ws, latency):
    pytest.importorskip('boto3')
    with FakeServer(look=look) as s:
        plan, stored = run(ws, s, 'cloud', images=1, latency_mode=latency, name=f'cloud{latency:d}')
        image, text = s.bodies[0]['messages'][0]['content']
    assert image['image']['format'] == 'png' and png_pixels(base64.b64decode(image['image']['source']['bytes'])).ndim == 3 and 'Figure 1 on page 2' in text['text']
    assert score(stored) > .99


@pytest.mark.parametrize('server', [dict(vision=False), dict(vision=False, window=16000, slots=2), dict(vision=False, window=16000, ollama=True)])
def test_a_server_of_a_text_model_ends_the_run_with_one_line(ws, server):
    with FakeServer(**server) as s, environment(**KEYS, **s.env()):
        with open_model(load_registry(ws)['seeing'], ws=ws) as m:
            replies = m.complete([Request(f'q{i}', '', 'What?', images=(picture(i, 40, 40),)) for i in range(5)])
    assert all('takes no pictures of served' in r.error and '--images 0' in r.error and '\n' not in r.error for r in replies)
    assert s.calls <= (5 if not server.get('window') else 0)


def test_the_window_has_room_for_pictures(ws):
    from wattnb.experiment.stages import retrieval_of
    entry = replace(load_registry(ws)['seeing'], context=6000)
    rooms = [retrieval_of(RunSettings('seeing', images=n, retrieval='max_tokens=5000'), entry, 2).max_tokens for n in (0, 1, 2)]
    assert rooms[0] > rooms[1] > rooms[2] and rooms[0] - rooms[1] >= 1400
    with FakeServer(look=look, window=6000) as s:
        plan, stored = run(ws, s, images=2, retrieval='max_tokens=5000', name='narrow')
    assert score(stored) > .99 and not any('maximum context' in str(b) for b in s.given)


def test_one_question_asked_shows_its_pictures(ws):
    with FakeServer(look=look) as s, environment(**KEYS, **s.env()):
        a = ask('What is the power of the Osprey board at full load by Figure 1, in watts?', 'seeing', unit='W', root=ws, images=1, preset='words')
        assert a.answer.value == '60001' and len(a.last.request.images) == 1 and 'data:image/png;base64' in a._repr_html_()
        with pytest.raises(UserError, match='reads text alone'): ask('What?', 'blind', root=ws, images=1)
    entry = load_registry(ws)['seeing']
    assert most_usd(entry, a.last.request) > most_usd(entry, replace(a.last.request, images=()))


def test_a_benchmark_skips_models_of_text_and_keeps_baselines(ws):
    from wattnb.benchmark.plan import BenchmarkSettings, plan_benchmark
    with environment(**KEYS, OPENAI_BASE_URL='http://127.0.0.1:9/v1'):
        runs = {r.model: r for r in plan_benchmark(BenchmarkSettings(models=('seeing', 'blind', 'extractive'), preset='words', images=1, env='bench'), ws)}
    assert runs['blind'].state == 'skip' and 'reads text alone' in runs['blind'].reason
    assert (runs['seeing'].state, runs['extractive'].state) == ('wait', 'wait')
    assert runs['seeing'].plan.name.endswith('images1') and 'images' not in runs['extractive'].plan.name
