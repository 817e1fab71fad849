"Benchmarks: allocation on random machines, deadlines met by models that hang in native code, skips with reasons, scaling."
import io, json, os, signal, socket, subprocess, sys, threading, time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings as hyp, strategies as st

from conftest import plug
from wattnb.benchmark.progress import Benchmark, ProgressTable, Watch
from wattnb.benchmark.plan import BenchmarkSettings, need, plan_benchmark, run_argv, this_machine
from wattnb.compare.thinking import price_thinking
from wattnb.benchmark.runner import LocalExecutor, is_member, run_benchmark, run_members
from wattnb.experiment.stages import Run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.plan import plan_run
from wattnb.experiment.execute import run_all
from wattnb.llm.registry import load_registry
from wattnb.testing.simulated import SimulatedGpu, simulated_nvml
from wattnb.benchmark.resources import HEADROOM, Allocation, Allocator, RunEstimate, Machine, Need, estimate, need_of, read_past
from wattnb.core.workspace import UserError, Workspace, environment, read_json
from wattnb.scoring.numbers import run_numbers
from wattnb.scoring.run_folders import GroundTruth, find_run
from wattnb.testing.server import FakeServer


@pytest.fixture(autouse=True)
def clean_env(monkeypatch):
    for k in ('IN_TEST', 'OPENAI_API_KEY', 'OPENAI_BASE_URL', 'OPENROUTER_API_KEY'): monkeypatch.delenv(k, raising=False)
    monkeypatch.setenv('WATTNB_PROGRESS', '0')


# --- allocation ------------------------------------------------------------------------------------------------------
gb = st.floats(1, 200).map(lambda x: round(x, 1))
needs = st.builds(Need, gpu_gb=st.one_of(st.none(), gb, st.just(float('inf'))), host_gb=st.one_of(st.just(0.), gb))
machines = st.builds(lambda sizes, slots, host, share: Machine('m', tuple((str(k), g) for k, g in enumerate(sizes)), slots, host, share),
                     st.lists(gb, max_size=4), st.integers(1, 3), st.floats(50, 400), st.booleans())


@hyp(max_examples=500)
@given(machines, st.lists(st.tuples(needs, st.booleans()), max_size=40))
def test_no_allocation_exceeds_the_machine_and_all_of_them_can_be_released(m, steps):
    allocator, held, sizes = Allocator(m), [], dict(m.devices)
    for wanted, take in steps:
        if held and not take: allocator.release(held.pop(0)); continue
        a = allocator.allocate(wanted)
        if a is None: assert m.obstacle(wanted) or held, 'what fits an idle machine starts'; continue
        held.append(a)
        assert not m.obstacle(wanted) and sum(x.need.host_gb for x in held) <= m.host_gb
        assert sum(not x.devices for x in held) <= m.slots
        if wanted.gpu_gb is not None: assert a.devices and (wanted.gpu_gb == float('inf') or HEADROOM * sum(sizes[d] for d in a.devices) >= wanted.gpu_gb - 1e-9)
        for d in sizes:
            on = [x for x in held if d in x.devices]
            if len(on) > 1:
                assert m.share and sum(x.need.gpu_gb for x in on) <= HEADROOM * sizes[d] + 1e-9, 'two on one GPU only where they fit'
                assert all(len(x.devices) == 1 for x in on)
    for a in held: allocator.release(a)
    assert not allocator.active and allocator.free() == allocator.capacity
    for wanted, _ in steps:
        a = Allocator(m).allocate(wanted)
        assert (a is not None) == (not m.obstacle(wanted))


def test_runs_start_longest_first(ws):
    from wattnb.benchmark.plan import PlannedRun
    from wattnb.benchmark.runner import _longest_first
    runs = [PlannedRun(n, '', 0, 'wait', need_gb=gb, estimate=RunEstimate(s)) for n, gb, s in (('short', 1., 10.), ('long', 1., 100.), ('unknown', 1., None), ('longer', 2., 100.))]
    assert [r.model for r in _longest_first(runs)] == ['unknown', 'longer', 'long', 'short']


