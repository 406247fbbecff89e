"""The model directory's generations: one atomic switch, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lifelong.errors import LifelongError
from lifelong.files import sha256_file
from lifelong.model.store import HISTORY, ModelStore


def snapshot(root: Path) -> dict[str, str]:
    """Hash every file that a user sees, but for the history (it grows) and the store's own bookkeeping."""
    hidden = {"lifelong/HEAD", "lifelong/MIRROR", HISTORY}
    return {
        name: sha256_file(path)
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and (name := path.relative_to(root).as_posix()) not in hidden
        and not name.startswith(("lifelong/objects", "lifelong/generations"))
    }


def commit(root: Path, files: dict[str, str], event: str = "e", remove: tuple[str, ...] = ()) -> int:
    store = ModelStore.open(root)
    with store.staging() as staged:
        for name, text in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_text(text)
        return store.commit(staged, {"event": event}, remove=remove)


@contextmanager
def killed_before_the_switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def killed(path: Path, text: str) -> None:
        if path.name == "HEAD":
            raise KeyboardInterrupt
        path.write_text(text)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("lifelong.model.store.write_text", killed)
        yield


def test_commits_add_replace_and_remove_files(tmp_path: Path) -> None:
    assert commit(tmp_path, {"a": "1", "lifelong/adapters/x/w": "w"}) == 1
    assert commit(tmp_path, {"a": "2", "b": "b"}, remove=("lifelong/adapters/",)) == 2
    assert (tmp_path / "a").read_text() == "2" and (tmp_path / "b").read_text() == "b"
    assert not (tmp_path / "lifelong/adapters").exists() or not any((tmp_path / "lifelong/adapters").rglob("w"))
    assert [event["generation"] for event in ModelStore.open(tmp_path).history()] == [1, 2]
    assert ModelStore.open(tmp_path).damage() == []


def test_going_back_is_byte_identical_but_for_the_history(tmp_path: Path) -> None:
    commit(tmp_path, {"a": "1", "lifelong/state.json": "{}"})
    before = snapshot(tmp_path)
    commit(tmp_path, {"a": "2", "c": "new", "lifelong/state.json": '{"x": 1}'})
    assert snapshot(tmp_path) != before
    ModelStore.open(tmp_path).commit(None, {"event": "rollback"}, base=1)
    assert snapshot(tmp_path) == before
    assert [event["event"] for event in ModelStore.open(tmp_path).history()] == ["e", "e", "rollback"]


def test_a_commit_killed_before_the_switch_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path, {"a": "1"})
    before = snapshot(tmp_path)

    with killed_before_the_switch(monkeypatch):
        commit(tmp_path, {"a": "2"})
    assert ModelStore.open(tmp_path).head() == 1
    assert snapshot(tmp_path) == before
    assert commit(tmp_path, {"a": "3"}) > 1 and (tmp_path / "a").read_text() == "3"


def test_a_mirror_killed_halfway_is_finished_by_the_next_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path, {"a": "1", "b": "1"})
    monkeypatch.setattr(ModelStore, "_mirror", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        commit(tmp_path, {"a": "2", "b": "2"})
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "1"
    store = ModelStore.open(tmp_path)
    assert store.head() == 2 and (tmp_path / "a").read_text() == "2" and store.damage() == []


def test_a_full_disk_changes_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path, {"a": "1"})
    before = snapshot(tmp_path)

    def full(self: ModelStore, path: Path, *, keep: bool = False) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ModelStore, "_store", full)
    with pytest.raises(LifelongError, match="No space left on device"):
        commit(tmp_path, {"a": "2"})
    monkeypatch.undo()
    assert ModelStore.open(tmp_path).head() == 1 and snapshot(tmp_path) == before


def test_a_stock_directory_is_taken_over_whole(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("weights")
    commit(tmp_path, {"lifelong/state.json": "{}"})
    assert set(ModelStore.open(tmp_path).files()) >= {"config.json", "model.safetensors", "lifelong/state.json"}
    assert (tmp_path / "model.safetensors").read_text() == "weights"


def test_altered_files_are_found(tmp_path: Path) -> None:
    commit(tmp_path, {"a": "1"})
    (tmp_path / "a").unlink()
    (tmp_path / "a").write_text("tampered")
    assert ModelStore.open(tmp_path).damage() == ["a: the file differs from the recorded state"]


def test_a_purge_takes_earlier_states_away_and_says_what_it_freed(tmp_path: Path) -> None:
    commit(tmp_path, {"a": "secret " * 100, "b": "kept"})
    commit(tmp_path, {"c": "secret, too"})
    store = ModelStore.open(tmp_path)
    with store.staging() as staged:
        (staged / "a").write_text("new")
        assert store.commit(staged, {"event": "forgot"}, remove=("c",), purge=True) == 3
    assert (tmp_path / "a").read_text() == "new" and len(store.files(1)) == 3  # it is the sweep that takes them away
    assert store.sweep() >= 711
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert store.damage() == [] and [store.parent(number) for number in (3, 2, 1)] == [2, 1, 0]
    assert [event["event"] for event in store.history()] == ["e", "e", "forgot"]
    with pytest.raises(LifelongError, match="state 1 was purged"):
        store.commit(None, {"event": "rollback"}, base=1)
    commit(tmp_path, {"a": "later"})
    store.commit(None, {"event": "rollback"}, base=3)
    store.sweep()
    assert (tmp_path / "a").read_text() == "new" and store.damage() == []


def test_a_purge_killed_before_the_switch_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path, {"a": "1"})
    commit(tmp_path, {"a": "2"})

    with killed_before_the_switch(monkeypatch):
        ModelStore.open(tmp_path).commit(None, {"event": "forgot"}, purge=True)
    commit(tmp_path, {"a": "3"})
    store = ModelStore.open(tmp_path)
    store.sweep()
    store.commit(None, {"event": "rollback"}, base=1)
    assert (tmp_path / "a").read_text() == "1" and store.damage() == []
