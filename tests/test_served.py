"A server on this machine: its process, its GPUs, its energy shared out to the questions. The server is another process, the GPUs are simulated."
import contextlib, json, math, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from conftest import words_workspace
from wattnb.core.hardware import container
from wattnb.core.served import local_server
from wattnb.core.workspace import UserError
from wattnb.experiment.asking import ask
from wattnb.experiment.execute import run_all
from wattnb.experiment.plan import plan_run
from wattnb.experiment.settings import RunSettings
from wattnb.experiment.stages import Run
from wattnb.experiment.stored import replay, stored_run, verify
from wattnb.telemetry.attribution import Attribution, Call, call_windows
from wattnb.telemetry.energy import energy_of, is_hosted
from wattnb.telemetry.footprints import bill_of
from wattnb.telemetry.session import Session
from wattnb.testing.simulated import SimulatedGpu, simulated_nvml

SERVER = '''
import json, sys, time
from wattnb.testing.server import FakeServer
told = json.loads(sys.argv[1])
if told.get('wait'): print('ready', flush=True); sys.stdin.readline()
def timings(reply, body):
    n, k = reply['usage']['prompt_tokens'], reply['usage']['completion_tokens']
    return reply | dict(timings=dict(prompt_ms=told['latency'] * 200, predicted_ms=told['latency'] * 700))
with FakeServer(answer='extractive', latency=told['latency'], slots=told.get('slots'), window=32768, listen=told.get('port', 0), change=timings if told.get('timed') else None) as s:
    print(s.port, flush=True)
    time.sleep(300)
'''


