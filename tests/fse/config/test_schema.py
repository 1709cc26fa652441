import dataclasses
import pickle

import pytest

from fse import config
from fse.ascend import options


def test_defaults_are_the_hyper_parameters_of_the_reference_implementations() -> None:
    settings = config.Config()
    train, loss, network = settings.train, settings.loss, settings.network
    assert (network.landmarks, loss.diversity_window, train.batch_size) == (8, 4, 32)
    assert (loss.diversity_weight, loss.align_weight, loss.weight_decay) == (500.0, 1.0, 5e-4)
    assert (train.learning_rate, train.beta1, train.seed, train.epochs) == (1e-4, 0.5, 1234, 200)
    assert (settings.crop.size, network.view, train.summary_freq, train.save_freq) == (146, 146, 20, 500)


def test_every_setting_has_a_help_text_of_one_sentence() -> None:
    for section in config.SECTIONS.values():
        for setting in dataclasses.fields(section):
            help_text = setting.metadata["help"]
            assert help_text, setting.name
            assert not help_text.endswith("."), setting.name
            assert ". " not in help_text, setting.name


def test_the_npu_section_has_the_options_of_the_table() -> None:
    npu = config.Npu()
    assert {item.name: getattr(npu, item.name) for item in dataclasses.fields(npu)} == {
        option.name: option.default for option in options.OPTIONS
    }
    assert config.Npu(precision_mode="force_fp32") != npu
    assert pickle.loads(pickle.dumps(npu)) == npu
    with pytest.raises(dataclasses.FrozenInstanceError):
        npu.precision_mode = "force_fp32"


@pytest.mark.parametrize("archive", ["http://h/a.zip", "HTTPS://h/a.zip", "drive:ID"])
def test_urls_are_remote_and_paths_are_not(archive: str) -> None:
    assert config.is_remote(archive)
    assert not config.is_remote("/data/" + archive)
