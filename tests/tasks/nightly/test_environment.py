"""The environment of a night."""

from tasks.nightly import environment


def test_the_environment_is_what_comparable_nights_share() -> None:
    versions = {"python": "3.7.5", "cann": "8.0.0", "driver": "24.1", "firmware": "", "system": "Linux 5", "fse": "1"}
    described = environment.describe(["npu", "npu"], versions)
    assert {*described} == {"python", "cann", "driver", "device", "machine", "host"}
    assert environment.fingerprint(described) != environment.fingerprint(dict(described, driver="25.0"))