# --- deadlines -------------------------------------------------------------------------------------------------------
HANG = '''
import ctypes, os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, '-c', 'import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); '
                  'os.setsid(); open(os.environ["PIDS"], "a").write(f"{os.getpid()}\\\\n"); time.sleep(600)'])
open(os.environ['PIDS'], 'a').write(f'{os.getpid()}\\n')
'''


def wait_for(what, seconds=300):
    "Whether `what()` became true: at once in a quiet machine, and within the time of a test in a busy one."
    end = time.monotonic() + seconds
    while not (got := what()) and time.monotonic() < end: time.sleep(.05)
    return got


def alive(path):
    pids = [int(x) for x in Path(path).read_text().split()] if Path(path).exists() else []
    return [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]


class NeverAnswers:
    "A server on this machine that accepts calls and sends nothing."
    def __enter__(self):
        self.s = socket.create_server(('127.0.0.1', 0)); self.kept = []
        threading.Thread(target=self._accept, daemon=True).start()
        return f'http://127.0.0.1:{self.s.getsockname()[1]}/v1'
    def _accept(self):
        while True:
            try: self.kept.append(self.s.accept())
            except OSError: return
    def __exit__(self, *a):
        self.s.close()
        for c, _ in self.kept: c.close()


def test_a_model_that_hangs_in_native_code_is_gone_after_its_deadline(ws, tmp_path, monkeypatch):
    """The kernel of the run sleeps inside C with the interpreter lock held (no signal handler, no thread can run), ignores SIGTERM and
    has a child in another session that ignores it too. The next run starts, the benchmark ends, the journal stays intact."""
    folder = tmp_path / 'plug'; folder.mkdir()
    (folder / 'sitecustomize.py').write_text(plug('HANG_MODEL', f'''
def stream(self, requests):
    if self.entry.key != os.environ['HANG_MODEL']: yield from real(self, requests); return
    for i, r in enumerate(real(self, requests)):
        if i == 3:
            exec({HANG!r})
            import ctypes; ctypes.PyDLL(None).sleep(600)
        yield r
'''))
    pids = tmp_path / 'pids'
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(folder), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)); monkeypatch.setenv('HANG_MODEL', 'extractive'); monkeypatch.setenv('PIDS', str(pids))
    for seconds in (12, 48, 320): # a busy machine may not come as far as to hang
        pids.unlink(missing_ok=True)
        s = BenchmarkSettings(models=('extractive', 'abstain'), preset='words', env=f'hang{seconds}', limit=8, timeout=seconds / 60)
        b = run_benchmark(plan_benchmark(s, ws), s)
        state = {r.model: r for r in b.runs}
        if pids.exists() and len(pids.read_text().split()) == 2 and state['abstain'].state == 'pass': break
    assert state['abstain'].state == 'pass' and state['extractive'].state == 'fail', b
    assert 'resumes it' in state['extractive'].reason and len(Path(pids).read_text().split()) == 2
    assert not alive(pids), 'the whole tree is gone'
    part = read_json(state['extractive'].run_dir / 'summary.json')
    assert part['status'] == 'interrupted' and part['n_completed'] == 3
    monkeypatch.delenv('HANG_MODEL')
    again = plan_benchmark(s, ws)
    assert {r.model: (r.state, r.done) for r in again} == {'extractive': ('wait', 3), 'abstain': ('skip', 8)}
    run_all(next(r.plan for r in again if r.model == 'extractive')) # as the same command would, without another kernel
    assert all(r.state == 'skip' and r.reason == 'complete' for r in plan_benchmark(s, ws))


