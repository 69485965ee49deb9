"""Files are written whole or not at all, whatever the process or the disk does."""

import os
import re
import signal

import pytest

from kanji_diffusion.core.files import WriteError, refuse_unwritable, written_whole


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def in_another_process(action):
    """Start `action` in a child process; its id."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return child


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with written_whole(target) as path:
        path.mkdir()
        (path / "part").mkdir()
        (path / "part" / "weights").write_text("w")
        assert not target.exists()
    assert names_in(tmp_path) == ["model", "model/part", "model/part/weights"]


def test_what_a_killed_writer_leaves_is_removed_by_the_next(tmp_path):
    def die():
        with written_whole(tmp_path / "old") as path:
            path.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitstatus_to_exitcode(os.waitpid(in_another_process(die), 0)[1]) == -signal.SIGKILL
    (remains,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.partial_old_\w+", remains.name)
    with written_whole(tmp_path / "new") as path:
        path.write_text("whole")
    assert names_in(tmp_path) == ["new"]


def test_what_a_living_writer_has_begun_stays(tmp_path):
    begun, go_on = os.pipe(), os.pipe()

    def write_slowly():
        with written_whole(tmp_path / "slow") as path:
            path.write_text("slow")
            os.write(begun[1], b"!")
            os.read(go_on[0], 1)

    child = in_another_process(write_slowly)
    os.read(begun[0], 1)
    with written_whole(tmp_path / "quick") as path:
        path.write_text("quick")
    assert len(list(tmp_path.iterdir())) == 2
    os.write(go_on[1], b"!")
    os.waitpid(child, 0)
    assert names_in(tmp_path) == ["quick", "slow"]
    assert (tmp_path / "slow").read_text() == "slow"


def test_a_folder_that_another_process_has_written_is_not_replaced(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("theirs")
    with pytest.raises(WriteError, match=r"/model cannot be written \(Directory not empty\)"):  # noqa: SIM117
        with written_whole(tmp_path / "model") as path:
            path.mkdir()
            (path / "weights").write_text("ours")
    assert (tmp_path / "model" / "weights").read_text() == "theirs"
    assert names_in(tmp_path) == ["model", "model/weights"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(28, "told otherwise"),
            r"\(No space left on device; \d+\.\d MB are free in {0}\): free some space and",
        ),
        # As tokenizers and safetensors raise.
        (Exception("I/O error: No space left on device (os error 28)"), r"\(No space left.* in {0}\): free some space"),
        (OSError(30, "told otherwise"), r"\(Read-only file system\): make it writable and run"),
        (OSError("told without a number"), r"\(told without a number\): correct that and run the same command again\."),
    ],
)
def test_a_refusal_is_one_sentence_and_leaves_nothing(tmp_path, error, sentence):
    with pytest.raises(WriteError) as told, written_whole(tmp_path / "model") as path:
        path.write_text("half")
        raise error
    expected = re.escape(str(tmp_path / "model")) + " cannot be written " + sentence.format(re.escape(str(tmp_path)))
    assert re.match(expected, str(told.value))
    assert names_in(tmp_path) == []


def test_a_mistake_of_the_writer_is_no_refusal(tmp_path):
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "model"):
        raise ZeroDivisionError
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    refuse_unwritable(tmp_path / "new" / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file/folder cannot be written \(Not a directory\)"):
        refuse_unwritable(tmp_path / "file" / "folder")


def test_a_folder_of_another_user_is_refused(tmp_path):
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # who may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(WriteError, match=r"/new cannot be written \(Permission denied\): make it writable"):
            refuse_unwritable(tmp_path / "new")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)
