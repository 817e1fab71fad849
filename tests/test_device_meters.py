"Meters of AMD, Jetson, Grace and Apple over simulated devices: sessions have the energy that the curves have, once, or a reason."
import contextlib, random
from functools import partial
from pathlib import Path

import pytest

from wattnb.core.hardware import free_memory, visible_gpus
from wattnb.telemetry import metering
from wattnb.telemetry.power_meters import meters
from wattnb.telemetry.session import Session
from wattnb.testing.devices import SimulatedSensors, simulated_amd, simulated_apple
from wattnb.testing.simulated import PowerCurve, SimulatedClock, SimulatedGpu, SimulatedRapl, bursts, simulated_nvml

STEPS = [(0, 10), (110, 10), (110, 40), (125, 40), (125, 20)] # W
JETSON = dict(name='Orin (nvgpu)', memory_gb=None, counter=False, power=False)


def joules(points, a=100., b=130.):
    c = points if isinstance(points, PowerCurve) else PowerCurve(points)
    return c.joules(b) - c.joules(a)


def play(root, clock, sensors=None, uses=None, at=None, rapl=None):
    "The segment of 30 s of work with the meters of the folder. `at`: (s, what happens then)."
    s = Session(using=meters(rapl=rapl.root if rapl else root, root=str(root)), clock=clock, sleep=clock.sleep, watch=False)
    def tick():
        if sensors: sensors.move()
        if rapl: rapl.move()
        s.sampler.sample()
    clock.tick = tick
    with s:
        s.uses(uses)
        with s.stage('load'): clock.sleep(5)
        s.loaded()
        with s.stage('decode', ids=['q']):
            clock.sleep(10)
            if at: at()
            clock.sleep(15)
        return s.segment()


def holds(e, truth, relative=.01):
    "The total is the truth within `relative`, and its interval contains it."
    assert e['total_wh'] * 3600 == pytest.approx(truth, rel=relative) and e['total_wh_low'] * 3600 <= truth * 1.0001 and e['total_wh_high'] * 3600 >= truth * .9999, (e['total_wh'] * 3600, truth)
    assert sum(p['wh'] for p in e['by_phase'].values()) == pytest.approx(e['total_wh'], rel=1e-9)


@pytest.mark.parametrize('listed', [True, False])
@pytest.mark.parametrize('device', ['cuda:0', 'cpu', None])
def test_a_jetson_is_read_at_its_input_rail_once(device, listed, tmp_path):
    "With a driver that lists the GPU and refuses to read it, and with one that does not know it; for runs on the GPU and on the CPU."
    clock = SimulatedClock()
    board = SimulatedSensors(tmp_path, clock).ina3221(dict(VDD_IN=STEPS, VDD_CPU_GPU_CV=[(t, w * .6) for t, w in STEPS], VDD_SOC=2.))
    with simulated_nvml([SimulatedGpu(**JETSON)] if listed else [], clock, driver='540.4' if listed else None):
        e = play(tmp_path, clock, board, device)['report']['energy']
    holds(e, joules(STEPS))
    assert e['counted'] == ['soc'] and e['method'] == 'power_sampling' and e['gpu_wh'] == e['total_wh'] and e['cpu']['wh'] is None
    assert 'the processor is in the reading of Jetson rails' in e['reasons']['cpu_energy']
    assert e['by_device']['soc']['scope'] == 'whole module: rail VDD_IN, with VDD_CPU_GPU_CV, VDD_SOC behind it'


def test_the_rails_of_an_agx_orin_are_added_without_the_one_within_another(tmp_path):
    clock = SimulatedClock()
    board = SimulatedSensors(tmp_path, clock).ina3221(dict(VDD_GPU_SOC=STEPS, VDD_CPU_CV=4., VIN_SYS_5V0=5.)).ina3221(dict(NC=0., VDDQ_VDD2_1V8AO=2.))
    with simulated_nvml([SimulatedGpu(**JETSON)], clock): e = play(tmp_path, clock, board)['report']['energy']
    holds(e, joules(STEPS) + 30 * 9)