def test_a_run_that_another_machine_began(ws):
    "Alone it is refused, in the plan; on a cluster, and with `allow_mixed`, it is resumed and labelled mixed."
    s = BenchmarkSettings(models=('extractive',), preset='words', env='moved', limit=4)
    [r] = plan_benchmark(s, ws)
    with simulated_nvml([SimulatedGpu(100., period=.02)]):
        with Run(r.plan) as run:
            run.load()
            with pytest.raises(KeyboardInterrupt): run.answer(lambda done, n: (_ for _ in ()).throw(KeyboardInterrupt()))
            run.stop()
    [r] = plan_benchmark(s, ws)
    assert r.state == 'fail' and 'was begun on' in r.reason and '--allow-mixed' in r.reason
    s = replace(s, allow_mixed=True)
    [r] = plan_benchmark(s, ws)
    assert r.state == 'wait' and 0 < r.done < 4 and '--allow-mixed' in run_argv(r.plan.settings, '{root}')
    assert len(run_all(r.plan).summary['machine']['mixed']) == 2


def test_a_server_that_never_answers_does_not_hold_up_the_benchmark(ws, monkeypatch):
    with NeverAnswers() as url:
        monkeypatch.setenv('OPENAI_BASE_URL', url)
        s = BenchmarkSettings(models=('openai:silent',), preset='words', env='silent', limit=2, timeout=12 / 60)
        b = run_benchmark(plan_benchmark(s, ws), s)
        assert b.failed[0].reason.startswith('stopped after')


@pytest.mark.skipif(os.name != 'posix', reason='signals')
@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_started_it(ws, tmp_path, how):
    pids = tmp_path / 'pids'
    code = f'''
import sys, time
from wattnb.core.processes import Supervised
p = Supervised([sys.executable, '-c', {HANG!r} + 'import ctypes; ctypes.PyDLL(None).sleep(600)'], grace=.5)
time.sleep(600)'''
    p = subprocess.Popen([sys.executable, '-c', code], env={**os.environ, 'PIDS': str(pids)})
    assert wait_for(lambda: len(alive(pids)) == 2)
    p.send_signal(how); p.wait()
    assert wait_for(lambda: not alive(pids), 60)


def test_an_interrupted_benchmark_records_it_and_can_be_resumed(ws):
    s = BenchmarkSettings(models=('extractive',), preset='words', env='stopped')
    def stop(b):
        if b.runs[0].state == 'run' and b.runs[0].done: raise KeyboardInterrupt
    runs = plan_benchmark(s, ws)
    with pytest.raises(KeyboardInterrupt): run_benchmark(runs, s, stop, poll=.05)
    saved = read_json(runs[0].run_dir.parent / 'benchmark.json')
    assert saved['runs'][0]['state'] == 'fail' and 'resumes' in saved['runs'][0]['reason']
    assert not [p for p in psutil.process_iter() if _marked(p, str(runs[0].run_dir.parent))], 'no child is left'
    assert plan_benchmark(s, ws)[0].state == 'wait'


def test_array_tasks_of_one_env_share_a_list(ws):
    for model in ('abstain', 'extractive'): # two tasks of one array job: each plans one model, their runs lie side by side
        s = BenchmarkSettings(models=(model,), preset='words', env='array', limit=2)
        b = run_benchmark(plan_benchmark(s, ws), s, poll=.05)
        assert [r.state for r in b.runs] == ['pass'], b
    path = b.folder / 'benchmark.json'
    saved = read_json(path)
    assert sorted(r['model'] for r in saved['runs']) == ['abstain', 'extractive'] and saved['counts'] == {'pass': 2}
    b.write()
    assert len(read_json(path)['runs']) == 2, 'written again, none is listed twice'
    path.write_text('{"runs": [{"run_dir"')
    b.write()
    assert [r['model'] for r in read_json(path)['runs']] == ['extractive'], 'a damaged list is written anew'


def _marked(p, text):
    try: return any(text in a for a in p.cmdline())
    except psutil.Error: return False


