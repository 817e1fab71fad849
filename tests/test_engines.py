"""Engines that a run owns. llama.cpp is the real one, with the model that comes with wattnb. `vllm` is a command on PATH that takes vLLM's
arguments, writes the log that vLLM 0.32 wrote on a CPU (with sizes of a GPU), has a worker in a session of its own, and serves
`wattnb.testing.server`, which tells about itself what vLLM 0.32 tells."""
import json, os, signal, socket, subprocess, sys, time
from dataclasses import replace

import psutil, pytest

from conftest import words_workspace
from wattnb.cli.command import main
from wattnb.core.workspace import UserError, WorkError, read_json
from wattnb.experiment.execute import run_all
from wattnb.experiment.journal import read_journal
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.llm import served
from wattnb.llm.gguf import gguf_file
from wattnb.llm.protocol import Request, open_model
from wattnb.llm.registry import load_registry
from wattnb.scoring.run_folders import find_run

CANARY = 'hf_CANARY0123456789abcdef'
MODELS = '''
[model.tiny]
provider = "hf_local"
id = "nobody/tiny-7b"
params_b = 7
context = 4096
precision = "bf16"
revision = "abc123"
prices = { in = 100.0, out = 100.0 }
options = { tries = 2 }
'''
FAKE = '''#!%s
import argparse, json, os, subprocess, sys
p = argparse.ArgumentParser('vllm')
p.add_argument('verb', choices=['serve'])
p.add_argument('model')
for name in 'served-model-name host dtype quantization revision generation-config'.split(): p.add_argument(f'--{name}')
for name in 'port seed max-model-len max-num-seqs tensor-parallel-size'.split(): p.add_argument(f'--{name}', type=int)
p.add_argument('--gpu-memory-utilization', type=float)
p.add_argument('--enable-prompt-tokens-details', action='store_true')
a, mode, key = p.parse_args(), os.environ.get('FAKE_VLLM', ''), os.environ['VLLM_API_KEY']
api, core = f'(APIServer pid={os.getpid()})', '(EngineCore pid=1)'
info = lambda who, place, text: print(f'{who} INFO 11-28 06:57:17 [{place}] {text}', flush=True)
info(api, 'api_utils.py:286', f"non-default args: {{'model_tag': '{a.model}', 'api_key': ['{key}'], 'hf_token': '{os.environ.get('HF_TOKEN')}'}}")
worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
facts = dict(pids=[os.getpid(), worker.pid], argv=sys.argv[1:], gpus=os.environ.get('CUDA_VISIBLE_DEVICES'))
with open(os.environ['FAKE_FACTS'], 'a') as f: f.write(json.dumps(facts) + '\\n')
def fail(error):
    lines = ['Traceback (most recent call last):', '  File "core.py", line 1512, in run_engine_core', error]
    print(*(f'{core} ERROR 11-28 07:24:55 [core.py:1512] {s}' for s in lines), sep='\\n')
    sys.exit(f'{api} RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {{}}')
if mode == 'oom': fail('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB')
if mode == 'full': fail('ValueError: Available memory on node 0 (17.43/23.54 GiB) on startup is less than desired CPU memory utilization (0.99, 23.31 GiB).')
if mode == 'missing': raise OSError(f'{a.model} is not a local folder and is not a valid model identifier')
if mode == 'plugin':
    print('pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig')
    sys.exit("  Value error, Unknown quantization method: bitsandbytes. Must be one of ['awq', 'auto_awq'] [type=value_error]")
if mode == 'hang': import time; time.sleep(600)
if mode == 'noisy': print(f'token={key} ' + 'x' * 100, *(f'line {i} of {os.environ["HF_TOKEN"]}' for i in range(9000)), sep='\\n')
info(core, 'core.py:133', f"Initializing a V1 LLM engine (v0.32.0) with config: model='{a.model}', dtype=torch.bfloat16, quantization=None, device_config=cuda")
info(core, 'gpu_model_runner.py:5150', 'Model loading took 13.5 GiB memory and 3.200000 seconds')
info(core, 'gpu_worker.py:760', 'Available KV cache memory: 40.25 GiB')
info(api, 'entry.py:140', f'Starting vLLM server on http://{a.host}:{a.port}')
from wattnb.testing.server import FakeServer
class Server(FakeServer):
    def about(self, path, body):
        if path == '/tokenize':
            n = -(-len(body['prompt']) // 4)
            return dict(count=n, max_model_len=a.max_model_len, tokens=list(range(n)), token_strs=None)
        card = dict(id=a.served_model_name, object='model', created=0, owned_by='vllm', root=a.model, parent=None, max_model_len=a.max_model_len, permission=[])
        return dict(object='list', data=[card]) if path == '/v1/models' else None
    def _tell(self, h, body=None):
        if h.path == '/health': h.counted = False; return self._send(h, 200, {})
        if h.path == '/version': h.counted = False; return self._send(h, 200, dict(version='0.32.0'))
        FakeServer._tell(self, h, body)
    def _answer(self, h, body, fault):
        if h.headers.get('authorization') != f'Bearer {key}': return self._send(h, 401, dict(error=dict(message='no key')))
        FakeServer._answer(self, h, body, fault)
with Server('extractive', latency=.05, window=a.max_model_len, listen=a.port) as s: s._thread.join()
'''


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('ws'), models_toml=MODELS)