def test_bursts_on_a_rail_are_within_the_interval(tmp_path):
    clock, curve = SimulatedClock(), bursts(random.Random(3), rate=2, width=.3, seconds=200, low=8., high=30.)
    board = SimulatedSensors(tmp_path, clock).ina3221(dict(VDD_IN=[*zip(curve.at, (curve.watts(t) for t in curve.at))]))
    with simulated_nvml([], clock, driver=None): e = play(tmp_path, clock, board)['report']['energy']
    holds(e, joules(PowerCurve([*zip(curve.at, (curve.watts(t) for t in curve.at))])), .03)


def test_a_rail_that_disappears_ends_the_measurement_of_the_board(tmp_path):
    "The other rails would look like a board that draws less."
    clock = SimulatedClock()
    board = SimulatedSensors(tmp_path, clock).ina3221(dict(VDD_GPU_SOC=10., VDD_CPU_CV=4., VIN_SYS_5V0=5.))
    with simulated_nvml([SimulatedGpu(**JETSON)], clock): e = play(tmp_path, clock, board, 'cuda:0', lambda: board.lose('VDD_CPU_CV'))['report']['energy']
    assert e['total_wh'] is None and 'in2_input: No such file or directory' in e['reasons']['energy'] and 'Not Supported' in e['reasons']['gpu']


@pytest.mark.parametrize('chip, file', [('jetson', 'curr1_input'), ('grace', 'power1_average'), ('amd', 'energy1_input'), ('amdgpu', 'power1_average')])
def test_a_sensor_that_only_root_may_read_says_what_helps(chip, file, tmp_path, monkeypatch):
    s, read = SimulatedSensors(tmp_path), Path.read_text
    make = dict(jetson=lambda: s.ina3221(dict(VDD_IN=9.)), grace=lambda: s.grace(['Grace'], [90.]), amd=lambda: s.counters('amd_energy', dict(Esocket0=9.)), amdgpu=lambda: s.amdgpu(90.))
    make[chip]()
    def denied(self, *a, **k):
        if self.name == file: raise PermissionError(13, 'Permission denied')
        return read(self, *a, **k)
    monkeypatch.setattr(Path, 'read_text', denied)
    with simulated_nvml([], driver=None): found = {m.name: m for m in meters(rapl=tmp_path)}
    m = found[dict(jetson='Jetson rails', grace='Grace sensors', amd='amd_energy', amdgpu='amdgpu sensors')[chip]]
    assert not m.devices and not m.scope and f'{file}: sudo chmod a+r {tmp_path}' in m.reason


def test_a_busy_sensor_is_read_the_next_time(tmp_path, monkeypatch):
    clock = SimulatedClock()
    board, read, n = SimulatedSensors(tmp_path, clock).ina3221(dict(VDD_IN=STEPS)), Path.read_text, iter(range(10**9))
    def busy(self, *a, **k):
        if self.name == 'curr1_input' and next(n) % 7 == 5: raise BlockingIOError(11, 'Resource temporarily unavailable')
        return read(self, *a, **k)
    monkeypatch.setattr(Path, 'read_text', busy)
    with simulated_nvml([], clock, driver=None): holds(play(tmp_path, clock, board)['report']['energy'], joules(STEPS))


@pytest.mark.parametrize('name, total', [('NVIDIA GH200 480GB', 400.), ('NVIDIA GB10', 460.)])
def test_grace_is_added_to_a_gpu_and_not_to_a_module(name, total, tmp_path):
    clock = SimulatedClock()
    s = SimulatedSensors(tmp_path, clock).grace(['Module', 'Grace', 'CPU', 'SysIO'], [460., 60., 40., 15.])
    with simulated_nvml([SimulatedGpu(400., name=name)], clock): e = play(tmp_path, clock, s)['report']['energy']
    holds(e, 30 * total)
    assert (e['cpu']['wh'] is None) == ('GH200' in name) and ('in the reading of NVML' in e['reasons'].get('cpu_energy', '')) == ('GH200' in name)


def test_two_grace_sockets_without_gpu(tmp_path):
    clock = SimulatedClock()
    s = SimulatedSensors(tmp_path, clock).grace(['CPU', 'SysIO'], [STEPS, 15.], 0).grace(['CPU', 'SysIO'], [50., 15.], 1)
    with simulated_nvml([], clock, driver=None): e = play(tmp_path, clock, s, 'cpu')['report']['energy']
    holds(e, joules(STEPS) + 30 * 80)
    assert sorted(e['by_device']) == ['grace-0', 'grace-1'] and e['gpu_wh'] is None


