"""What NVML says, through a stand-in for its binding."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from chipassay.runners.devices.nvml import Nvml, fabric_inside

POWER_CAP, IDLE, CLOCKS_SET, HARDWARE_THERMAL = 0x4, 0x1, 0x2, 0x40  # nvml.h


class NVMLError(Exception):
    pass


def unsupported(*_):
    raise NVMLError("Not Supported")


@pytest.fixture
def binding(monkeypatch):
    made = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetClockInfo=lambda gpu, which: 1755,
        nvmlDeviceGetPowerUsage=lambda gpu: 698_500,
        nvmlDeviceGetTemperature=lambda gpu, which: 71,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda gpu: IDLE,
        nvmlDeviceGetTotalEnergyConsumption=lambda gpu: 123_456_789,
        nvmlClocksThrottleReasonGpuIdle=IDLE,
        nvmlClocksThrottleReasonApplicationsClocksSetting=CLOCKS_SET,
        nvmlClocksThrottleReasonSwPowerCap=POWER_CAP,
        nvmlClocksThrottleReasonHwThermalSlowdown=HARDWARE_THERMAL,
    )
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_the_state_comes_in_si_units(binding):
    found = Nvml.open("1234").condition()
    assert (found.clock_hz, found.clock_method, found.power_w, found.temperature_c) == (1755e6, "nvml", 698.5, 71)
    assert Nvml.open("1234").energy_j() == pytest.approx(123_456.789)


@pytest.mark.parametrize(
    ("mask", "throttled", "reasons"),
    [
        (0, False, ()),
        (IDLE, False, ()),
        (CLOCKS_SET, False, ("clocks_set_by_owner",)),
        (POWER_CAP | IDLE, True, ("power_cap",)),
        (POWER_CAP | HARDWARE_THERMAL | CLOCKS_SET, True, ("power_cap", "hardware_thermal_slowdown", "clocks_set_by_owner")),
    ],
)
def test_reasons_are_named_and_only_those_of_the_chip_are_throttling(binding, mask, throttled, reasons):
    binding.nvmlDeviceGetCurrentClocksThrottleReasons = lambda gpu: mask
    found = Nvml.open("GPU-1234").condition()
    assert (found.throttled, found.throttle_reasons) == (throttled, reasons)


def test_newer_bindings_call_the_reasons_events(binding):
    del binding.nvmlClocksThrottleReasonSwPowerCap
    binding.nvmlClocksEventReasonSwPowerCap = POWER_CAP
    binding.nvmlDeviceGetCurrentClocksThrottleReasons = lambda gpu: POWER_CAP
    assert Nvml.open("1234").condition().throttle_reasons == ("power_cap",)


def test_what_a_chip_does_not_tell_is_unknown(binding):
    for name in ("ClockInfo", "PowerUsage", "Temperature", "CurrentClocksThrottleReasons", "TotalEnergyConsumption"):
        setattr(binding, f"nvmlDeviceGet{name}", unsupported)
    found = Nvml.open("1234").condition()
    assert {found.clock_hz, found.clock_method, found.power_w, found.temperature_c, found.throttled} == {None}
    assert Nvml.open("1234").energy_j() is None


def test_without_the_binding_nothing_is_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Nvml.open("1234") is None
    assert Nvml.open(None) is None


@pytest.mark.parametrize(("count", "found"), [(1, True), (2, False)])
def test_a_chip_without_a_uuid_is_the_only_one_or_unknown(binding, count, found):
    binding.nvmlDeviceGetCount = lambda: count
    binding.nvmlDeviceGetHandleByIndex = lambda index: f"index {index}"
    assert (Nvml.open(None) is not None) == found


@pytest.mark.parametrize(("event", "throttle"), [(POWER_CAP, unsupported), (unsupported, POWER_CAP), (POWER_CAP, None)])
def test_reasons_are_asked_for_by_the_name_that_binding_and_driver_know(binding, event, throttle):
    for name, answer in (("Event", event), ("Throttle", throttle)):
        question = answer if answer is unsupported else lambda gpu, mask=answer: mask
        setattr(binding, f"nvmlDeviceGetCurrentClocks{name}Reasons", None if answer is None else question)
    assert Nvml.open("1234").condition().throttle_reasons == ("power_cap",)


def joined(binding, links, monkeypatch):
    """``links``: of each GPU which of its NVLinks are up; None: it has none."""

    def state(gpu, link):
        if links[gpu] is None or link >= len(links[gpu]):
            raise NVMLError("Not Supported")
        return links[gpu][link]

    monkeypatch.setattr(binding, "nvmlDeviceGetCount", lambda: len(links), raising=False)
    monkeypatch.setattr(binding, "nvmlDeviceGetHandleByIndex", lambda index: index, raising=False)
    monkeypatch.setattr(binding, "nvmlDeviceGetHandleByUUID", lambda uuid: int(uuid[-1]), raising=False)
    monkeypatch.setattr(binding, "nvmlDeviceGetNvLinkState", state, raising=False)


@pytest.mark.parametrize(
    ("links", "visible", "fabric"),
    [
        ([[0, 1], [1, 1]], None, "nvlink"),
        ([None, None], None, "pcie"),
        ([[0, 0], [0, 0]], "", "pcie"),
        ([[1], None], None, None),
        ([[1], None, None], "1,2", "pcie"),
        ([[1], [1], None], "GPU-0,GPU-1", "nvlink"),
        ([[1]], None, None),
    ],
)
def test_what_joins_the_gpus_is_what_their_links_say(binding, monkeypatch, links, visible, fabric):
    joined(binding, links, monkeypatch)
    assert fabric_inside(visible) == fabric


def test_without_a_binding_nothing_is_known_of_the_links(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert fabric_inside(None) is None