@pytest.fixture
def vllm(tmp_path, monkeypatch):
    "The command on PATH; what it was started with, one dict for each start."
    command = tmp_path/'vllm'
    command.write_text(FAKE % sys.executable)
    command.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
    monkeypatch.setenv('FAKE_FACTS', str(tmp_path/'facts'))
    monkeypatch.setenv('HF_TOKEN', CANARY)
    started = lambda: [json.loads(line) for line in (tmp_path/'facts').read_text().splitlines()] if (tmp_path/'facts').exists() else []
    yield started
    wait_until(lambda: not left(started()), 10)
    assert left(started()) == [], 'a process is left'


def left(started): return [p for s in started for p in s['pids'] if psutil.pid_exists(p) and psutil.Process(p).status() != 'zombie']


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end: time.sleep(.05)
    return true()


def settings(**kw): return RunSettings(**{'model': 'tiny', 'engine': 'vllm', 'env': 'e', 'preset': 'words', 'limit': 4, 'max_retries': 0, **kw})
def entry(**kw): return replace(load_registry()['qwen7b'].on_engine('vllm'), pypi=None, **kw)


# --- llama.cpp ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def llama(ws):
    pytest.importorskip('xllamacpp')
    plan = plan_run(settings(model='smollm2-135m', engine='', limit=2, max_new_tokens=12), ws)
    return plan, run_all(plan).summary


def test_llama_cpp_answers_the_demo(ws, llama):
    "The model of the demo, as it ships; precision and size are those of its file, and the log is in the run folder."
    plan, summary = llama
    assert plan.name == 'smollm2-135m-bench-words' and plan.identity['engine'] == 'llama.cpp' and plan.precision == 'q4_1'
    assert summary['by_status']['failed'] == 0 and summary['engine'] == 'llama.cpp' and summary['engine_version'].startswith('xllamacpp 20')
    e = summary['effective']
    assert (summary['precision'], e['quantization'], e['devices'], e['local']) == ('q4_1', 'q4_1', ['cpu'], True)
    assert e['memory']['weights_bytes'] == e['disk_bytes'] == 98362432 and e['memory']['kv_bytes'] == 23040 * e['context'] * e['slots']
    assert e['load_seconds'] > 0 and not psutil.pid_exists(e['pid']) and 'listening on http://127.0.0.1' in (plan.run_dir/'engine.log').read_text()
    rows = read_json(plan.run_dir/'results.json')
    assert all(r['tokens']['completion'] and r['attempts'][0]['seconds']['prefill'] for r in rows)
    assert find_run(ws, plan.name).engine == 'llama.cpp' and plan_run(plan.settings, ws).state == 'complete'
    assert 'engine' in plan.table.to_text()


def test_tables_name_the_engine(ws, llama, vllm):
    "A column where the runs have several engines, labels with the engine where the name has none; no estimate from another engine's times."
    from wattnb.benchmark.resources import estimate, read_past
    from wattnb.compare.paired import compare
    from wattnb.compare.results_matrix import matrix
    from wattnb.experiment.stored import results_table
    name = llama[0].name
    assert not {'engine', 'precision'} & set(results_table(ws, 'e').columns)
    run_all(plan_run(settings(name='other', limit=2, model='tiny'), ws))
    assert {r['run']: r['engine'] for r in results_table(ws, 'e')} | {name: 'llama.cpp', 'other': 'vllm'} == {r['run']: r['engine'] for r in results_table(ws, 'e')}
    ranking = compare(ws, [name, 'other'], env='e').ranking
    assert {r['run']: r['engine'] for r in ranking} == {f'{name} (llama.cpp)': 'llama.cpp', 'other (vllm)': 'vllm'}
    for rows in (ranking, results_table(ws, 'e')): assert {r['engine']: r['precision'] for r in rows} == {'llama.cpp': 'q4_1', 'vllm': 'bf16'}
    assert [find_run(ws, x).summary['timing']['latency_is'][:36] for x in (name, 'other')] == ['one question at a time', 'of each question by itself, with up to'[:36]]
    assert 'other (vllm)' in matrix(ws, 'e').parts[0].models
    smol, past = load_registry()['smollm2-135m'], [p for p in read_past(ws) if p.engine == 'llama.cpp']
    assert estimate(smol.on_engine('transformers'), 'q4_1', 5, past).seconds is None and estimate(smol, 'q4_1', 5, past).seconds > 0