def test_gb10_has_polled_power_and_no_reading_of_its_processor(tmp_path):
    clock = SimulatedClock()
    with simulated_nvml([SimulatedGpu(STEPS, name='NVIDIA GB10', memory_gb=None, counter=False)], clock): r = play(tmp_path, clock, uses='cuda:0')['report']
    holds(r['energy'], joules(STEPS))
    assert r['energy']['method'] == 'power_sampling' and r['memory']['unified'] and 'no RAPL counters' in r['energy']['reasons']['cpu_energy']


def test_amd_energy_is_read_where_rapl_is_not_and_never_beside_it(tmp_path):
    for with_rapl in (False, True):
        clock, root = SimulatedClock(), tmp_path / str(with_rapl)
        s = SimulatedSensors(root, clock).counters('amd_energy', dict(Ecore000=5., Esocket0=STEPS))
        rapl = SimulatedRapl(tmp_path / 'rapl', {'package-0': STEPS}, clock) if with_rapl else None
        with simulated_nvml([], clock, driver=None): e = play(root, clock, s, 'cpu', rapl=rapl)['report']['energy']
        holds(e, joules(STEPS))
        assert list(e['by_device']) == ['package-0'] and e['by_device']['package-0']['method'] == ('rapl' if with_rapl else 'amd_energy')


MI210 = dict(name='AMD Instinct MI210', memory_gb=64, used_gb=8, limit_w=300.)

@pytest.mark.parametrize('kind, method', [({}, 'amdsmi'), (dict(counter=False), 'power_sampling'), (dict(counter=False, instant=False), 'power_sampling')])
def test_an_amd_gpu(kind, method, tmp_path):
    "Energy, VRAM, temperature and other processes, of the device that the run was shown."
    clock = SimulatedClock()
    cards = [SimulatedGpu(250., **MI210), SimulatedGpu(STEPS, processes=(4711, 4712), **MI210, **kind)]
    with simulated_amd(cards, clock), pytest.MonkeyPatch.context() as patch:
        patch.setenv('HIP_VISIBLE_DEVICES', '1')
        r, (g,) = play(tmp_path, clock, uses='cuda:0')['report'], visible_gpus()
        assert free_memory(g) == 56 * 2**30 and g.index == 1
    e = r['energy']
    holds(e, joules(STEPS), .01 if kind.get('instant', True) else .05)
    assert e['method'] == method and e['counted'] == ['gpu0'] and e['by_device']['gpu0']['uuid'] == 'GPU-0000000000000001'
    assert r['conditions']['gpu0']['temperature_max_c'] == 34 and r['conditions']['gpu0']['sm_mhz_max'] == 1700 and 'shared' in e['by_device']['gpu0']['flags']
    assert r['memory']['steady']['by_device']['gpu0']['used_gb'] == 8 and r['hardware']['gpu_vram_total_bytes'] == 64 * 2**30 and r['hardware']['gpu_name'] == 'AMD Instinct MI210'
    assert r['hardware']['gpu_peak_power_watts'] == pytest.approx(40) and r['machine']['gpus'][0]['vendor'] == 'AMD'


@pytest.mark.parametrize('bits, first', [(32, 2**32 - 10**7), (64, 2**64 - 10**7)]) # 150 J before the end
def test_an_amd_counter_that_starts_over(bits, first, tmp_path):
    clock = SimulatedClock()
    with simulated_amd([SimulatedGpu(200., **MI210)], clock, bits=bits, first_count=first - int(100 * 200 / 15.259e-6)):
        e = play(tmp_path, clock)['report']['energy']
    holds(e, 6000., 1e-3)
    assert not e['warnings']


def test_an_amd_gpu_that_falls_off_the_bus(tmp_path):
    clock = SimulatedClock()
    with simulated_amd([SimulatedGpu(200., lost_at=115., **MI210)], clock): e = play(tmp_path, clock, uses='cuda:0')['report']['energy']
    assert e['total_wh'] is None and 'AMDSMI_STATUS_NOT_FOUND - Device Not found' in e['reasons']['energy']


