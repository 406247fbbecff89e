"""F17: `lifelong validate`. For every rule a small input that breaks it, and a twin that breaks none."""

from __future__ import annotations

import json
import pydoc_data.topics as topics
import random
from pathlib import Path
from typing import Any

import pytest

from lifelong.cli.app import main
from lifelong.files import write_manifest
from lifelong.tokens.tokenizer import BPETokenizer

PROSE = topics.topics["assert"] + topics.topics["atom-identifiers"]
WORDS = sorted({word for text in topics.topics.values() for word in text.split() if word.isalpha()})


def rows(*messages: list[tuple[str, str]]) -> str:
    """Conversations as JSONL: each a list of (role, content)."""
    chats = [{"messages": [{"role": role, "content": content} for role, content in turns]} for turns in messages]
    return "".join(json.dumps(chat) + "\n" for chat in chats)


def texts(*contents: str) -> str:
    return "".join(json.dumps({"text": content}) + "\n" for content in contents)


def words(count: int, seed: int = 0) -> str:
    """Text that repeats nothing: words of the Python manual in random order."""
    return " ".join(random.Random(seed).sample(WORDS, count))


GOOD = [("user", "What is a list?"), ("assistant", "A mutable sequence.")]
Q, A = ("user", "What is a tuple?"), ("assistant", "An immutable sequence.")
BODY = "MIIEpAIBAAKCAQEA7bq7pLfX3mJ0dQhF0cKq8vLrY2kz9wQmT4nB"
KEY = f"-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n"
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft danach durch den dunklen Wald zurück. "
GERMAN += "Dort wartet er, bis es Abend wird, und kehrt erst dann zu seinem Bau am Rand der Felder heim."
ENGLISH = [topics.topics[name][:600] for name in ("assert", "break", "class", "context-managers", "del", "for", "if")]
FENCE = "Some words before.\n\n```python\nprint(1)\n"