def test_transformers_keeps_its_identity(ws):
    "Runs of the reference engine are the same runs as before there were engines."
    plan = plan_run(settings(model='smollm2-360m', engine='', limit=2), ws)
    assert plan.entry.engine == 'transformers' and 'engine' not in plan.identity and plan.name == 'smollm2-360m-bench-words'
    assert plan_run(settings(model='smollm2-360m', engine='transformers', limit=2), ws).identity == plan.identity
    other = plan_run(settings(model='smollm2-135m', engine='transformers', limit=2), ws)
    assert other.name == 'smollm2-135m-bench-transformers-words' and 'engine' not in other.identity, 'its own engine is llama.cpp'


def test_a_gguf_file_is_a_model(ws, tmp_path):
    "By its path, with the settings of the model that its name tells; its content is part of the identity."
    file = tmp_path/'SmolLM2-135M-Instruct.Q4_1.gguf'
    file.write_bytes(gguf_file(load_registry()['smollm2-135m']).read_bytes())
    plan = plan_run(settings(model=str(file), engine=''), ws)
    assert (plan.entry.engine, plan.precision, plan.entry.like) == ('llama.cpp', 'q4_1', 'smollm2-135m') and plan.identity['weights']
    with open(file, 'r+b') as f: f.seek(file.stat().st_size - 100); f.write(b'changed')
    assert plan_run(settings(model=str(file), engine=''), ws).identity['weights'] != plan.identity['weights']
    with pytest.raises(UserError, match='its GGUF file is q4_1, and 8bit was asked for'): plan_run(settings(model=str(file), engine='', precision='8bit'), ws)


def test_a_gguf_that_is_missing_or_damaged(ws, tmp_path):
    pytest.importorskip('xllamacpp')
    with pytest.raises(UserError, match='tiny has no GGUF file'): run_all(plan_run(settings(engine='llama.cpp'), ws))
    file = tmp_path/'bad.gguf'
    file.write_bytes(b'GGUF' + bytes(100))
    with pytest.raises(WorkError, match='bad.gguf|could not start'): open_model(load_registry().find(str(file)))


def test_one_at_a_time_is_streamed(ws):
    "Latency mode: one slot, with the time to the first token."
    pytest.importorskip('xllamacpp')
    with open_model(load_registry()['smollm2-135m'].on_engine('llama.cpp'), latency_mode=True, prompt_tokens=100) as m:
        r, = m.complete([Request('q', '', 'Say yes.', max_tokens=4)])
    assert r.ok and r.ttft_seconds > 0 and m.info['slots'] == 1 and r.logprobs


# --- vLLM --------------------------------------------------------------------------------------------------------------

def test_vllm_is_started_as_the_run_asks(ws, vllm, monkeypatch):
    from wattnb.core.hardware import visible_gpus
    from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
    with simulated_nvml([SimulatedGpu(), SimulatedGpu()]):
        uuids = [g.uuid for g in visible_gpus()]
        with open_model(replace(load_registry(ws)['tiny'].on_engine('vllm'), options={}), seed=7, prompt_tokens=1000, batch_size=8) as m:
            r, = m.complete([Request('q', 'Be brief.', 'How much energy?', max_tokens=32)])
    start, = vllm()
    argv = dict(zip(start['argv'], start['argv'][1:]))
    assert r.ok and m.info['not_sent'] == [] and start['gpus'] == ','.join(uuids) and m.info['devices'] == uuids
    assert start['argv'][:2] == ['serve', 'nobody/tiny-7b'] and argv['--revision'] == 'abc123' and argv['--dtype'] == 'bfloat16'
    assert (argv['--seed'], argv['--generation-config'], argv['--max-num-seqs'], argv['--tensor-parallel-size']) == ('7', 'vllm', '8', '2')
    assert int(argv['--max-model-len']) == m.info['context'] == 2304 and argv['--host'] == '127.0.0.1'
    assert m.info['memory'] == dict(weights_bytes=round(13.5 * 2**30), kv_bytes=round(40.25 * 2**30))
    assert '--enable-prompt-tokens-details' in start['argv'] and m.info['concurrency'] == 8
    assert (m.info['engine_version'], m.info['effective_dtype'], m.info['pid']) == ('0.32.0', 'bfloat16', start['pids'][0])


