"""Playlists count as all of their files, and the memory for one picture is limited."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import av
import pytest

from cloudconv.errors import InputError, OutputError, SettingsError
from cloudconv.media.input import demux
from cloudconv.media.input.fingerprint import input_fingerprint
from cloudconv.media.input.playlists import parts_of
from cloudconv.media.read.probe import probe
from cloudconv.media.write.target import check_output
from tests.helpers.factory import write_clip

LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na 1.ts\n#EXTINF:1,\nb.ts\n",
    "list.ffconcat": "ffconcat version 1.0\nfile 'a 1.ts'\n  file b.ts\nduration 1\n",
    "other.ffconcat": "ffconcat version 1.0\nfile a\\ 1.ts\nfile file:b.ts\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_changed_file_of_a_playlist_makes_another_input(tmp_path: Path, name: str) -> None:
    clip, part = tmp_path / name, tmp_path / "b.ts"
    clip.write_text(LISTS[name])
    for file in ("a 1.ts", "b.ts"):
        write_clip(tmp_path / file, 5, codec="mpeg2video")
    assert parts_of(clip) == [tmp_path / "a 1.ts", part]
    first = input_fingerprint(clip)
    assert input_fingerprint(clip) == first
    data, stat = part.read_bytes(), part.stat()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert input_fingerprint(clip) != first


@pytest.mark.parametrize("text", ["ffconcat version 1.0\nfile a.mkv\n", "#EXTM3U\na.mkv\n"])
def test_an_output_is_never_a_file_of_the_playlist(tmp_path: Path, text: str) -> None:
    clip, part = tmp_path / "list", write_clip(tmp_path / "a.mkv", 5)
    clip.write_text(text)
    linked = tmp_path / "linked.mkv"
    linked.hardlink_to(part)
    for output in (part, linked):
        with pytest.raises(OutputError, match="is the input itself"):
            check_output(output, overwrite=True, inputs=[clip])
    check_output(tmp_path / "b.mkv", overwrite=True, inputs=[clip])


CONCAT = [
    "file {}",
    "\t file\t{}  ",
    "file {} # a note",
    "file {} and more",
    "file '{}'",
    "file '{}",
    "file \\{}",
    "# first\r\n\nfile {}\rduration 1\n",
    "file b.ts\nfile {}\n",
    "file {}\n\x00file b.ts\n",
]
HLS = [
    "#EXTINF:1,\n{}\n",
    "#EXTINF:1\r#EXT-X-BYTERANGE:99999@0\r{}\r",
    "#EXTINF:1,\n# a note\n\n{} \t\n",
    "#EXTINF:1,\nfile:{here}/{}\n",
    "#EXTINF:1,\n{here}/{}\n",
    "#EXTINF:1,\nsub/../{}\n",
    "#EXTINF:1,\nb.ts\n#EXT-X-MAP:URI={},BYTERANGE=10@0\n#EXTINF:1,\nb.ts\n",
    '#EXTINF:1,\nb.ts\n#EXT-X-MAP:BYTERANGE="10@0",URI="{}"\n#EXTINF:1,\nb.ts\n',
]


@pytest.mark.parametrize("line", CONCAT + HLS)
def test_all_files_that_ffmpeg_reads_are_known(tmp_path: Path, line: str) -> None:
    """Without the file, FFmpeg reads something else; so FFmpeg reads the file."""
    head = "ffconcat version 1.0\n" if line in CONCAT else "#EXTM3U\n#EXT-X-TARGETDURATION:1\n"
    text = head + line.replace("{here}", str(tmp_path)).replace("{}", "a.ts")
    clip = tmp_path / ("list.ffconcat" if line in CONCAT else "list.m3u8")
    (tmp_path / "sub").mkdir()
    clip.write_bytes((text + ("" if line in CONCAT else "\n#EXT-X-ENDLIST\n")).encode())
    part = write_clip(tmp_path / "a.ts", 5, codec="mpeg2video")
    write_clip(tmp_path / "b.ts", 5, codec="mpeg2video")

    def read() -> list[int | None] | None:
        try:
            with av.open(f"file:{clip}", timeout=10) as opened:
                return [packet.size for packet in opened.demux(opened.streams.video)]
        except av.error.FFmpegError:
            return None

    before = read()
    assert part in parts_of(clip)
    assert before is not None
    output = tmp_path / "o.mkv"
    output.hardlink_to(part)
    with pytest.raises(OutputError, match=r"o\.mkv is the input .*a\.ts"):
        check_output(output, overwrite=True, inputs=[clip])
    part.unlink()
    assert "MAP" in line or read() != before


MEDIA = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n"
MASTER = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.m3u8\n"
SCRIPT = "ffconcat version 1.0\nfile a.ts\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.m3u8", MEDIA, r"l\.m3u8 has no line #EXT-X-ENDLIST"),
        ("l.m3u8", MEDIA.replace("\n", "\n#EXT-X-ENDLIST\n", 1), "no line #EXT-X-ENDLIST"),
        ("l.m3u8", MASTER, r"live\.m3u8 has no line #EXT-X-ENDLIST"),
        ("l.m3u8", f"{MEDIA}#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n", r"names b\.ts, .* no such file"),
        ("l.ffconcat", f"{SCRIPT}file b.ts\n", r"names b\.ts, .* no such file"),
        ("l.ffconcat", f"{SCRIPT}file 'a 1.ts'\n", r"names a 1\.ts, which FFmpeg refuses"),
        ("l.ffconcat", f"{SCRIPT}file ../a.ts\n", r"names \.\./a\.ts, which FFmpeg refuses"),
        ("a#1/l.ffconcat", SCRIPT, "rename the folder .*a#1"),
        ("l.ffconcat", SCRIPT + "#" * (1 << 24), "more than 16 MiB"),
    ],
    ids=range(9),
)
def test_a_playlist_that_ffmpeg_cannot_read_to_its_end_is_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    clip = tmp_path / name
    clip.parent.mkdir(exist_ok=True)
    clip.write_text(text)
    (tmp_path / "live.m3u8").write_text(MEDIA)
    write_clip(tmp_path / "a.ts", 5, codec="mpeg2video")
    with pytest.raises(InputError, match=said):
        probe(clip)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_pipe_in_a_playlist_is_refused_at_once(tmp_path: Path) -> None:
    clip = tmp_path / "l.ffconcat"
    clip.write_text("ffconcat version 1.0\nfile pipe.mkv\n")
    os.mkfifo(tmp_path / "pipe.mkv")
    with pytest.raises(InputError, match=r"names pipe\.mkv, which is a pipe"):
        probe(clip)


def test_the_parts_of_an_mlv_are_known(tmp_path: Path) -> None:
    for name in ("a.MLV", "a.M00", "a.M01", "b.M00"):
        (tmp_path / name).write_bytes(b"MLVI")
    assert parts_of(tmp_path / "a.MLV") == [tmp_path / "a.M00", tmp_path / "a.M01"]


def test_nested_and_circular_playlists_are_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    outer, inner = tmp_path / "all.m3u8", tmp_path / "sub" / "one.m3u8"
    outer.write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nsub/one.m3u8\n")
    inner.write_text('#EXTM3U\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:1,\na.m4s\n../all.m3u8\n')
    for name in ("init.mp4", "a.m4s"):
        (inner.parent / name).write_bytes(b"x")
    found = {part.resolve() for part in parts_of(outer)}
    assert found >= {inner, inner.parent / "init.mp4", inner.parent / "a.m4s"}


def test_a_small_file_with_huge_pictures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = tmp_path / "bomb.gif"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 12000, 12000, 0x80, 0, 0) + bytes(6)
    bomb.write_bytes(head + frame * 2 + b";")
    with pytest.raises(InputError, match=r"12000x12000.*CLOUDCONV_MAX_PIXELS"):
        probe(bomb)
    clip = write_clip(tmp_path / "clip.mkv", 2, size=(64, 48))
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", str(64 * 48 - 1))
    with pytest.raises(InputError, match="64x48"):
        probe(clip)
    monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", str(64 * 48))
    assert probe(clip).width == 64
    for wrong in ("abc", "-5", "0", "1e6", "²"):
        monkeypatch.setenv("CLOUDCONV_MAX_PIXELS", wrong)
        with pytest.raises(SettingsError, match=rf"CLOUDCONV_MAX_PIXELS must be .* '{wrong}'"):
            probe(clip)


def test_large_pictures_are_refused_if_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb, clip = tmp_path / "bomb.gif", write_clip(tmp_path / "clip.mkv", 2, size=(64, 48))
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", 4200, 4200, 0x80, 0, 0) + bytes(6)
    bomb.write_bytes(head + frame * 2 + b";")
    monkeypatch.setattr(demux, "free_memory", lambda: 10**9)
    with pytest.raises(InputError, match=r"4200x4200, which needs about 1\.8 GB .* 1\.0 GB are"):
        probe(bomb)
    monkeypatch.setattr(demux, "free_memory", lambda: 10)
    assert probe(clip).width == 64
    monkeypatch.setattr(demux, "free_memory", lambda: 2 * 10**9)
    assert probe(bomb).width == 4200
    webp = tmp_path / "bomb.webp"
    large = (12000 - 1).to_bytes(3, "little") * 2
    webp.write_bytes(b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + large + bytes(40))
    with pytest.raises(InputError, match="12000x12000"):
        probe(webp)
