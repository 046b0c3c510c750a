"""Facts about the machine's memory."""

from cloudconv import host


def test_free_memory_is_within_the_limit_of_the_container(monkeypatch, tmp_path):
    files = [tmp_path / name for name in ("memory.max", "memory.current", "memory.stat")]
    for file, text in zip(
        files, ["3000000", "1000000", "anon 5\ninactive_file 500000"], strict=True
    ):
        file.write_text(text)
    monkeypatch.setattr(host, "_CGROUPS", ((str(files[0]), str(files[1]), str(files[2])),))
    assert host.free_memory() == 2_500_000
    files[0].write_text("max")
    assert host.free_memory() != 2_500_000