# --- plan --------------------------------------------------------------------------------------------------------------
def test_sweeps_multiply_and_names_differ(ws):
    s = BenchmarkSettings(models=('abstain', 'smollm2-135m'), engine='transformers', precisions=('fp32', 'bf16', 'bf16'), seeds=(0, 1), preset='words', env='sweep')
    runs = plan_benchmark(s, ws)
    assert sorted(r.model for r in runs) == ['abstain'] * 2 + ['smollm2-135m'] * 4, 'baselines are not swept over precisions'
    assert len({r.run_dir for r in runs}) == 6 and all(r.state == 'wait' for r in runs)
    smoke = plan_benchmark(replace(s, smoke_test=True), ws)
    assert len({r.run_dir for r in smoke}) == 6 and all(r.n == 1 and '-smoke' in r.name for r in smoke)


def test_levels_of_effort_are_an_axis(ws, monkeypatch):
    "A run per level a model can be told, in the plan, the names, the hash, what the server is asked, and the table of thinking."
    monkeypatch.setenv('OPENAI_API_KEY', 'x')
    s = BenchmarkSettings(models=('openai:gpt-5-mini',), preset='words', env='effort', limit=3, seeds=(0, 1), efforts=('low', 'high', '512'))
    runs = plan_benchmark(s, ws)
    text = Benchmark(runs, s, [this_machine(s)]).to_text()
    assert [(r.seed, r.effort, r.state) for r in runs] == [(i, e, 'skip' if e == '512' else 'wait') for i in (0, 1) for e in s.efforts] and 'effort' in text
    todo = [r for r in runs if r.plan]
    assert len({r.plan.run for r in todo}) == 4 == len({r.name for r in todo if f'effort-{r.effort}' in r.name}) and 'effort 512: tokens' in text
    one, = plan_benchmark(replace(s, models=('extractive',), efforts=('', 'low'), seeds=(0,)), ws)[:1]
    assert (one.state, one.effort, one.reason) == ('wait', '', '')
    both = {r.model: r for r in plan_benchmark(replace(s, models=('abstain', 'gpt-4.1-nano'), efforts=('low',), seeds=(0,)), ws)}
    assert both['abstain'].reason == 'can be told no effort: one run without' and both['gpt-4.1-nano'].effort == 'low'
    with pytest.raises(UserError, match='effort low: abstain'): plan_benchmark(replace(s, models=('abstain',), efforts=('low',)), ws)
    thoughts = lambda reply, body: reply | dict(usage=reply['usage'] | dict(
        completion_tokens=reply['usage']['completion_tokens'] + (k := dict(low=50, high=900)[body['reasoning_effort']]), completion_tokens_details=dict(reasoning_tokens=k)))
    with FakeServer('extractive', change=thoughts) as server:
        monkeypatch.setenv('OPENAI_BASE_URL', server.url)
        for r in plan_benchmark(replace(s, seeds=(0,)), ws):
            if r.plan: run_all(r.plan)
    found = price_thinking(ws, env='effort')
    assert [(x['effort'], x['thought_tokens']) for x in found.levels] == [('low', 50), ('high', 900)]
    assert [(p['without'][-3:], p['thinking'][-4:]) for p in found.prices if p['kind'] == 'all'] == [('low', 'high')]


def test_reasons(ws):
    with open(ws.models_toml, 'a') as f:
        f.write('\n[model.oversized]\nname = "Oversized"\nfamily = "oversized"\nprovider = "hf_local"\nid = "example/oversized"\nparams_b = 5000\n')
    s = BenchmarkSettings(models=('oversized', 'gpt-4.1-nano', 'abstain'), preset='words', env='why', limit=3)
    why = {r.model: (r.state, r.reason) for r in plan_benchmark(s, ws)}
    assert why['abstain'] == ('wait', '') and why['oversized'][0] == 'skip' and 'GB' in why['oversized'][1]
    assert why['gpt-4.1-nano'][0] == 'skip' and 'OPENAI_API_KEY' in why['gpt-4.1-nano'][1]
    text = Benchmark(plan_benchmark(s, ws), s, [this_machine(s)]).to_text()
    assert 'RUN' in text and 'SKIP' in text and '1 to run' in text