def test_amd_partitions_share_the_meter_of_their_card(tmp_path):
    clock, cards = SimulatedClock(), [SimulatedGpu(100., **MI210), SimulatedGpu(100., **MI210)]
    with simulated_amd(cards, clock, partition='DPX') as lib:
        lib.amdsmi_get_gpu_device_bdf = lambda g: f'0000:01:00.{cards.index(g)}'
        r = play(tmp_path, clock)['report']
    holds(r['energy'], 3000.)
    assert r['energy']['by_device']['gpu0']['scope'] == 'whole GPU of which a partition is used' and any('partition' in w for w in r['energy']['warnings'])


def test_amd_gpus_without_amdsmi(tmp_path):
    "By the files of the kernel: torch's cuda:1 is the second card."
    clock = SimulatedClock()
    s = SimulatedSensors(tmp_path, clock).amdgpu(200., uid='aa').amdgpu(STEPS, instant=True, uid='bb')
    with simulated_nvml([], clock, driver=None): e = play(tmp_path, clock, s, 'cuda:1')['report']['energy']
    holds(e, joules(STEPS))
    assert e['counted'] == ['gpu1'] and not e['by_device']['gpu0']['counted']
    with simulated_nvml([], clock, driver=None), pytest.MonkeyPatch.context() as patch:
        patch.setenv('ROCR_VISIBLE_DEVICES', 'GPU-bb')
        m = next(m for m in meters(rapl=tmp_path) if m.name == 'amdgpu sensors')
        assert m.scope == '1 × GPU' and 'card1' in str(m.terms['gpu0'])


def test_the_chip_of_an_amd_laptop_is_counted_once(tmp_path):
    clock = SimulatedClock()
    s = SimulatedSensors(tmp_path, clock).amdgpu(STEPS, apu=True)
    rapl = SimulatedRapl(tmp_path / 'rapl', {'package-0': STEPS}, clock)
    with simulated_nvml([], clock, driver=None): e = play(tmp_path, clock, s, 'cuda:0', rapl=rapl)['report']['energy']
    holds(e, joules(STEPS), .05)
    assert e['counted'] == ['soc'] and e['cpu']['wh'] is None


@pytest.mark.parametrize('rocm, used', [(None, 'RAPL'), ('6.4.0', 'amdgpu sensors')])
def test_rapl_is_preferred_on_an_amd_laptop_whose_torch_cannot_use_the_gpu(rocm, used, tmp_path, monkeypatch):
    from wattnb.telemetry import device_meters
    monkeypatch.setattr(device_meters, 'torch_rocm', lambda: rocm)
    SimulatedSensors(tmp_path).amdgpu(20., apu=True)
    rapl = SimulatedRapl(tmp_path / 'sys/class/powercap', {'package-0': 20.})
    with simulated_nvml([], driver=None): found = meters(rapl=rapl.root, root=str(tmp_path))
    assert [m.name for m in found if m.devices] == [used] and len([m for m in found if m.name == 'amdgpu sensors']) == 1


@pytest.mark.parametrize('device', ['mps', 'cpu', None])
def test_an_apple_chip(device, tmp_path):
    clock = SimulatedClock()
    with simulated_nvml([], clock, driver=None), simulated_apple(dict(cpu_total_mj=5., gpu_mj=STEPS, gpu_sram_mj=.5, dram_mj=1.5, performance_cluster_mj=4.), clock):
        e = play(tmp_path, clock, uses=device)['report']['energy']
    holds(e, joules(STEPS) + 30 * 7)
    assert e['counted'] == ['soc'] and e['method'] == 'apple' and e['by_device']['soc']['scope'] == 'chip: processor, GPU, GPU memory cells, DRAM'


def test_a_part_of_an_apple_chip_that_is_no_longer_reported(tmp_path):
    clock = SimulatedClock()
    with simulated_nvml([], clock, driver=None), simulated_apple(dict(cpu_total_mj=5., gpu_mj=9.), clock) as chip:
        e = play(tmp_path, clock, at=lambda: chip.lose('gpu_mj'))['report']['energy']
    assert e['total_wh'] is None and e['reasons']['energy'].startswith('soc: Apple energy model: no reading of GPU;')