def test_a_server_that_is_killed_costs_no_question(ws, vllm):
    plan = plan_run(settings(name='killed', limit=12, batch_size=4), ws)
    seen = []
    def kill(done, n):
        if done == 3 and not seen: seen.append(vllm()[0]['pids'][0]); os.kill(seen[0], signal.SIGKILL)
    summary = run_all(plan, on_progress=kill).summary
    assert seen and summary['by_status']['failed'] == 0 and len(vllm()) == 2 and summary['status'] == 'complete'


def test_a_server_that_never_lives_long_is_given_up(ws, vllm, monkeypatch):
    monkeypatch.setattr(served, 'MOST_RESTARTS', 1)
    with open_model(load_registry(ws)['tiny'].on_engine('vllm'), batch_size=4) as m:
        replies = []
        for r in m.stream([Request(str(i), '', 'x') for i in range(20)]):
            replies.append(r)
            for s in vllm(): # it dies again and again
                try: os.kill(s['pids'][0], signal.SIGKILL)
                except ProcessLookupError: pass
    assert len(replies) == 20 and {r.id for r in replies} == set(map(str, range(20))) and any(r.error for r in replies) and len(vllm()) == 2


RUN = '''
import sys
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
run_all(plan_run(RunSettings(**{settings!r}), {root!r}))
'''

def test_nothing_is_left_of_a_run_that_is_killed_and_it_resumes(ws, vllm):
    s = dict(model='tiny', engine='vllm', env='e', preset='words', limit=40, max_retries=0, name='sigkill', batch_size=1)
    child = subprocess.Popen([sys.executable, '-c', RUN.format(settings=s, root=str(ws.root))], stderr=subprocess.DEVNULL)
    journal = ws.experiments/'e/demo_QA/sigkill/journal.jsonl'
    assert wait_until(lambda: journal.exists() and len(read_journal(journal).attempts) > 2, 120)
    child.kill(); child.wait()
    assert wait_until(lambda: not left(vllm()), 20), 'the server outlived the run'
    plan = plan_run(RunSettings(**s), ws)
    assert plan.state == 'resume' and 2 < plan.done < 40
    summary = run_all(plan).summary
    assert summary['status'] == 'complete' and summary['by_status']['failed'] == 0 and len(vllm()) == 2


