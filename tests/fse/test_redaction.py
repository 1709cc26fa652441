from fse.redaction import redact_text, redact_url


def test_queries_in_a_text_are_hidden() -> None:
    text = "a=1,dataset.archive='https://h/x.zip?token=1&b=2#c',download.mirrors=[\"http://h/?k=1\", 'HTTP://i/d'],b=2"
    wanted = "a=1,dataset.archive='https://h/x.zip?…',download.mirrors=[\"http://h/?…\", 'HTTP://i/d'],b=2"
    assert redact_text(text) == wanted


def test_a_url_loses_user_password_query_and_fragment() -> None:
    assert redact_url("https://me:secret@host:8/a.zip?token=1#c") == "https://host:8/a.zip"
    assert redact_url("folder/a.zip?b") == "folder/a.zip?b"
