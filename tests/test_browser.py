"""The explorer in a real JupyterLab in a real browser: run all cells, click, read what comes back, look for tracebacks and keys.
Skipped where there is no Chromium or Chrome with its driver (`make test` installs them where it can). `WATTNB_SCREENSHOTS=DIR` keeps
the pictures that the documentation shows."""
import json, os, re, shutil, socket, subprocess, sys, time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip('selenium', reason='selenium is not installed (extra dev)')
pytest.importorskip('jupyterlab', reason='jupyterlab is not installed (extra notebook)')
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from wattnb.cli.command import init_workspace
from wattnb.index.corpus import build_corpus
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.index.store import build_index
from wattnb.core.questions import read_questions
from wattnb.testing.server import FakeServer
from wattnb.core.workspace import Workspace

root = Path(__file__).resolve().parent.parent
browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
driver = shutil.which('chromedriver') or (p if (p := Path(os.environ.get('CHROMEWEBDRIVER', '/nowhere'))/'chromedriver').exists() else None)
pytestmark = pytest.mark.skipif(not (browser and driver), reason='no Chromium or Chrome with its driver here: apt-get install chromium chromium-driver')

FLAGS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
         '--disable-dev-shm-usage', '--hide-scrollbars', '--window-size=1280,1900')
KEY = 'sk-this-must-never-be-shown-0123456789'
PATIENCE = 300 # seconds of idle cores, see `settle`


@pytest.fixture(scope='module')
def ws(tmp_path_factory):
    "A demo workspace with an index and two runs."
    folder = tmp_path_factory.mktemp('explore')
    init_workspace(folder, demo=True)
    ws, built = Workspace(folder), root/'data/embeddings/minilm'
    if built.exists(): shutil.copytree(built, ws.embeddings/built.name)
    else: build_index(ws, embedder='none', corpus=build_corpus(ws, fetch=False))
    for m in ('extractive', 'abstain'): run_all(plan_run(RunSettings(m, env='demo', questions='demo_QA.csv', preset='words', limit=30), ws))
    return ws


@pytest.fixture(scope='module')
def server():
    with FakeServer(answer='extractive', faults=['hang'], hang=600) as s: yield s


def settle(what, get, seconds=PATIENCE):
    "Wait until `get()` is true; its value. A page that redraws itself meanwhile is read again. Where three processes share a core, a second counts as a third."
    left, at = seconds, time.monotonic()
    while left > 0:
        try:
            if got := get(): return got
        except (StaleElementReferenceException, IndexError): pass
        time.sleep(.1)
        left, at = left - (time.monotonic() - at) / max(1., os.getloadavg()[0] / (os.cpu_count() or 1)), time.monotonic()
    raise AssertionError(f'not within {seconds} s: {what}')


@contextmanager
def serving(args, folder, env, url):
    "A Jupyter server on a free port, with settings, kernels and history of its own; its last words when it does not start."
    import urllib.request
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); port = s.getsockname()[1]
    log, url = folder/f'{args[1]}.log', url.format(port=port)
    own = {f'JUPYTER_{k}_DIR': str(folder/k.lower()) for k in ('CONFIG', 'DATA', 'RUNTIME')} | dict(JUPYTERLAB_SETTINGS_DIR=str(folder/'settings'), IPYTHONDIR=str(folder/'ipython'))
    with open(log, 'w') as out:
        p = subprocess.Popen([a.format(port=port) for a in args], cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **own, **env}, start_new_session=True)
        def up():
            assert p.poll() is None, log.read_text()[-2000:]
            try: return urllib.request.urlopen(url, timeout=60).status == 200
            except OSError: return False
        try:
            settle('the server starts', up)
            yield url
        finally:
            p.terminate()
            try: p.wait(20)
            except subprocess.TimeoutExpired: p.kill()