def test_doctor_says_what_an_installed_engine_lacks(tmp_path, monkeypatch, capsys):
    (tmp_path / 'xllamacpp.py').write_text("raise ImportError('libgomp.so.1: cannot open shared object file: No such file or directory')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'xllamacpp', raising=False)
    assert main(['doctor']) == 0
    [line] = [l for l in capsys.readouterr().out.splitlines() if l.startswith('llama.cpp:')]
    assert 'libgomp.so.1' in line and 'apt-get install libgomp1' in line


def test_an_engine_is_part_of_the_identity(ws, vllm):
    plan = plan_run(settings(name='mine', limit=1), ws)
    run_all(plan)
    assert plan_run(settings(name='mine', limit=1), ws).state == 'complete'
    with pytest.raises(UserError, match='holds another run .*engine: vllm → none'): plan_run(settings(name='mine', engine='transformers', limit=1), ws)


def test_a_budget_stops_an_owned_server(ws, vllm):
    "The prices of a user's machine, as a limit; no limit in Wh where nothing measures it."
    free = run_all(plan_run(settings(name='free', limit=12, max_new_tokens=50), ws)).summary
    s = settings(name='budget', limit=12, max_usd=free['cost_usd'] / 2, max_new_tokens=50, batch_size=4)
    part = run_all(plan_run(s, ws)).summary
    assert part['status'] == 'budget' and 0 < part['cost_usd'] <= s.max_usd and left(vllm()) == []
    whole = run_all(plan_run(replace(s, max_usd=1e3), ws)).summary
    assert whole['status'] == 'complete' and whole['by_status']['failed'] == 0
    with pytest.raises(UserError, match='max_wh: no meter works here'): run_all(plan_run(settings(name='wh', max_wh=1.), ws))


def test_a_port_that_is_taken(ws, vllm, monkeypatch):
    "Another program has taken the port between the choice and the start."
    with socket.create_server(('127.0.0.1', 0)) as other:
        ports, real = [other.getsockname()[1]], served.free_port
        monkeypatch.setattr(served, 'free_port', lambda: ports.pop() if ports else real())
        monkeypatch.setenv('WATTNB_DEVICE', 'cpu')
        with open_model(load_registry(ws)['tiny'].on_engine('vllm')) as m: assert m.complete([Request('q', '', 'x')])[0].ok
    assert len(vllm()) == 2
    assert {s['gpus'] for s in vllm()} == {''}, 'no GPU is shown to it'


@pytest.mark.parametrize('mode, why', [('oom', 'does not fit into memory as vllm loads it .*20.00 GiB.*--precision 4bit'),
                                       ('full', r'does not fit into memory as vllm loads it \(ValueError: Available memory on node 0'),
                                       ('plugin', 'this vLLM has no bitsandbytes .*pip install vllm-bnb-plugin'),
                                       ('missing', 'vllm could not start tiny: OSError: nobody/tiny-7b is not a local folder')])
def test_a_start_that_fails_is_one_line(ws, vllm, monkeypatch, mode, why):
    monkeypatch.setenv('FAKE_VLLM', mode)
    plan = plan_run(settings(name=mode), ws)
    with pytest.raises(WorkError, match=why) as e: run_all(plan)
    assert '\n' not in str(e.value) and CANARY not in str(e.value) and left(vllm()) == []
    assert mode == 'plugin' or 'Traceback' in (plan.run_dir/'engine.log').read_text()


def test_a_start_that_hangs(ws, vllm, monkeypatch):
    monkeypatch.setenv('FAKE_VLLM', 'hang')
    e = replace(load_registry(ws)['tiny'].on_engine('vllm'), options=dict(load_timeout=4.))
    with pytest.raises(WorkError, match='was not ready after 4 s'): open_model(e)


def test_a_log_is_short_and_has_no_secrets(ws, vllm, monkeypatch):
    monkeypatch.setenv('FAKE_VLLM', 'noisy')
    plan = plan_run(settings(name='noisy', limit=1), ws)
    run_all(plan)
    text = (plan.run_dir/'engine.log').read_text()
    assert CANARY not in text and text.count('[redacted]') > 1000 and 'lines are left out' in text and len(text) < 200_000
    for f in plan.run_dir.iterdir(): assert CANARY not in f.read_text(errors='replace')


def test_what_an_engine_cannot_do_is_said_while_planning(ws, vllm, monkeypatch):
    with pytest.raises(UserError, match='tiny: vllm has no 8bit: one of auto, bf16'): plan_run(settings(precision='8bit'), ws)
    with pytest.raises(UserError, match='engine vllm: gpt-4o-mini runs at openai'): plan_run(settings(model='gpt-4o-mini'), ws)
    with pytest.raises(UserError, match='sampling = model .* tiny runs at vllm'): plan_run(settings(sampling='model'), ws)
    with pytest.raises(UserError, match="unknown engine 'vlm': one of transformers, llama.cpp"): settings(engine='vlm')
    with pytest.raises(UserError, match='vllm has no option device'): open_model(entry(options=dict(device='cpu')))
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(UserError, match='tiny runs on vllm, and there is no vllm here: pip install vllm'): plan_run(settings(), ws)
    with pytest.raises(UserError, match='there is no ollama here: see ollama.com'): plan_run(settings(model='ollama:qwen2.5:7b', engine=''), ws)
    assert vllm() == []


def test_a_server_that_runs_already_is_used(ws, tmp_path):
    "Attached, not owned: it answers, and it is there afterwards."
    from wattnb.testing.server import FakeServer
    with FakeServer('extractive', window=4096, slots=2) as s:
        with open_model(entry(options=dict(base_url=s.url))) as m: assert m.complete([Request('q', '', 'x')])[0].ok
        assert (m.info['engine'], m.info['local'], m.info['slots']) == ('vllm', True, 2)
        ws.models_toml.write_text(ws.models_toml.read_text() + f'\n[model.there]\nprovider = "hf_local"\nid = "x"\nprecision = "bf16"\nengine = "vllm"\noptions = {{ base_url = "{s.url}" }}\n')
        run_all(plan := plan_run(settings(model='there', limit=1), ws))
        assert (x := read_json(plan.run_dir/'summary.json'))['precision'] == 'bf16' and x['precision_note'] == 'bf16 as planned: vllm does not say', x['precision_note']
        with open_model(entry(options=dict(base_url=s.url))) as m: assert m.complete([Request('q', '', 'x')])[0].ok