def test_a_folder_in_use_is_skipped_with_its_owner(ws):
    from wattnb.core.workspace import folder_lock
    s = BenchmarkSettings(models=('abstain',), preset='words', env='busy', limit=3)
    [r] = plan_benchmark(s, ws)
    with folder_lock(r.run_dir, 'wattnb run of a colleague'):
        p = subprocess.run([sys.executable, '-c', f'from wattnb.benchmark import *; [r] = plan_benchmark({s!r}, {str(ws.root)!r}); print(r.state, r.reason)'],
                           capture_output=True, text=True)
    assert p.stdout.startswith('skip') and 'colleague' in p.stdout, p


def test_estimates_come_from_earlier_runs(ws):
    run_all(plan_run(RunSettings('abstain', env='past', preset='words', limit=5), ws))
    past = read_past(ws)
    assert any(p.model_id == 'abstain' and p.host == socket.gethostname() for p in past)
    e = estimate(load_registry(ws)['abstain'], 'auto', 10, past)
    assert e.seconds is not None and 'abstain' in e.basis and e.wh is None or e.wh >= 0
    assert estimate(load_registry(ws)['qwen7b'], '4bit', 10, [], host='elsewhere').seconds is None
    assert need_of(load_registry(ws)['abstain'], 'auto', past, False) == (None, '')


def past_run(ws, name, hardware, effective, precision='4bit'):
    "A complete run of qwen7b, as its summary records it."
    e = load_registry(ws)['qwen7b']
    folder = ws.root / 'artifacts/experiments/needs/demo_QA' / name
    folder.mkdir(parents=True)
    (folder / 'summary.json').write_text(json.dumps(dict(name=name, schema_version=1, status='complete', model_id=e.id, llm_provider='hf_local', quantization=precision, num_questions=2,
        total_time_seconds=20., avg_latency_seconds=10., overall_score=.5, identity=dict(mode='rag', precision=precision), hardware=dict(hostname=socket.gethostname(), **hardware), effective=effective)))
    (folder / 'results.json').write_text('[]')


def test_what_a_model_needs_is_never_the_peak_of_a_batch_that_fills_the_card(ws, tmp_path):
    "A batch takes what is free: a run that held 47.2 GB on a large card does not show what the model needs."
    from wattnb.llm.requirements import estimate_vram
    e, w = load_registry(ws)['qwen7b'], Workspace(tmp_path)
    (tmp_path / 'data').mkdir()
    filled = dict(gpu_vram_allocated_gb=47.2, gpu_vram_reserved_gb=50., cpu_rss_peak_gb=60.)
    past_run(w, 'old', filled, dict(device='cuda:0'))
    past = read_past(w)
    assert [p.run for p in past] and need_of(e, '4bit', past, True) == need_of(e, '4bit', past, False) == (estimate_vram(e, '4bit'), 'estimated')
    told = dict(weights_bytes=5_850_000_000, kv_bytes_per_token=57_344, load_peak_bytes=6_400_000_000, steady_peak_bytes=47_200_000_000)
    past_run(w, 'new', filled, dict(device='cuda:0', **told))
    need, how = need_of(e, '4bit', read_past(w), True)
    assert how == 'measured' and 5.85 + .47 < need < 8, need
    assert need_of(e, '4bit', read_past(w), False)[1] == 'estimated', 'weights on a processor are others'
    past_run(w, 'heavy-load', filled, dict(device='cuda:0', **dict(told, load_peak_bytes=12_000_000_000)))
    assert need_of(e, '4bit', read_past(w), True) == (12., 'measured'), 'it must be loaded first'