def test_only_one_kind_of_meter_reads_the_gpus(tmp_path):
    "A machine that has everything: the first source is used, and the reasons of the others name it."
    s = SimulatedSensors(tmp_path).ina3221(dict(VDD_IN=9.)).amdgpu(100.).grace(['Grace'], [90.]).counters('amd_energy', dict(Esocket0=9.))
    with simulated_nvml([SimulatedGpu()]), simulated_apple(dict(gpu_mj=9.)): found = meters(rapl=tmp_path)
    assert [m.name for m in found if m.devices] == ['NVML energy counter', 'NVML power polling', 'Grace sensors']
    why = {m.name: m.reason for m in found}
    assert why['Jetson rails'] == why['amdgpu sensors'] == why['Apple energy model'] == 'not needed: NVML energy counter reads the GPUs' and why['amd_energy'] == 'not needed: Grace sensors reads the processor'
    with simulated_nvml([], driver=None): found = meters(rapl=tmp_path)
    assert [m.name for m in found if m.devices and m.part == 'gpu'] == ['Jetson rails'] and s.root == tmp_path


@pytest.mark.parametrize('device', ['jetson', 'amd', 'apple', 'none'])
def test_doctor_shows_the_meter_with_scope_or_reason(device, tmp_path, monkeypatch):
    monkeypatch.setattr(metering, 'meters', partial(meters, rapl=tmp_path))
    if device == 'jetson': SimulatedSensors(tmp_path).ina3221(dict(VDD_IN=9., VDD_SOC=2.))
    with contextlib.ExitStack() as stack:
        stack.enter_context(simulated_nvml([], driver=None))
        if device == 'amd': stack.enter_context(simulated_amd([SimulatedGpu(**MI210)]))
        if device == 'apple': stack.enter_context(simulated_apple(dict(cpu_total_mj=9., gpu_mj=2.)))
        text = metering.doctor().to_text()
    shown = dict(jetson=['Jetson rails', 'whole module: rail VDD_IN, with VDD_SOC behind it'], amd=['amdsmi energy counter', '1 × GPU', 'AMD Instinct MI210, 64.0 GiB, limit 300.0 W'],
                 apple=['Apple energy model', 'chip: processor, GPU'], none=['no NVIDIA driver'])[device]
    assert all(w in text for w in shown)
    if device == 'none': assert not any(w in text for w in ('Jetson rails', 'amdsmi energy', 'Apple energy model', 'Grace sensors'))


@pytest.mark.parametrize('gain, warned', [(1., False), (.8, True)])
def test_counter_and_polled_power_of_an_amd_gpu_are_compared(gain, warned, tmp_path):
    clock = SimulatedClock()
    with simulated_amd([SimulatedGpu(200., gain=gain, **MI210)], clock): e = play(tmp_path, clock)['report']['energy']
    assert e['by_device']['gpu0']['polled_wh'] * 3600 == pytest.approx(200 * 25, rel=.01) and any('one of them is wrong' in w for w in e['warnings']) == warned


def test_who_may_add_a_meter(tmp_path):
    "A package adds an entry; it is used where nothing before it reads the part."
    from wattnb.telemetry import power_meters
    class Wall(power_meters.Meter):
        name, kind, part, scope, devices, whole, reason = 'wall', 'power', 'gpu', 'wall socket', ('wall',), True, ''
        def __init__(self): pass
        def read(self): return {'wall': (100., '')}
        def trace(self, device): return power_meters.PowerTrace()
    @power_meters.further('gpu')
    def wall_socket(root, gpus): return [Wall()]
    try:
        clock = SimulatedClock()
        with simulated_nvml([], clock, driver=None): e = play(tmp_path, clock)['report']['energy']
        holds(e, 3000.)
        with simulated_nvml([SimulatedGpu()]): assert {m.name: m.reason for m in meters(rapl=tmp_path)}['wall'] == 'not needed: NVML energy counter reads the GPUs'
    finally: del power_meters.REGISTERED['gpu']['wall_socket']


def test_the_amd_gpus_of_a_server_are_found_by_its_processes():
    from wattnb.core.served import gpu_memory_of
    with simulated_amd([SimulatedGpu(**MI210), SimulatedGpu(processes=(4711, 12), **MI210)]):
        assert gpu_memory_of([4711]) == {'GPU-0000000000000001': 2**30} and gpu_memory_of([9]) == {}