@contextlib.contextmanager
def serving(code=SERVER, **told):
    "(process, port) of a server in another process."
    p = subprocess.Popen([sys.executable, '-c', code, json.dumps(dict(latency=.05) | told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try: yield p, told.get('wait') and p.stdout.readline() or int(p.stdout.readline())
    finally: p.kill(); p.wait(); p.stdout.close(); p.stdin.close()


@pytest.fixture(scope='module')
def ws(tmp_path_factory): return words_workspace(tmp_path_factory.mktemp('served'))

@pytest.fixture
def card(monkeypatch):
    "A simulated GPU on which some processes hold memory."
    for k in ('WATTNB_SERVER_LOCAL', 'OPENAI_BASE_URL', 'OPENAI_API_KEY', 'CUDA_VISIBLE_DEVICES'): monkeypatch.delenv(k, raising=False)
    return lambda watts, *pids, **kw: SimulatedGpu(float(watts), period=.02, processes=pids, used_gb=3., **kw)

def at(monkeypatch, port): monkeypatch.setenv('OPENAI_BASE_URL', f'http://127.0.0.1:{port}/v1')

def asked(name, **kw): return RunSettings(**{'model': 'openai:some-model', 'env': 's', 'preset': 'words', 'limit': 4, 'max_retries': 0, 'idle_seconds': 0, 'name': name, **kw})

def question_sum(s): return math.fsum(x['joules'] for r in s.results for x in r['energy'].values())


@pytest.mark.parametrize('timed', [False, True])
def test_a_server_on_this_machine_is_metered(ws, card, monkeypatch, timed):
    "Energy, power, VRAM and memory are those of the server's tree; questions sum to the answering energy to 1e-9; a meter around it agrees within 3 %."
    with serving(latency=1.2, timed=timed, slots=2) as (server, port), simulated_nvml([card(100), card(200, server.pid)]):
        at(monkeypatch, port)
        with Session() as around: # what `wattnb meter` uses
            around.uses(local_server(f'http://127.0.0.1:{port}').devices)
            with Run(plan_run(asked(f'here-{timed}'), ws)) as run:
                run.load().answer(); run.finish()
            s = stored_run(run.dir)
            a, pauses = run.telemetry.work0, [p for p in run.telemetry.pauses if p[0] > run.telemetry.work0]
            b = a + s.summary['energy']['window_s'] + sum(q - p for p, q in pauses)
            counter = around.sampler.traces['NVML energy counter', 'gpu1']
            metered = counter.energy(a, b).value - sum(counter.energy(*p).value for p in pauses)
    e, h, m = s.summary['energy'], s.summary['hardware'], s.summary['memory']
    assert not is_hosted(s.summary) and energy_of(s.summary).kind == 'measured' and e['counted'] == ['gpu1'] and e['by_device']['gpu0']['counted'] is False
    assert e['total_wh'] * 3600 == pytest.approx(metered, rel=.03)
    assert question_sum(s) / 3600 == pytest.approx(e['questions_wh'], rel=1e-9)
    assert math.fsum(p['wh'] for p in e['by_phase'].values()) == pytest.approx(e['total_wh'], rel=1e-9)
    assert 150 < h['gpu_avg_power_watts'] < 250 and h['gpu_vram_reserved_bytes'] == 3 * 2**30 and 'server' in h['reasons']['gpu_vram']
    assert m['steady']['server_rss_gb'] > .01 and s.summary['conditions']['gpu1']['temperature_max_c'] == 50
    assert 'shared' not in e['by_device']['gpu1']['flags'] and s.summary['effective']['pid'] == server.pid
    assert s.summary['cost_usd'] == 0 and bill_of(s.summary) is None and e['load_wh'] + e['answering_wh'] == pytest.approx(e['total_wh']) and e['load_seconds'] > 0
    stages = {k for r in s.results for k in r['energy']}
    assert ({'prefill', 'decode'} if timed else {'generate'}) <= stages and (('generate' in stages) is not timed or timed)
    how = e['attribution']
    assert how['calls'] == 4 and how['prefill_weight'] > 0 and (how['weight_from'].startswith("the server's") if timed else 'warm' in how['weight_from'] or 'default' in how['weight_from'])
    methods = {x['method'] for r in s.results for k, x in r['energy'].items() if k in ('generate', 'decode')}
    assert methods <= {'attributed', 'measured'} and 'attributed' in methods, 'two at a time share the card'
    assert 'warm-up' in e['excluded_s'] and e['by_phase']['load']['wh'] >= 0
    assert not [r for r in verify(run.dir) if r['result'] == 'failed'], 'its questions take longer than the run, two at a time'


def test_one_call_at_a_time_is_measured(ws, card, monkeypatch):
    with serving(latency=.15, timed=True) as (server, port), simulated_nvml([card(200, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked('alone', latency_mode=True), ws); run_all(p)
    s = stored_run(p.run_dir)
    assert {x['method'] for r in s.results for k, x in r['energy'].items() if k != 'retrieve'} == {'measured'}
    before = {r['id']: r['energy'] for r in s.results}
    replay(p.run_dir)
    assert {r['id']: r['energy'] for r in stored_run(p.run_dir).results} == before


def test_two_servers_on_two_gpus(ws, card, monkeypatch):
    "A run is charged the GPU of its own server, also where this process may not see that GPU."
    with serving(latency=.4) as (one, port), serving(latency=.4) as (two, other), simulated_nvml([card(100, two.pid), card(300, one.pid)]):
        at(monkeypatch, port)
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
        p = plan_run(asked('first'), ws); run_all(p)
        at(monkeypatch, other)
        q = plan_run(asked('second'), ws); run_all(q)
    first, second = (stored_run(x.run_dir).summary for x in (p, q))
    assert first['energy']['counted'] == ['gpu1'] and first['hardware']['gpu_avg_power_watts'] == pytest.approx(300, rel=.05)
    assert second['energy']['counted'] == ['gpu0'] and second['hardware']['gpu_avg_power_watts'] == pytest.approx(100, rel=.05)
    assert first['hardware']['gpu_device_id'] != second['hardware']['gpu_device_id']


def test_a_server_that_restarts_in_the_middle(ws, card, monkeypatch):
    "The new process is followed, and the GPU that it uses is charged, too."
    with serving(latency=.2, slots=1) as (old, port), contextlib.ExitStack() as stack:
        gpus = [card(100, old.pid), card(100)]
        new, _ = stack.enter_context(serving(latency=.2, slots=1, port=port, wait=True)) # it begins to listen on request
        stack.enter_context(simulated_nvml(gpus))
        at(monkeypatch, port)
        pids = []
        def restart(done, of):
            if done != 2 or pids: return
            old.kill(); old.wait()
            new.stdin.write('\n'); new.stdin.flush(); new.stdout.readline()
            gpus[1].processes, gpus[0].processes = (new.pid,), ()
            pids.append(new.pid)
        with Run(plan_run(asked('restart', limit=5), ws)) as run:
            run.load().answer(restart)
            run.finish()
    s = stored_run(run.dir)
    e = s.summary['energy']
    assert s.summary['by_status']['failed'] == 0 and e['counted'] == ['gpu0', 'gpu1'] and set(run.telemetry.sampler.servers) == {old.pid, *pids}
    assert question_sum(s) / 3600 == pytest.approx(e['questions_wh'], rel=1e-9) and e['total_wh'] > 0


@pytest.mark.parametrize('mine, counted, vram', [(dict(mig=2), ['gpu1'], 6 * 2**30), (dict(memory_gb=None), ['gpu1'], None), (dict(vgpu=True), ['gpu1'], 3 * 2**30)])
def test_slices_unified_memory_and_virtual_gpus(card, mine, counted, vram):
    "Two slices of one card are read once; where the memory is that of the system, the driver lists the process without bytes."
    with serving() as (server, port), simulated_nvml([card(100), card(200, server.pid, **mine)]):
        served = local_server(f'http://localhost:{port}/v1')
        assert served.pid == server.pid and len(served.devices) == (2 if 'mig' in mine else 1) and all(d.startswith('MIG' if 'mig' in mine else 'GPU') for d in served.devices)
        with Session(served=served) as s:
            s.uses(served.devices)
            time.sleep(.6)
            r = s.report()
    assert r['energy']['counted'] == counted and r['hardware']['gpu_avg_power_watts'] == pytest.approx(200, rel=.1)
    assert r['hardware']['gpu_vram_reserved_bytes'] == vram and set(r['energy']['by_device']['gpu1']['flags']) <= {'mig', 'vgpu'}


TUNNEL = '''
import json, socket, sys, threading
told = json.loads(sys.argv[1])
def pipe(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError: pass
    finally: b.close()
s = socket.create_server(('127.0.0.1', 0))
print(s.getsockname()[1], flush=True)
while True:
    a, _ = s.accept()
    b = socket.create_connection(('127.0.0.1', told['to']))
    for c in (a, b): c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for x, y in ((a, b), (b, a)): threading.Thread(target=pipe, args=(x, y), daemon=True).start()
'''

@contextlib.contextmanager
def tunnel(tmp_path, to, name='socat'):
    "The port of a program with the name of a tunnel that leads to another port."
    script = tmp_path / f'{name}.py'
    script.write_text(TUNNEL)
    p = subprocess.Popen([sys.executable, script, json.dumps(dict(to=to))], stdout=subprocess.PIPE, text=True)
    try: yield int(p.stdout.readline())
    finally: p.kill(); p.wait(); p.stdout.close()


def test_a_tunnel_is_remote(ws, card, monkeypatch, tmp_path):
    "Its energy stays unknown, and a limit in Wh is refused; the option `local` and a server of this machine behind it can be stated."
    with serving() as (server, far), tunnel(tmp_path, far) as port, simulated_nvml([card(200, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked('tunnel'), ws); run_all(p)
        with pytest.raises(UserError, match='max_wh.*served elsewhere'): plan_run(asked('limited', max_wh=5.), ws)
        monkeypatch.setenv('WATTNB_SERVER_LOCAL', '1')
        q = plan_run(asked('stated'), ws); run_all(q)
    s, t = (stored_run(x.run_dir).summary for x in (p, q))
    assert is_hosted(s) and s['energy']['total_wh'] is None and s['energy']['by_device'] == {} and 'socat' in s['effective']['local_reason']
    assert not is_hosted(t) and t['energy']['total_wh'] is not None and (t['energy']['counted'] == [] if not container() else True)


def test_a_remote_server_stays_unknown(ws, card, monkeypatch):
    with serving() as (server, port), simulated_nvml([card(200, server.pid)]):
        at(monkeypatch, port)
        ws.models_toml.write_text(f'[model.far]\nprovider = "openai"\nid = "far"\noptions = {{ base_url = "http://127.0.0.1:{port}/v1", local = false }}\n')
        try: p = plan_run(asked('far', model='far'), ws); run_all(p)
        finally: ws.models_toml.unlink()
    s = stored_run(p.run_dir)
    assert is_hosted(s.summary) and s.summary['energy']['total_wh'] is None
    assert all(r['energy']['generate']['joules'] is None and r['energy']['generate']['method'] == 'none' for r in s.results)


def test_a_run_with_one_session_elsewhere_is_unknown(ws, card, monkeypatch):
    "Half of it was answered here and half through a tunnel: no energy, rather than half of it."
    with serving() as (server, port), simulated_nvml([card(200, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked('half'), ws)
        def stop(done, of):
            if done == 2: raise KeyboardInterrupt
        with Run(p) as run:
            run.load()
            with contextlib.suppress(KeyboardInterrupt): run.answer(stop)
            run.stop()
        assert not is_hosted(stored_run(p.run_dir).summary)
        monkeypatch.setenv('WATTNB_SERVER_LOCAL', '0')
        run_all(plan_run(asked('half'), ws))
    s = stored_run(p.run_dir).summary
    assert is_hosted(s) and s['energy']['total_wh'] is None and s['effective']['local'] is False


def test_a_limit_in_wh_holds_for_a_server(ws, card, monkeypatch):
    with serving(latency=.6, slots=1) as (server, port), simulated_nvml([card(300, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked('limit', limit=8, max_wh=300 * 3 / 3600), ws); run_all(p)
    s = stored_run(p.run_dir).summary
    assert s['status'] == 'budget' and 0 < s['n_completed'] < 8 and 'Wh' in s['stopped_because']


def test_idle_is_that_of_the_waiting_server(ws, card, monkeypatch):
    with serving() as (server, port), simulated_nvml([card(80, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked('idle', limit=2, idle_seconds=.6), ws); run_all(p)
    e = stored_run(p.run_dir).summary['energy']
    assert e['idle_before_w'] is None and e['idle_loaded_w'] == pytest.approx(80, rel=.1) and e['idle_w'] == pytest.approx(80, rel=.1)
    assert 'held its model' in e['reasons']['idle'] and e['net_wh'] is not None


def test_a_question_to_a_server_has_its_energy(ws, card, monkeypatch):
    with serving(latency=.3) as (server, port), simulated_nvml([card(100), card(250, server.pid)]):
        at(monkeypatch, port)
        a = ask('How much energy?', model='openai:some-model', root=ws, preset='words')
        monkeypatch.setenv('WATTNB_SERVER_LOCAL', '0')
        b = ask('How much energy?', model='openai:some-model', root=ws, preset='words')
    calls = sum(r.seconds for r in a.calls) # what comes before and between them takes long on a busy machine
    assert .8 * 250 * calls <= a.energy['wh'] * 3600 <= 1.2 * 250 * a.seconds and b.energy == dict(wh=None, reason='the model runs elsewhere')


# ---- an endpoint that meters a server elsewhere

@pytest.fixture
def joules():
    "An endpoint of 400 W; `.broken` makes it fail."
    class Meter(BaseHTTPRequestHandler):
        broken = False
        def log_message(self, *a): pass
        def do_GET(self):
            self.send_response(503 if Meter.broken else 200); self.end_headers()
            self.wfile.write(json.dumps(dict(total_energy_joules=400 * time.monotonic())).encode())
    server = ThreadingHTTPServer(('127.0.0.1', 0), Meter)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Meter.url = f'http://user:secret-of-it@127.0.0.1:{server.server_address[1]}/energy_metrics'
    yield Meter
    server.shutdown(); server.server_close()


@pytest.mark.parametrize('here', [True, False])
def test_energy_from_an_endpoint_stands_beside_the_meters(ws, card, monkeypatch, joules, here):
    with serving(latency=.7, slots=1) as (server, port), simulated_nvml([card(100, server.pid)]):
        at(monkeypatch, port)
        monkeypatch.setenv('WATTNB_SERVER_LOCAL', str(int(here)))
        p = plan_run(asked(f'endpoint-{here}', energy_from=joules.url), ws); run_all(p)
    s = stored_run(p.run_dir)
    e = s.summary['energy']
    x = e['endpoint']
    seconds = e['window_s']
    assert x['wh_low'] * 3600 <= 400 * seconds <= x['wh_high'] * 3600 and x['wh'] * 3600 == pytest.approx(400 * seconds, rel=.1) and not x['reason']
    assert (e['total_wh'] is None) is (not here) and is_hosted(s.summary) is (not here)
    if here:
        assert e['total_wh'] * 3600 == pytest.approx(100 * seconds, rel=.05), 'never mixed'
        assert math.fsum(v['endpoint_joules'] for r in s.results for v in r['energy'].values()) == pytest.approx(3600 * x['questions_wh'], rel=1e-9)
    assert all(any(v.get('endpoint_joules') for v in r['energy'].values()) for r in s.results)
    texts = [f.read_text('utf-8', 'replace') for f in p.run_dir.rglob('*') if f.is_file()]
    assert not any('secret-of-it' in t for t in texts)


@pytest.mark.parametrize('fault', ['down', 'odd'])
def test_an_endpoint_that_cannot_be_read_costs_nothing(ws, card, monkeypatch, joules, fault, caplog):
    joules.broken = fault == 'down'
    url = joules.url if fault == 'down' else joules.url + '#other_joules'
    with serving() as (server, port), simulated_nvml([card(100, server.pid)]):
        at(monkeypatch, port)
        p = plan_run(asked(f'endpoint-{fault}', limit=2, energy_from=url), ws); run_all(p)
    s = stored_run(p.run_dir).summary
    assert s['status'] == 'complete' and s['energy']['total_wh'] and s['energy']['endpoint']['wh'] is None
    assert s['energy']['endpoint']['reason'] and sum('--energy-from' in r.getMessage() for r in caplog.records) == 1


# ---- shares of concurrent calls

class Constant:
    "A device of 100 W."
    def moment(self, t): return 100 * t, 100 * t, 100 * t, 0.
    def energy(self, a, b): raise NotImplementedError

some_calls = st.lists(st.builds(lambda start, long, queue, prompt, written, split, ok: Call('', start, start + long, prompt if ok else 0, written if ok else 0, queue,
                                                                                             *((long * .2, long * .5) if split and ok else (None, None))),
                                st.floats(0, 50), st.floats(.01, 20), st.floats(0, 5), st.integers(0, 5000), st.integers(0, 500), st.booleans(), st.booleans()), min_size=1, max_size=12)


@hypothesis_settings(max_examples=150)
@given(some_calls, st.floats(.001, 2), st.randoms())
def test_shares_sum_to_the_energy_in_any_order(calls, weight, rng):
    import dataclasses
    calls = [dataclasses.replace(c, id=f'q{k % 7}', stage='retry' if k >= 7 else '') for k, c in enumerate(calls)]
    windows = call_windows(calls, weight)
    assert all(a.end <= b.start for a, b in zip(windows, windows[1:], strict=False)), 'no overlap'
    whole = Attribution(windows, -1, 80, traces=[Constant()])
    sums = {k: math.fsum(x['joules'] for x in v.values()) for k, v in whole.by_question().items()}
    idle = whole.energy(whole.unassigned['idle']).value
    assert math.fsum(sums.values()) + idle == pytest.approx(8100, rel=1e-9)
    assert math.fsum(j.value for _, j in whole.by_stage().values()) == pytest.approx(8100, rel=1e-9)
    assert min(sums.values()) >= 0 and set(sums) <= {c.id for c in calls}
    rng.shuffle(calls)
    again = Attribution(call_windows(calls, weight), -1, 80, traces=[Constant()]).by_question()
    assert {k: math.fsum(x['joules'] for x in v.values()) for k, v in again.items()} == pytest.approx(sums, rel=1e-9, abs=1e-9)
    covered = math.fsum(w.end - w.start for w in windows) # the times in which some call is in flight
    edges, busy = sorted({t for c in calls for t in (c.start, c.end)}), 0.
    busy = math.fsum(b - a for a, b in zip(edges, edges[1:], strict=False) if any(c.start <= a and c.end >= b for c in calls))
    assert covered == pytest.approx(busy, rel=1e-9)


def joules_of(*calls, weight=.1):
    whole = Attribution(call_windows(calls, weight), 0, 100, traces=[Constant()])
    return {k: {s: (round(x['joules'], 6), x['method']) for s, x in v.items()} for k, v in whole.by_question().items()}

def test_who_gets_what():
    a, b = Call('a', 0, 10, 100, 10), Call('b', 0, 10, 100, 30)
    assert joules_of(a, b) == dict(a=dict(generate=(333.333333, 'attributed')), b=dict(generate=(666.666667, 'attributed')))
    assert joules_of(a, Call('failed', 2, 8)) == dict(a=dict(generate=(1000., 'measured'))), 'a failed call gets nothing beside another'
    assert joules_of(Call('failed', 2, 8)) == dict(failed=dict(generate=(600., 'measured'))), 'alone it does'
    assert joules_of(a, Call('b', 0, 20, 100, 10, queue=10)) == dict(a=dict(generate=(1000., 'measured')), b=dict(generate=(1000., 'measured'))), 'the queue is left out'
    assert joules_of(Call('a', 0, 4, 9, 9, queue=4), Call('b', 0, 4, 9, 9, queue=4)) == dict(a=dict(generate=(200., 'attributed')), b=dict(generate=(200., 'attributed')))
    assert joules_of(a, Call('a', 12, 15, 100, 5, stage='retry')) == dict(a=dict(generate=(1000., 'measured'), retry=(300., 'measured')))