class Page:
    "A browser on a page of widgets."
    def __init__(self, folder):
        o = webdriver.ChromeOptions()
        o.binary_location = browser
        for f in (*FLAGS, f'--user-data-dir={folder}'): o.add_argument(f)
        self.d = webdriver.Chrome(options=o, service=webdriver.ChromeService(str(driver)))
        self.d.set_page_load_timeout(10 * PATIENCE)
    def all(self, css): return self.d.find_elements(By.CSS_SELECTOR, css)
    def one(self, css): return settle(f'{css} is there', lambda: self.all(css)[0])
    def text(self, css) -> str: return settle(f'{css} is there', lambda: [e.get_attribute('textContent') for e in self.all(css)][0:1])[0]
    def says(self, css, pattern, seconds=PATIENCE) -> str:
        seen = []
        def look():
            seen[:] = [t := self.text(css)]
            return t if re.search(pattern, t) else None
        try: return settle(f'{css} says {pattern}', look, seconds)
        except AssertionError as e: raise AssertionError(f'{e}; it says {seen}') from None
    def click(self, css):
        e = self.one(css)
        self.d.execute_script('arguments[0].scrollIntoView({block: "center"})', e)
        e.click()
    def type(self, css, words):
        e = self.one(css)
        self.d.execute_script('arguments[0].scrollIntoView({block: "center"})', e)
        e.send_keys(Keys.CONTROL, 'a'); e.send_keys(words, Keys.TAB)
    def choose(self, css, value): settle(f'{css} has {value}', lambda: [o for o in Select(self.one(css)).options if value in o.text]); Select(self.one(css)).select_by_visible_text(next(o.text for o in Select(self.one(css)).options if value in o.text))
    def open(self, css):
        for e in self.all(css): self.d.execute_script('arguments[0].open = true', e)
    def picture(self, name, css, height=None):
        "Keep a picture of a part of the page, in 128 colours; with a height its top alone."
        if not (to := os.environ.get('WATTNB_SCREENSHOTS')): return
        import io
        from PIL import Image
        e = self.one(css)
        self.d.execute_script('arguments[0].scrollIntoView({block: "start"})', e)
        time.sleep(.5)
        image = Image.open(io.BytesIO(e.screenshot_as_png)).convert('RGB')
        image.crop((0, 0, image.width, height or image.height)).quantize(128, dither=Image.Dither.NONE).save(Path(to)/f'{name}.png', optimize=True)