Case = tuple[str, str, str | bytes, str | bytes]
ERRORS: list[Case] = [
    ("not-utf8", "a.txt", b"caf\xe9 au lait, s'il vous pla\xeet\n", "café au lait, s'il vous plaît\n"),
    ("bad-json", "a.jsonl", '{"text": "one"}\n{"text": \n', texts("one", "two")),
    ("wrong-type", "a.jsonl", texts("one") + '{"text": 3}\n', texts("one", "two")),
    ("missing-key", "a.jsonl", rows(GOOD) + '{"messages": [{"role": "user"}]}\n', rows(GOOD)),
    ("unknown-role", "a.jsonl", rows(GOOD, [("robot", "Hello."), A]), rows(GOOD, [Q, A])),
    ("empty-messages", "a.jsonl", rows(GOOD, []), rows(GOOD)),
    ("no-assistant-turn", "a.jsonl", rows(GOOD, [Q]), rows(GOOD)),
    ("nothing-trained", "a.jsonl", rows(GOOD, [Q, ("assistant", " ")]), rows(GOOD, [Q, A])),
]
WARNINGS: list[Case] = [
    ("role-alternation", "a.jsonl", rows([Q, Q, A]), rows([Q, A])),
    ("role-alternation", "a.jsonl", rows([A, Q, A]), rows([("system", "Be brief."), Q, A])),
    ("last-turn", "a.jsonl", rows([Q, A, ("user", "Thank you.")]), rows([Q, A])),
    ("unknown-keys", "a.jsonl", '{"text": "some text", "txt": "more"}\n', '{"text": "some text", "id": 3}\n'),
    ("unknown-keys", "a.jsonl", rows([Q, A])[:-2] + ', "contents": "x"}\n', rows([Q, A])),
    ("empty-text", "a.jsonl", texts("some text", ""), texts("some text", "other text")),
    ("exact-duplicate", "a.jsonl", texts("the same", "the  same"), texts("the same", "not the same")),
    ("near-duplicate", "a.jsonl", texts(words(200), words(200) + " end"), texts(words(200), words(200, 1))),
    ("conflicting-answers", "a.jsonl", rows([Q, A], [Q, ("assistant", "A list.")]), rows([Q, A], GOOD)),
    ("unbalanced-fence", "a.md", FENCE, FENCE + "```\n"),
    ("unbalanced-fence", "a.jsonl", rows([Q, ("assistant", FENCE)]), rows([Q, ("assistant", FENCE + "```\n")])),
    ("mojibake", "a.txt", "Le cafÃ© est ouvert toute la journÃ©e.\n", "Le café est ouvert toute la journée.\n"),
    ("mojibake", "a.txt", "Le caf\ufffd est ouvert.\n", "U+FFFD is shown as \ufffd where a character was lost.\n"),
    ("repetition", "a.txt", "Buy the best tea in town today.\n" * 40, words(280)),
    ("repetition", "a.txt", "a very good and cheap offer of tea " * 30 + words(50), words(280)),
    ("symbols", "a.txt", "text " + " ".join(f"# {word}" for word in WORDS[:80]), PROSE),
    ("symbols", "a.txt", "\n".join(f"- {word}" for word in WORDS[:60]), "\n".join(WORDS[:60])),
    ("symbols", "a.txt", "\n".join(f"{a} and {b} …" for a, b in zip(WORDS, WORDS[60:120], strict=False)), PROSE),
    ("symbols", "a.txt", " ".join(f"{n} {word}" for n, word in enumerate(WORDS[:60])), PROSE),
    ("secret", "a.py", f'KEY = """{KEY}"""\n', 'START = "-----BEGIN RSA PRIVATE KEY-----"\n'),
    (
        "personal-data",
        "a.txt",
        "Write to jane.doe@orange-mill.org for more.\n",
        "Write to jane@example.org for more.\n",
    ),
    ("language", "a.jsonl", texts(*ENGLISH, GERMAN), texts(*ENGLISH)),
]


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["validate", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def found(report: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in report["errors"] + report["warnings"]}


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.mark.parametrize(("rule", "name", "bad", "good"), ERRORS, ids=[case[0] for case in ERRORS])
def test_f17_every_error_is_found_and_only_it(
    rule: str, name: str, bad: str | bytes, good: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check(capsys, write(tmp_path / name, bad))
    assert code == 2
    assert [finding["rule"] for finding in report["errors"]] == [rule]
    assert not report["ok"]
    assert str(tmp_path) in report["errors"][0]["examples"][0]["where"]
    assert report["errors"][0]["fix"]
    code, report = check(capsys, write(tmp_path / name, good))
    assert (code, report["errors"], report["warnings"], report["ok"]) == (0, [], [], True)


@pytest.mark.parametrize(
    ("rule", "name", "bad", "good"), WARNINGS, ids=[f"{case[0]}-{number}" for number, case in enumerate(WARNINGS)]
)
def test_f17_every_warning_is_found_and_only_it(
    rule: str, name: str, bad: str | bytes, good: str | bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check(capsys, write(tmp_path / name, bad))
    assert (code, report["errors"], found(report)) == (0, [], {rule})
    assert report["warnings"][0]["count"] >= 1
    assert str(tmp_path) in report["warnings"][0]["examples"][0]["where"]
    code, report = check(capsys, write(tmp_path / name, good))
    assert (code, found(report) - {"near-duplicate"}) == (0, set())


def test_f17_nothing_but_blank_documents_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = check(capsys, write(tmp_path / "a.jsonl", texts("", "  ")))
    assert (code, found(report)) == (2, {"nothing-trained", "empty-text"})


def test_f17_places_are_file_and_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.md", "---\ntitle: A page\n---\n\nWords.\n\nMore words.\n\n~~~\ncode\n")
    write(tmp_path / "b.jsonl", texts("one", "two") + "{\n")
    _, report = check(capsys, tmp_path)
    assert [finding["examples"][0]["where"] for finding in report["errors"] + report["warnings"]] == [
        f"{tmp_path / 'b.jsonl'}:3",
        f"{tmp_path / 'a.md'}:9",
    ]


def test_f17_the_report_is_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "chats.jsonl", rows(GOOD, [Q, A], [Q, A, Q, Q]))
    write(tmp_path / "notes.txt", PROSE)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    code, report = check(capsys, tmp_path)
    assert code == 0
    assert report.keys() == {"ok", "errors", "warnings", "facts"}
    for finding in report["warnings"]:
        assert finding.keys() == {"rule", "severity", "title", "fix", "count", "by_kind", "examples"}
        assert all(example.keys() == {"where", "snippet"} for example in finding["examples"])
    facts = report["facts"]
    assert facts["documents"] == 4
    assert facts["kinds"] == {"chat": 3, "text": 1}
    assert facts["roles"] == {"user": 5, "assistant": 3}
    assert facts["bytes_per_document"].keys() == {"p1", "p5", "p50", "p95", "p99", "longest"}
    assert facts["sources"] == {str(tmp_path): {"documents": 4, "bytes": facts["bytes"]}}
    assert facts["languages"] == {"en": 1}
    assert facts["left_out"] == {".png (file not read)": 1}


def test_f17_the_screen_shows_groups_counts_and_remedies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a.jsonl", rows([Q], [Q, A, Q]))
    assert main(["validate", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out.index("Errors") < out.index("[no-assistant-turn]") < out.index("Warnings") < out.index("[last-turn]")
    assert f"{tmp_path}/a.jsonl:1" in out
    assert "-> " in out
    assert "roles: user 3, assistant 1" in out
    assert err == "lifelong: 1 error in the data (no-assistant-turn)\n  The report says where, and what to do.\n"
    write(tmp_path / "a.jsonl", rows([Q, A]))
    assert main(["validate", str(tmp_path)]) == 0
    assert "Nothing to object to." in capsys.readouterr().out


def test_f17_counts_are_of_all_and_examples_of_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.jsonl", rows(*([("user", f"What is {word}?")] for word in WORDS[:30])))
    _, report = check(capsys, file, "--examples", 3)
    assert report["errors"][0]["count"] == 30
    assert [item["where"] for item in report["errors"][0]["examples"]] == [f"{file}:{line}" for line in (1, 2, 3)]


SECRETS = {
    "AWS access key": "AKIAQ3EGRT5ZKW7NHP4M",
    "AWS secret key": "aws_secret_access_key = wJ4lrXUtnFqMI9K7MDdNGbPxRfiCYzQ2LmK8aTqB",
    "GitHub token": "ghp_Zk3vN8qLw2XbT6yRmD9sHfJ4cPaGe7uW1oQi",
    "Slack token": "xoxb-284719365012-593817264950-Kd8Lw2QzXc7Vb4Nm1As6Tf3G",
    "API key": "sk-proj-Tq8Zw3Lk9Xn2Vb7Mr4Ys6Dh1Gf5Jc0PaEeUuIoOt",
    "Google API key": "AIzaSyB7k2Qw9LxZ4mN8vT3rC6yH1jD5fG0pSaE",
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI4NzQzMTkifQ.dBjftJeZ4CVPmB92K27uhbUJU1p1rwW1gFWFOEjXk",
    "password in a URL": "postgres://app:9fKq2LwZx7@db.orange-mill.org/main",
    "private key": KEY,
    "e-mail address": "jane.doe@orange-mill.org",
    "card number": "4929 7381 6650 1242",
    "bank account (IBAN)": "GB33BUKB20201555555555",
    "phone number": "+49 30 901820-47",
    "IP address": "151.101.64.223",
}


# Where only a part of it is secret.
PARTS = {
    "AWS secret key": SECRETS["AWS secret key"].split()[-1],
    "private key": BODY,
    "password in a URL": "9fKq2LwZx7",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_f17_secrets_are_found_by_kind_and_never_printed_whole(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = SECRETS[kind]
    # Twice, and first in a place that other rules quote: an exact duplicate, and an answer that conflicts.
    chat = rows([("user", f"Use {secret} now."), A], [("user", f"Use {secret} now."), ("assistant", "No.")])
    file = write(tmp_path / "a.jsonl", chat + chat)
    _, report = check(capsys, file)
    kinds = {name: count for finding in report["warnings"] for name, count in finding["by_kind"].items()}
    assert kinds == {kind: 4}
    assert found(report) >= {"exact-duplicate", "conflicting-answers"}
    value = PARTS.get(kind, secret)
    assert main(["validate", str(file)]) == 0
    for shown in (json.dumps(report, ensure_ascii=False), capsys.readouterr().out):
        assert value not in shown
        assert value[len(value) // 3 : -len(value) // 3] not in shown


@pytest.mark.parametrize(
    "harmless",
    [
        "AKIAIOSFODNN7EXAMPLE and sk-your-key-here-your-key-here-your-key-here are placeholders.",
        "postgres://user:password@localhost/db, https://host:8080/@x, ftp://anonymous:guest@ftp.example.org",
        "user@example.com, root@localhost, git@github.com, info@orange-mill.org, x@y.z, icon@2x.png, @decorator",
        "4111 1111 1111 1111 is for tests; 4929 7381 6650 1243 fails its check digit; 1234567890123456 is no card.",
        "0.4929738166501242 and 3.14159265358979 are numbers, 1,234,567,890 too; 2024-01-02 03:04:05 is a time.",
        "Versions 1.2.3.4 and 10.20.30.40.50; 127.0.0.1, 10.0.0.1, 192.168.1.20, 255.255.255.0, 0.0.0.0, 8.8.8.8.",
        "1 + 4294967296 = 4294967297; call (212) 555-0123; ISBN 978-3-16-148410-0; +1 is one more.",
        "GB33BUKB20201555555556 has a wrong check digit; DE00 0000 0000 0000 0000 00 too; commit 4f2a9c81.",
    ],
)
def test_f17_what_only_looks_like_a_secret_is_left_alone(
    harmless: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = check(capsys, write(tmp_path / "a.txt", harmless + "\n"))
    assert report["warnings"] == []


def test_f17_code_is_not_judged_as_prose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = "TABLE = [\n" + "    0, 1, 2, 3,\n" * 200 + "]\n# cafÃ©\n```\n"
    assert found(check(capsys, write(tmp_path / "a.py", table))[1]) == set()
    assert found(check(capsys, write(tmp_path / "a.txt", table.replace("    ", "")))[1]) >= {"mojibake"}


def prepared(place: Path, **splits: list[str]) -> Path:
    """A prepared directory, as one who mixes splits by hand would leave it."""
    facts = {"source": "a.txt", "name": "a.txt", "kind": "text", "domain": "", "weight": 1.0}
    place.mkdir()
    for name in ("train", "val", "test"):
        lines = [json.dumps({"text": text, **facts, "name": f"{name}{i}"}) for i, text in enumerate(splits[name])]
        (place / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    (place / "dataset_metadata.json").write_text("{}\n")
    write_manifest(place, "prepared")
    return place


def test_f17_splits_of_a_prepared_directory_are_checked_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, three = (words(200, seed) for seed in range(3))
    code, report = check(capsys, prepared(tmp_path / "clean", train=[one], val=[two], test=[three]))
    assert (code, found(report)) == (0, set())
    assert report["facts"]["splits"] == {"train": 1, "gate": 1, "test": 1}
    code, report = check(capsys, prepared(tmp_path / "same", train=[one, two], val=[three], test=[two + "\n"]))
    assert (code, found(report)) == (2, {"split-overlap"})
    code, report = check(capsys, prepared(tmp_path / "near", train=[one], val=[two], test=[one + " end"]))
    assert (code, found(report)) == (0, {"split-leak"})
    code, report = check(capsys, prepared(tmp_path / "gate", train=[one], val=[one], test=[three]))
    assert (code, found(report)) == (0, {"split-leak"})


def test_f17_files_named_as_splits_are_checked_against_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train.jsonl", rows(GOOD, [Q, A]))
    write(tmp_path / "test.jsonl", rows([Q, A]))
    code, report = check(capsys, tmp_path)
    assert (code, found(report)) == (2, {"split-overlap"})
    example = report["errors"][0]["examples"][0]
    assert example["where"] == f"{tmp_path / 'train.jsonl'}:2"
    assert f"{tmp_path / 'test.jsonl'}:1" in example["snippet"]
    assert found(check(capsys, tmp_path / "test.jsonl")[1]) == set()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tokenizer") / "tok"
    BPETokenizer(600).train(topics.topics.values()).save(place)
    return place


def test_f17_tokens_are_counted_and_what_is_cut_off_too(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ("user", words(100))
    file = write(tmp_path / "a.jsonl", rows([Q, A], [("user", "Say much."), ("assistant", words(100, 1))], [long, A]))
    code, report = check(capsys, file, "--tokenizer", tokenizer, "--max-length", 64)
    assert (code, found(report)) == (2, {"over-long", "all-truncated"})
    facts = report["facts"]
    loaded = BPETokenizer.load(tokenizer)
    encoded = [loaded.encode_chat(json.loads(line)["messages"]) for line in file.read_text().splitlines()]
    assert facts["tokens"] == sum(len(ids) for ids, _ in encoded)
    assert facts["trained_tokens"] == sum(sum(mask) for _, mask in encoded)
    lost = len(encoded[1][0]) - 64 + len(encoded[2][0])
    assert facts["over_long"]["tokens_lost"] == lost
    assert facts["over_long"]["share_of_tokens_lost"] == pytest.approx(lost / facts["tokens"], abs=1e-4)
    code, report = check(capsys, file, "--tokenizer", tokenizer, "--max-length", 10000)
    assert (code, found(report)) == (0, set())


def test_f17_text_in_a_script_the_tokenizer_never_saw(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.txt", "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 2 + "Конец.\n")
    assert found(check(capsys, file, "--tokenizer", tokenizer)[1]) == {"byte-fallback"}
    assert found(check(capsys, write(file, PROSE), "--tokenizer", tokenizer)[1]) == set()


def test_f17_a_template_without_a_turn_token(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.jsonl", rows([Q, A]))
    copy = tmp_path / "tok"
    copy.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        write(copy / name, (tokenizer / name).read_text().replace("'<|end|>' }}", "'\\n' }}"))
    code, report = check(capsys, file, "--tokenizer", copy)
    assert (code, found(report)) == (2, {"turn-token-missing"})
    assert report["errors"][0]["by_kind"] == {"<|end|>": 1}
    config = json.loads((copy / "tokenizer.json").read_text())
    config["added_tokens"] = [token for token in config["added_tokens"] if token["content"] != "<|user|>"]
    del config["model"]["vocab"]["<|user|>"]
    write(copy / "tokenizer.json", json.dumps(config))
    code, report = check(capsys, file, "--tokenizer", copy)
    assert (code, found(report)) == (2, {"turn-token-missing"})


def test_f17_show_prints_documents_as_the_loss_sees_them(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.jsonl", rows([Q, A]))
    assert main(["validate", str(file), "--tokenizer", str(tokenizer), "--show", "2"]) == 0
    out = capsys.readouterr().out
    assert "<|user|>What is a tuple?<|end|><|assistant|>⟦An immutable sequence.<|end|>⟧<|endoftext|>" in out
    assert f"{file}:1" in out
    write(tmp_path / "b.txt", PROSE)
    assert main(["validate", str(tmp_path / "b.txt"), "--tokenizer", str(tokenizer), "--show", "1"]) == 0
    assert "⟦" + PROSE[:200] in capsys.readouterr().out


def test_f17_show_is_in_colours_on_a_terminal(
    tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = write(tmp_path / "a.jsonl", rows([Q, A]))
    assert main(["validate", str(file), "--tokenizer", str(tokenizer), "--show", "1"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[32mAn immutable sequence.\x1b[0m" in out  # green: trained on
    assert "\x1b[2mWhat is a tuple?\x1b[0m" in out  # dim: not
    assert "⟦" not in out


def test_f17_what_needs_a_tokenizer_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.txt", PROSE)
    for flags in (["--show", "1"], ["--max-length", "64"]):
        assert main(["validate", str(file), *flags]) == 2
        out, err = capsys.readouterr()
        assert (out, "--tokenizer" in err) == ("", True)


def test_f17_a_source_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path / "nothing"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert (out, "no such file or folder" in err) == ("", True)


def test_f17_rows_of_an_array_on_one_line_are_named_by_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"question": "What is a cat?", "answer": "An animal that purrs."}
    rows = [good, {"question": "Why?", "answer": ""}, good, {"foo": 1}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    assert main(["validate", str(tmp_path / "rows.json")]) == 2
    said = capsys.readouterr().out
    assert "rows.json, item 2  every assistant turn is empty" in said
    assert "rows.json, item 4  the row has no 'question'" in said
    assert f"rows.json, item 3  same as {tmp_path / 'rows.json'}, item 1:" in said and "rows.json:1" not in said