@pytest.mark.parametrize('shown, gpus, meant', [(None, (0, 1), [0, 1]), ('2,3', (0,), [2]), ('3,2', (0, 1), [3, 2]), ('GPU-00000001', (0,), [1])])
def test_gpus_are_numbered_as_this_process_sees_them(ws, tmp_path, monkeypatch, shown, gpus, meant):
    "Inside CUDA_VISIBLE_DEVICES=2,3 device 0 is the machine's third: workers get UUIDs, which mean the same everywhere."
    from wattnb.benchmark import runner as benchmark
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if shown is not None: monkeypatch.setenv('CUDA_VISIBLE_DEVICES', shown)
    monkeypatch.setattr(benchmark, 'run_argv', lambda *a: ['-c', 'import os; print(os.environ["CUDA_VISIBLE_DEVICES"])'])
    with simulated_nvml([SimulatedGpu(memory_gb=10. * (k + 1)) for k in range(4)]) as driver:
        s = BenchmarkSettings(models=('abstain',), preset='words', env='uuids', limit=1, gpus=gpus)
        [r] = plan_benchmark(s, ws)
        here, got = LocalExecutor(this_machine(s)), []
        assert [round(size / 1.073741824) for _, size in here.machine.devices] == [10 * (k + 1) for k in meant]
        for d, _ in here.machine.devices:
            run = here.start(r, Allocation(Need(), (d,)), 30)
            while run.poll() is None: time.sleep(.05)
            got.append(run.log_text().strip())
        assert got == [driver.gpus[k].uuid for k in meant]
        with pytest.raises(UserError, match=r'no GPU 4 here: this machine has GPUs 0, 1, 2, 3$' if shown is None else fr'no GPU 4 here: CUDA_VISIBLE_DEVICES={shown} leaves {1 + shown.count(",")}, which are counted from 0$'):
            this_machine(replace(s, gpus=(4,)))