@pytest.fixture(scope='module')
def lab(ws, server, tmp_path_factory):
    "JupyterLab with explore.ipynb, all cells run."
    folder = tmp_path_factory.mktemp('lab')
    for name, content in {'notebook-extension/tracker': dict(windowingMode='none'), 'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True)}.items():
        f = folder/f'settings/@jupyterlab/{name}.jupyterlab-settings'
        f.parent.mkdir(parents=True, exist_ok=True); f.write_text(json.dumps(content))
    nb = json.loads((ws.notebooks/'explore.ipynb').read_text())
    nb['cells'].append(dict(cell_type='code', id='sorted', metadata={}, outputs=[], execution_count=None,
                            source=["from wattnb.core.tables import ResultTable\n", "ResultTable(['n', 'square'], [(i, i * i if i % 7 else None) for i in range(60)])"]))
    (ws.notebooks/'explore.ipynb').write_text(json.dumps(nb))
    env = dict(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.url, PYTHONPATH=f'{root}{os.pathsep}{os.environ.get("PYTHONPATH", "")}', WATTNB_PROGRESS='0')
    args = [sys.executable, '-m', 'jupyter', 'lab', '--no-browser', '--allow-root', '--ServerApp.port={port}', '--IdentityProvider.token=a-token', f'--ServerApp.root_dir={ws.root}']
    with serving([args[0], *args[1:]], folder, env, 'http://127.0.0.1:{port}/lab/tree/nbs/explore.ipynb?token=a-token&reset') as url:
        page = Page(folder/'profile')
        try:
            page.d.get(url)
            page.one('.jp-NotebookPanel .jp-CodeCell')
            settle('the kernel is idle', lambda: page.all('.jp-NotebookPanel [data-status="idle"]') or page.all('.jp-Notebook-ExecutionIndicator[data-status="idle"]'))
            menu = lambda label: [e for e in page.all('.lm-MenuBar-item, .lm-Menu-item') if e.text.split('\n')[0].strip() == label][0]
            accept = lambda: [e.click() for e in page.all('.jp-Dialog .jp-mod-accept')] # a busy server is asked twice which kernel to use
            def started():
                assert not accept() # asked after the click, too: the first cells would run in another kernel
                return any(re.search(r'\[[*\d]', e.get_attribute('textContent')) for e in page.all('.jp-InputArea-prompt'))
            for _ in range(10): # a click before the notebook is connected is lost
                try:
                    settle('nothing is asked', lambda: not accept())
                    settle('the menu bar is there', lambda: menu('Run')).click()
                    settle('the menu opens', lambda: menu('Run All Cells'), 30).click()
                    settle('the cells start', started, 15)
                    break
                except (AssertionError, WebDriverException): page.d.find_element(By.TAG_NAME, 'body').send_keys(Keys.ESCAPE); time.sleep(2)
            def have_run():
                errors = [e.get_attribute('textContent') for e in page.all('.jp-OutputArea-output') if 'Traceback (most recent call last)' in e.get_attribute('textContent')]
                assert not errors, errors[0][-1000:]
                return page.all('.wattnb-ensemble') and page.all('.jp-RenderedHTML > table')
            settle('the cells have run', have_run)
            yield page
        finally: page.d.quit()


def nothing_leaks(page):
    html = page.d.page_source
    assert 'Traceback (most recent call last)' not in html and KEY not in html and 'sk-this' not in html


def question(ws): return read_questions(ws.data/'demo_QA.csv')[0]


def take(page, panel, q):
    "Choose a question of the file in a panel, and the preset that needs no embedder."
    page.choose(f'{panel} .wattnb-search select', 'words')
    page.type(f'{panel} .wattnb-question input', q.question)
    settle('the question is taken', lambda: page.one(f'{panel} .wattnb-unit input').get_attribute('value') == q.unit)


def test_a_model_streams_its_answer_with_linked_citations(lab, ws):
    q = question(ws)
    take(lab, '.wattnb-ask', q)
    lab.says('.wattnb-ask .wattnb-models', r'(?s)SmolLM2 135M.*This machine: ')
    lab.click('.wattnb-ask .wattnb-go')
    seen = set()
    def over():
        seen.update(e.text for e in lab.all('.wattnb-ask .wattnb-stream') if e.text.strip(' ▌'))
        return re.search('done', lab.text('.wattnb-ask .wattnb-line')) and lab.all('.wattnb-ask .wattnb-answer')
    settle('the model answers', over)
    assert seen, 'words appear before the end'
    lab.says('.wattnb-ask .wattnb-card', r'SmolLM2 135M · q4_1 · loading .* s · search .* s · generation .* s · .* tokens · (energy not measured|.* Wh)')
    lab.open('.wattnb-ask details')
    assert lab.all('.wattnb-ask .wattnb-hits mark') and 'gold paper at rank' in lab.text('.wattnb-ask .wattnb-hits')
    assert q.question in lab.text('.wattnb-ask .wattnb-card pre + b + pre')
    lab.d.execute_script('document.querySelectorAll(".wattnb-ask details").forEach(e => e.open = false)')
    nothing_leaks(lab)


def test_citations_lead_to_the_papers(lab, ws):
    lab.type('.wattnb-ask .wattnb-model input', 'extractive')
    lab.click('.wattnb-ask .wattnb-go')
    lab.says('.wattnb-ask .wattnb-card', r'Best passage')
    link = lab.one('.wattnb-ask .wattnb-answer a')
    assert re.fullmatch(r'\w+ et al\., 20\d\d|\w+( and \w+)?, 20\d\d', link.text) and link.get_attribute('href').startswith('https://papers.example.org/')
    assert '3184' in lab.text('.wattnb-ask .wattnb-value') and '✓ truth: 3184 MWh' in lab.text('.wattnb-ask .wattnb-card')
    lab.says('.wattnb-ask .wattnb-line', 'done')
    lab.says('.wattnb-ask .wattnb-hits', r'cited: Halvorsen et al\., 2029, page \d')
    lab.d.execute_script('document.querySelector(".wattnb-ask .wattnb-card details").open = true')
    lab.picture('explore-front', '.wattnb-ask', 560)
    lab.d.execute_script('document.querySelector(".wattnb-ask .wattnb-card details").open = false; document.querySelector(".wattnb-ask .wattnb-hits details").open = true')
    settle('the page is drawn', lambda: [i for i in lab.all('.wattnb-ask .wattnb-hits img') if i.size['width'] > 300])
    lab.picture('explore-ask', '.wattnb-ask', 1300)


def test_a_slow_model_blocks_nothing_and_can_be_cancelled(lab, server):
    before = server.calls
    lab.type('.wattnb-ask .wattnb-model input', 'openai:slow-model')
    lab.click('.wattnb-ask .wattnb-go')
    settle('the server was called', lambda: server.calls > before) # it hangs for ten minutes
    lab.says('.wattnb-ask .wattnb-line', r'waiting for the reply, since \d')
    lab.type('.wattnb-runs .wattnb-words input', 'tarn')  # the rest of the page stays responsive
    settle('the list follows', lambda: (o := Select(lab.one('.wattnb-runs .wattnb-list select')).options) and all('tarn' in x.text.lower() for x in o))
    lab.type('.wattnb-runs .wattnb-words input', Keys.BACKSPACE)
    lab.click('.wattnb-ask .wattnb-stop')
    lab.says('.wattnb-ask .wattnb-line', 'cancelled')
    lab.click('.wattnb-ask .wattnb-go') # the next call is answered
    lab.says('.wattnb-ask .wattnb-card', 'tokens .*the model runs elsewhere|energy not measured')
    lab.says('.wattnb-ask .wattnb-line', 'done') # the pictures move the page under the next click
    nothing_leaks(lab)


def test_an_error_is_one_line(lab):
    lab.type('.wattnb-ask .wattnb-model input', 'no-such-model')
    lab.click('.wattnb-ask .wattnb-go')
    assert '\n' not in lab.says('.wattnb-ask .wattnb-line .wattnb-error', "unknown model 'no-such-model'").strip()
    lab.type('.wattnb-ask .wattnb-model input', 'extractive')
    nothing_leaks(lab)


def test_two_models_side_by_side(lab, ws):
    lab.type('.wattnb-compare .wattnb-side0 .wattnb-model input', 'extractive')
    lab.type('.wattnb-compare .wattnb-side1 .wattnb-model input', 'abstain')
    take(lab, '.wattnb-compare', question(ws))
    lab.click('.wattnb-compare .wattnb-go')
    lab.says('.wattnb-compare .wattnb-line', 'done · one refuses · extractive right · abstain wrong')
    assert '3184' in lab.text('.wattnb-compare .wattnb-side0 .wattnb-value') and 'outside' in lab.text('.wattnb-compare .wattnb-side1 .wattnb-value')
    lab.picture('explore-compare', '.wattnb-compare')


def test_a_question_across_runs(lab, ws):
    files = {p: p.stat().st_mtime_ns for p in [*ws.data.glob('*.csv'), *ws.experiments.rglob('*')] if p.is_file() and '.lock' not in p.name}
    lab.choose('.wattnb-runs .wattnb-run select', 'extractive-bench')
    lab.type('.wattnb-runs .wattnb-words input', 'wrong_value')
    settle('the list is filtered', lambda: (o := Select(lab.one('.wattnb-runs .wattnb-list select')).options) and all('wrong_value' in x.text for x in o))
    rows = settle('both runs are shown', lambda: (r := lab.all('.wattnb-runs .wattnb-detail tbody tr')) and len(r) == 2 and r)
    assert 'wrong_value' in next(r.text for r in rows if 'extractive' in r.text)
    lab.open('.wattnb-runs details')
    lab.says('.wattnb-runs .wattnb-detail', '(?s)truth: .*prompt.*reply')
    lab.says('.wattnb-runs .wattnb-table', r'(?s)95 % interval.*extractive-bench.*0\.\d{3}–0\.\d{3}')
    lab.d.execute_script('document.querySelectorAll(".wattnb-runs details").forEach(e => e.open = false)')
    lab.picture('explore-runs', '.wattnb-runs')
    lab.type('.wattnb-runs .wattnb-words input', 'right')
    settle('another class is shown', lambda: (o := Select(lab.one('.wattnb-runs .wattnb-list select')).options) and all(' right ' in x.text for x in o))
    assert files == {p: p.stat().st_mtime_ns for p in files}, 'nothing is written'
    nothing_leaks(lab)


def test_an_ensemble_is_scored_as_it_is_ticked(lab):
    settle('two members are offered', lambda: len(lab.all('.wattnb-ensemble .wattnb-members input')) == 2)
    lab.click('.wattnb-ensemble .wattnb-members .widget-checkbox:nth-child(1) input')
    lab.says('.wattnb-ensemble .wattnb-result', 'tick two or more')
    lab.click('.wattnb-ensemble .wattnb-members .widget-checkbox:nth-child(2) input')
    lab.says('.wattnb-ensemble .wattnb-result', r'0\.\d{3} \[0\.\d+, .*against its best member.*wattnb ensemble --experiments')
    lab.choose('.wattnb-ensemble .wattnb-strategy select', 'canonical')
    lab.says('.wattnb-ensemble .wattnb-result', r'--strategy canonical')
    lab.picture('explore-ensemble', '.wattnb-ensemble')
    nothing_leaks(lab)


def test_tables_sort_and_fold(lab):
    "In the output of a cell: a click on a heading sorts by number, a second one the other way; missing values stay last; a long table folds."
    table = '.jp-RenderedHTML > details.wattnb-fold + table'
    column = lambda: [e.get_attribute('textContent') for e in lab.all(f'{table} tbody tr td:nth-child(2)')]
    shown = lambda: sum(e.is_displayed() for e in lab.all(f'{table} tbody tr'))
    assert shown() == 20 and len(column()) == 60
    lab.click(f'{table} th:nth-child(2)')
    known = [x for x in column() if x != '–']
    assert known == sorted(known, key=int) and column()[-9:] == ['–'] * 9
    lab.click(f'{table} th:nth-child(2)')
    known = [x for x in column() if x != '–']
    assert known == sorted(known, key=int, reverse=True) and column()[-9:] == ['–'] * 9
    lab.click('.jp-RenderedHTML > details.wattnb-fold summary')
    assert shown() == 60


def test_voila_serves_the_page(ws, tmp_path):
    "The same notebook as a page without code."
    pytest.importorskip('voila', reason='voila is not installed (extra voila)')
    env = dict(PYTHONPATH=f'{root}{os.pathsep}{os.environ.get("PYTHONPATH", "")}', WATTNB_PROGRESS='0', OPENAI_API_KEY=KEY)
    args = [sys.executable, '-m', 'voila', str(ws.notebooks/'explore.ipynb'), '--no-browser', '--port={port}', '--token=a-token'] + (['--Voila.root_dir=' + str(ws.root)])
    with serving(args, tmp_path, env, 'http://127.0.0.1:{port}/voila/static/voila.js') as url:
        page = Page(tmp_path/'profile')
        try:
            page.d.get(url.split('/voila/')[0] + '/?token=a-token')
            page.one('.wattnb-ensemble')
            assert not page.all('.jp-InputArea-editor') or not page.one('.jp-InputArea-editor').is_displayed()
            page.type('.wattnb-ask .wattnb-model input', 'extractive')
            take(page, '.wattnb-ask', question(ws))
            page.click('.wattnb-ask .wattnb-go')
            page.says('.wattnb-ask .wattnb-card', '3184')
            nothing_leaks(page)
        finally: page.d.quit()
