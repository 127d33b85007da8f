"""The demo, as a user starts it and part by part, on a small folder."""

import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from ordered_executor import demo, timeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few documents in three directories; two files cannot be read, one directory holds no documents."""
    (tmp_path / "letters" / "old").mkdir(parents=True)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "compiled.pyc").write_text("never indexed")
    (tmp_path / "readme.txt").write_text("apple banana apple")
    (tmp_path / "letters" / "anna.txt").write_text("Banana, cherry. appleBanana and snake_case")
    (tmp_path / "letters" / "bytes.bin").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "letters" / "old" / "dangling.txt").symlink_to(tmp_path / "gone.txt")
    (tmp_path / "letters" / "old" / "empty.txt").write_text("")
    (tmp_path / "letters" / "old" / "zoe.txt").write_text("Ängste, cherry")
    return tmp_path


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the demo the way the README does."""
    command = [sys.executable, "-m", "ordered_executor.demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def finished_folders(output: str) -> list[tuple[str, str, str]]:
    """Read files, skipped and name of the folders from the log lines, in the order in which they were finished."""
    return re.findall(r"^ *(\d+) +(\d+) +\d+  (.*)$", output, re.MULTILINE)


def test_command_indexes_a_folder_and_succeeds(folder: Path) -> None:
    """Run as a program, it logs top-level folders in order, counts what it skipped, sums up, and exits with 0."""
    run = run_demo(str(folder), "--workers", "2")
    assert (run.returncode, run.stderr) == (0, "")
    assert finished_folders(run.stdout) == [("1", "0", "."), ("5", "2", "letters")]
    assert "bytes.bin" not in run.stdout
    summary = dict(re.findall(r"^(\w+) +(.*)$", run.stdout, re.MULTILINE))
    assert summary["folder"] == str(folder)
    assert summary["files"] == "4 indexed, 2 unreadable and skipped"
    assert summary["terms"] == "7 different, 12 in all"
    assert re.fullmatch(rf"{18 + 42 + 0 + 15}, \d+ compressed", summary["bytes"])
    assert re.fullmatch(r"\d+\.\d\d in parallel, \d+\.\d\d serially: \d+\.\d times as fast", summary["seconds"])
    assert re.fullmatch(r"at most \d outcomes waited .*", summary["early"])
    assert summary["frequent"].startswith("apple 2, banana 2, cherry 2")
    assert summary["check"] == "the same index as the serial run"


def test_postings_ascend_and_name_the_documents(folder: Path) -> None:
    """Documents are numbered in the order of the walk, which sorts postings; skipped files get no number."""
    batches = list(demo.find_batches(folder))
    index, _ = demo.index_in_parallel(batches, workers=2, window=None, log=lambda _line: None)
    names = [path.name for path in index.documents]
    assert names == ["readme.txt", "anna.txt", "empty.txt", "zoe.txt"]
    assert index.postings["banana"] == [0, 1]
    assert index.postings["cherry"] == [1, 3]
    assert index.postings["ängste"] == [3]
    assert zlib.decompress(index.copies[0]) == b"apple banana apple"


@pytest.mark.parametrize("window", [None, 1, 2])
def test_parallel_index_equals_the_serial_one(folder: Path, window: int | None) -> None:
    """Whatever the window, workers and one process give the same index, unreadable files included."""
    batches = list(demo.find_batches(folder))
    index, statistics = demo.index_in_parallel(batches, workers=2, window=window, log=lambda _line: None)
    assert index == demo.index_serially(batches)
    assert len(index.unreadable) == 2
    assert statistics.head == statistics.tail == 6 + 3  # files and marks
    if window is not None:
        assert statistics.peak_early < window


def test_difference_from_the_serial_run_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the serial run gives another index, the demo says so and its exit status is 1."""
    monkeypatch.setattr(demo, "index_serially", lambda _batches: demo.Index())
    assert demo.main([str(folder), "--workers", "1", "--quiet"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_quiet_prints_the_summary_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --quiet no directory is logged and no skipped file is named."""
    assert demo.main([str(folder), "--workers", "1", "--quiet"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("folder ")
    assert "skipped:" not in output


def test_what_was_skipped_is_listed_on_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the reasons, in order."""
    assert demo.main([str(folder), "--workers", "1", "--skipped"]) == 0
    listed = re.findall(r"^skipped +(.*)$", capsys.readouterr().out, re.MULTILINE)
    assert [reason.rpartition("/")[2] for reason in listed] == ["bytes.bin'", "dangling.txt'"]
    assert "not UTF-8 text" in listed[0]
    assert "not a regular file" in listed[1]


def test_trace_has_every_file_once(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Marks are not tasks; whoever cannot write it says so."""
    path = tmp_path_factory.mktemp("traces") / "job.json"
    assert demo.main([str(folder), "--workers", "1", "--quiet", "--trace", str(path)]) == 0
    tasks = timeline.read(path).all_tasks
    assert sorted(str(task.ticket) for task in tasks) == sorted(map(str, [0, 2, 3, 5, 6, 7]))
    assert sum(task.failed for task in tasks) == 2
    assert {task.name for task in tasks} == {"ordered_executor._documents.read_document"}
    assert demo.main([str(folder), "--quiet", "--trace", str(path / "no.json")]) == 2


def test_bar_is_drawn_on_a_terminal_and_lines_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Above the bar, which is gone in the end."""
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert demo.main([str(folder), "--workers", "1"]) == 0
    seen = capsys.readouterr()
    assert "/9" in seen.err  # six files and three marks
    assert ("5", "2", "letters") in finished_folders(seen.out)


def test_empty_folder_gives_an_empty_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without files is no error."""
    assert demo.main([str(tmp_path)]) == 0
    assert "0 indexed, 0 unreadable" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 names only")
def test_odd_file_names_can_be_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file name that is not UTF-8 is shown with escapes."""
    odd = bytes(tmp_path) + b"/odd-\xff"
    Path(odd.decode(errors="surrogateescape")).write_bytes(b"\xff")
    assert demo.main([str(tmp_path), "--workers", "1", "--skipped"]) == 0
    assert r"odd-\udcff" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no/such/folder"], "not a folder"),
        ([".", "--workers", "0"], "1 or more"),
        ([".", "--window", "x"], "--window"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it cannot use it names on standard error, and exits with 2."""
    with pytest.raises(SystemExit) as exit_info:
        demo.main(arguments)
    assert exit_info.value.code == 2
    assert complaint in capsys.readouterr().err