@pytest.mark.parametrize('node, sizes', [(None, [10, 20, 30, 40]), ('2,1', [30, 20]), ('', [])])
def test_a_node_reports_its_gpus_though_the_task_that_asks_was_given_none(node, sizes, monkeypatch):
    "Some versions of Ray hide all GPUs from a task that asks for none: the node's own setting counts."
    from wattnb.benchmark.cluster import _visible_devices, node_gpus
    from wattnb.core.hardware import memory_here
    env = {k: v for k, v in os.environ.items() if k != 'CUDA_VISIBLE_DEVICES'} | ({} if node is None else dict(CUDA_VISIBLE_DEVICES=node))
    raylet = subprocess.Popen([sys.executable, '-c', 'print("up", flush=True); input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    try:
        assert raylet.stdout.readline() == b'up\n' # from then on its environment can be read
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
        with simulated_nvml([SimulatedGpu(memory_gb=10. * (k + 1)) for k in range(4)]): info = memory_here(_visible_devices(raylet.pid))
    finally: raylet.communicate(b'x')
    assert [round(g / 1.073741824) for g in info['gpu_gb']] == sizes
    assert [round(g / 1.073741824) for g in node_gpus(info, 2)] == [min(sizes)] * 2 if sizes else node_gpus(info, 2) == []


def test_a_mig_slice_is_used_by_its_own_uuid(ws, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'MIG-00000001,MIG-00000000')
    with simulated_nvml([SimulatedGpu(mig=2)]):
        here = LocalExecutor(this_machine(BenchmarkSettings(gpus=(0, 1))))
    assert [here.uuids[d][:12] for d, _ in here.machine.devices] == ['MIG-00000001', 'MIG-00000000']


def test_all_broken_alike_is_one_error(ws, tmp_path):
    from wattnb.cli.command import init_workspace
    init_workspace(tmp_path, demo=True)
    with pytest.raises(UserError, match='index'): plan_benchmark(BenchmarkSettings(models=('abstain', 'extractive')), tmp_path)


def test_the_command_line_has_the_settings(ws):
    [r] = plan_benchmark(BenchmarkSettings(models=('smollm2-135m',), engine='transformers', precisions=('bf16',), seeds=(3,), env='x', preset='words', limit=2, force=True, fail_on_error=3), ws)
    words = run_argv(r.plan.settings, ws.root)
    for pair in ('--engine transformers', '--precision bf16', '--fail-on-error 3', '--seed 3', '--env x', '--preset words', '--limit 2'): assert pair in ' '.join(words)
    assert words[-1] == '--force' or '--force' in words
    assert '--as qwen7b' in ' '.join(run_argv(replace(r.plan.settings, like='qwen7b'), ws.root))


def test_runs_on_one_server_of_this_machine_wait_for_each_other(ws, monkeypatch):
    monkeypatch.setenv('OPENAI_BASE_URL', 'http://127.0.0.1:8123/v1'); monkeypatch.setenv('OPENAI_API_KEY', 'none')
    s = BenchmarkSettings(models=('openai:a', 'openai:b'), preset='words', env='one', jobs=3, limit=1)
    here = Allocator(this_machine(s))
    a, b = (here.allocate(need(r, here.machine)) for r in plan_benchmark(s, ws))
    assert a is not None and b is None and a.need.server == '127.0.0.1:8123'
    here.release(a)
    monkeypatch.setenv('OPENAI_BASE_URL', 'https://models.example/v1')
    assert all(here.allocate(need(r, here.machine)) for r in plan_benchmark(s, ws))


def test_the_progress_table_on_a_terminal_redraws_in_place(ws):
    import io
    class Tty(io.StringIO):
        def isatty(self): return True
    s = BenchmarkSettings(models=('abstain', 'extractive'), preset='words', env='tty')
    b, out = Benchmark(plan_benchmark(s, ws), s, [this_machine(s)]), Tty()
    progress = ProgressTable(out)
    progress(b); n = out.getvalue().count('\n')
    b.runs[0].state = 'run'; progress(b)
    assert f'\x1b[{n}A' in out.getvalue() and 'RUN' in out.getvalue()


def test_members_share_one_model_and_are_no_run_of_its_own(ws):
    from wattnb.benchmark.scaling_study import own_run
    from wattnb.scoring.run_folders import find_runs
    plans = run_members(RunSettings('extractive', env='members', preset='words', limit=3, temperature=.5), 3, ws)
    assert all(is_member(p.name) for p in plans) and len({p.run for p in plans}) == 3
    assert own_run(find_runs(ws, 'members'), load_registry(ws)['extractive'], 'auto', 'words') is None
    before = [(p.run_dir / 'summary.json').stat().st_mtime_ns for p in plans]
    run_members(RunSettings('extractive', env='members', preset='words', limit=3, temperature=.5), 3, ws)
    assert before == [(p.run_dir / 'summary.json').stat().st_mtime_ns for p in plans]


# --- scaling -------------------------------------------------------------------------------------------------------------
RECORDED = Path(__file__).resolve().parent.parent.parent / 'shared/wattbot/recorded'


@pytest.mark.skipif(not RECORDED.exists(), reason='the recorded runs are not here')
def test_recorded_runs_fill_the_table_and_no_other_machine_does(ws, tmp_path):
    import shutil
    from wattnb.benchmark.scaling_study import SCALING_COLUMNS, scaling
    (tmp_path / 'data').mkdir(); shutil.copytree(RECORDED / 'PowerEdge', tmp_path / 'artifacts/experiments/PowerEdge')
    w = Workspace.find(tmp_path)
    s = scaling(w, 'qwen2.5', env='PowerEdge', datafile='train_QA')
    assert {r['params_b'] for r in s.rows} and len(s.rows) == 5 and s.fit and s.fit.low <= s.fit.slope <= s.fit.high
    assert all(set(SCALING_COLUMNS) <= set(r) for r in s.rows)
    for env, datafile, precision in (('GB10', 'train_QA', ''), ('PowerEdge', 'test_solutions', ''), ('', 'train_QA', ''), ('PowerEdge', 'train_QA', 'bf16')):
        none = scaling(w, 'qwen2.5', env=env, datafile=datafile, precision=precision)
        assert not none.rows and not none.write(tmp_path / 'none') and not (tmp_path / 'none').exists()


def test_few_earlier_runs_are_read_to_estimate_one(ws, monkeypatch):
    "With hundreds of earlier runs, estimating one must stay fast."
    import wattnb.benchmark.resources as bench
    run_all(plan_run(RunSettings('extractive', env='many', preset='words', limit=2, name='first'), ws))
    first = ws.experiments / 'many/demo_QA/first'
    for i in range(150):
        (first.parent / f'x{i}').mkdir(); (first.parent / f'x{i}/summary.json').write_bytes((first / 'summary.json').read_bytes())
    seen, cost = [], bench.run_cost
    monkeypatch.setattr(bench, 'run_cost', lambda r: seen.append(r.id) or cost(r))
    past = read_past(ws, like=('other/model', '4bit', 'rag'))
    assert 0 < len(past) <= 60
    seen.clear()
    own = read_past(ws, like=(past[0].model_id, past[0].precision, past[0].mode))
    assert len(own) == len(seen) == 3 and len({(p.model_id, p.seconds) for p in own}) == 1


def test_the_progress_table_shows_what_a_run_without_answers_does(ws):
    "In a file, too: starting, loading the model, first batch."
    from wattnb.experiment.stages import Run
    [r] = plan_benchmark(BenchmarkSettings(models=('extractive',), preset='words', env='says', limit=4), ws)
    r.state, r.estimate = 'run', RunEstimate(60.)
    w, out, said = Watch(r), io.StringIO(), []
    progress = ProgressTable(out, every=0)
    def look(): w.look(final=True); progress(Benchmark([r], BenchmarkSettings())); said.append(r.reason)
    look()
    with Run(r.plan) as run:
        look(); run.load(); look()
        assert r.eta and 0 < r.eta <= 60
        run.answer(); run.finish()
    look()
    assert said == ['starting', 'loading the model', 'first batch', ''] and r.done == 4
    lines = [l for l in out.getvalue().splitlines() if 'extractive' in l]
    assert [next((x for x in said[:3] if x in l), '') for l in lines] == said, lines


def test_a_run_whose_comparison_is_known_is_stopped(ws):
    "A model that is always wrong is stopped after some blocks; its folder is a run over what was asked, it is left so, and without the option it is resumed."
    from wattnb.benchmark.early_stopping import EarlyStopping, stopped_before
    (ws.root / 'models.toml').write_text('[model.wrong]\nprovider = "openai"\nid = "wrong"\n')
    wrong = '{"answer": "x", "answer_value": "7", "ref_id": ["nobody"], "explanation": "x"}'
    s = BenchmarkSettings(models=('extractive', 'wrong'), preset='words', env='early', shuffle=True)
    with FakeServer(wrong, latency=.7) as server, environment(**server.env(), OPENAI_API_KEY='sk-x'):
        runs = plan_benchmark(s, ws)
        judge = EarlyStopping(runs, 'extractive')
        b = run_benchmark(runs, s, judge=judge)
        ref, r = sorted(b.runs, key=lambda r: r is not judge.reference)
        assert (ref.state, r.state) == ('pass', 'pass') and r.reason.startswith('stopped early: worse than extractive') and ref.done == ref.n == 87 > r.done
        assert r.saved['verdict'] == 'worse' and r.saved['questions'] == 87 - r.done and r.saved['p'] <= r.saved['level'] and 'saved' in judge.saving(b.runs)
        run = find_run(ws, r.run_dir)
        assert run.status == 'stopped' and run.stored.num_questions == r.done == len(run.submission) and run.stored.stopped_because == r.reason
        assert {d.rule for d in run_numbers(run, GroundTruth(ws)).doubts} & {'STOPPED', 'INCOMPLETE'} == {'STOPPED'}
        calls, again = server.calls, plan_benchmark(s, ws)
        assert [x.reason for x in stopped_before(again)] == [r.reason] and server.calls == calls
        rest = next(x for x in plan_benchmark(s, ws) if x.model == 'wrong')
        assert rest.state == 'wait' and rest.plan.state == 'resume' and rest.done == r.done
