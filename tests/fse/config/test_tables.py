from fse import config


def test_a_configuration_survives_json() -> None:
    settings = config.load("synthetic", "train.steps=7")
    assert config.from_tables(config.as_tables(settings)) == settings


def test_urls_of_both_data_sets_are_redacted() -> None:
    query = "'https://host/a.zip?token=secret'"
    overrides = f"dataset.name=mine,dataset.archive={query},evaluate.dataset=other,evaluate.dataset.archive={query}"
    assert "secret" not in str(config.redact_config(config.load("synthetic", overrides)))
