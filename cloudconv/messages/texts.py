"""List the template of every message by its code; :mod:`cloudconv.messages` has the format.

In the catalogue an entry begins with its code. The further lines of an entry are indented, and a
line that begins with ``#`` is a heading.
"""

import re

CATALOGUE = """
# Warnings about the source
cut-off-index: The file is cut off: its index lists {listed} frames, and {found} exist.
cut-off-length: The file is cut off: its header says {promised:.2f} s, but its video ends at
  {end:.2f} s.
clock-restarts: The time stamps of the file start again {count:once|{count} times}; the frames after
  that follow without a gap.
interlaced: The video is marked as interlaced, and its pictures are used as they are. If moving
  edges look like combs, {--deinterlace=yes} makes two whole frames of each picture.
not-interlaced: The first {pictures} pictures of the video are not interlaced: {--deinterlace=yes}
  changes nothing.
several-videos: The file has several video streams; stream {used} is used.
linear-light: Pictures of linear light are converted to sRGB with 16 bits; values above 1 become 1.
pictures-missing: Numbers are missing among the pictures: {gaps:6}. The picture after a gap directly
  follows the one before.
frames-lost: {count} {count:frame|frames} could not be decoded and {count:is|are} missing.
frames-damaged: {count} {count:frame|frames} decoded from damaged data may look wrong.
frames-out-of-order: {count} {count:frame|frames} with a repeated or backward time stamp
  {count:was|were} left out.
aspect-changes: The sample aspect ratio changes from {before} to {after} at {time:.3f} s; the output
  has {used} throughout.
fields-change: The video changes from {before} to {after} at {time:.3f} s; its pictures are used as
  they are. {--deinterlace=yes} makes two whole frames of each interlaced picture.
nvdec-of-pictures: The CPU decodes, not NVDEC: the input is pictures.
nvdec-of-codec: The CPU decodes, not NVDEC: NVDEC is used for {known} only, not for {codec}.
nvdec-without-times: The CPU decodes, not NVDEC: NVDEC is used for {known} only, not for video
  without time stamps.
nvdec-no-gpu: The CPU decodes, not NVDEC: there is no NVIDIA GPU that can decode.
nvdec-not-built: The CPU decodes, not NVDEC: this FFmpeg has no NVDEC decoder for {codec}.
nvdec-other-frames: The CPU decodes, not NVDEC: NVDEC's pictures have another size or format than
  the file says.
nvdec-fails: The CPU decodes, not NVDEC: NVDEC could not decode a packet.

# Warnings about the output
few-players: Few players show {pix_fmt} in {container}, so the pictures are converted to
  {used}{alpha:? without transparency}. To choose another format, give {other} or {--encoder}.
kept-few-players: Few players show {pix_fmt} in {container}, which keeps the colours of the source
  exactly. For a file that most players show, give {other}.
encoder-few-players: Few players show {pix_fmt} from the encoder {first}, so the encoder {used} is
  used.
encoder-not-of-source: The codec {codec} of the source cannot be written in {container} here: {used}
  is used.
encoder-cannot-hold: The encoder {first} cannot hold {pix_fmt}{what:? (*)}: {used} is used
  instead.{other:? Few players show that; for a file that most players show, give *.}
encoder-cannot-hold-size: The encoder {first} cannot hold {pix_fmt} at the size {width}x{height}:
  {used} is used instead.
pix-fmt-changed: {who} cannot hold {pix_fmt} at {width}x{height}: the pictures are written as
  {used}.{alpha:? Their transparency is dropped.}
tones-not-mapped: The source is HDR ({curve}), which {container} cannot show: the pictures look flat
  and pale. An .mkv or .mp4 keeps HDR.
flat-pictures: The source is HDR ({curve}), which the {where} cannot show: its pictures look flat
  and pale.
dynamic-hdr: {name} metadata cannot be written to the output and is left out.
hdr10: {encoder} cannot hold the HDR10 metadata (mastering display, light levels); libx265 can.
odd-rotation: {container} cannot hold a rotation that is not a quarter turn: the pictures stay as
  they are stored.
streams-left-out: {container} cannot hold these parts of the source, which are left out: {kinds}.
times-lost: Picture files keep no times; the uneven timing is lost.
aspect-lost: {container} with {encoder} does not keep the sample aspect ratio {aspect}; players will
  show square samples.
aspect-ignored: Most programs show {container} with square samples: the pictures look too {looks},
  because the sample aspect ratio is {aspect}. An .mkv or .mp4 is shown right.
chapters-refused: The chapters are left out: FFmpeg cannot write them beside this audio.
time-code: The time code is left out: the frame rate varies.
sound-damaged: {stream} is damaged: {packets} of its packets could not be decoded, and silence is in
  their place.
clock-steps-back: The time stamps of {stream} step back: {packets} of its packets are moved to later
  times.
early-sound: {seconds:.3f} s of audio from before the first video frame are left out.
subtitles-plain: {container} cannot hold {codec} subtitles: {stream} becomes {becomes} and loses its
  styles.
sound-encoded: {stream} becomes {codec}, as {container} cannot hold it.
sound-slowed: {stream} becomes {codec}, because it is slowed down.
seldom-heard: Few players read {codec} in {container}: for {stream}, a .mov or .mkv is better.
sound-mixed-down: {stream} is mixed down to {layout}.
stream-refused: {stream} is left out: {container} cannot hold it.
stream-unreadable: {stream} is left out: it cannot be decoded and encoded again.
stream-at-old-speed: {stream} is left out: it would play at the old speed.
sound-at-old-speed: {stream} is left out: it would play at the old speed; {--audio=stretch} slows
  such a stream.
stream-not-continued: {stream} is left out: such streams do not continue with the new frames.
chapters-not-continued: {count} {count:chapter is|chapters are} left out: chapters do not continue
  with the new frames.

# Warnings about the machine
accelerator-failed: The CPU is used, because {device} failed a trial: {why}.
trial-differs: its results differ from those of the CPU by {difference:.2g}
cluster-without-gpu: The cluster has no GPU: its CPUs are used.
planned-without-gpu: This machine has no GPU, so its own memory limits how many frames are computed
  at once: give {--batch} for more of them on the GPUs of the cluster.
cluster-gpus-unused: The cluster's CPUs are used, not its GPUs: this machine plans the work and has
  no GPU.
tiles: A whole {width}x{height} frame does not fit into the {free} of memory that {device} has free:
  frames are computed in tiles of {tile} pixels.
batch-reduced: A batch of {asked} frames of {width}x{height} does not fit into the {free} of memory
  that {device} has free: the batch is {batch}.
precision-raised: 16-bit values overflowed on {device}: float32 is used instead, which is slower.
out-of-memory: {device} ran out of memory: the batch is now {batch}.
out-of-memory-tiles: {device} ran out of memory: frames are now computed in tiles of {tile} pixels.
nvenc-is-there: Encoding with {encoder} is the slowest stage, and the CPU does it: {--encoder=nvenc}
  lets the GPU encode.
training-in-parts: {device} ran out of memory: each batch is now computed in parts of at most
  {samples} {samples:sample|samples}, which is slower.
disk-space: The run may need about {megabytes:.0f} MB in {folder}, and less is free.

# Warnings about work that an earlier run left
work-unreadable: The unfinished work in {folder} cannot be resumed; the run starts from the
  beginning.
segments-damaged: {count} finished {count:segment|segments} in {folder} {count:is|are} damaged and
  made again.

# Warnings of interp
rate-kept: The source has {rate} fps already: its frames are only encoded again, and new ones only
  fill gaps.
subfolders-ignored: Folders inside {folder} are ignored: {names}.
subfolders-left-out: Folders inside {folder} are ignored: {names}. {--recursive=yes} includes their
  videos.
pictures-left-out: {folder} stands for its videos, and pictures in it are left out: {names:3}.
recursive-alone: {--recursive} is for folders of videos: give {--out_dir} too.
frames-dropped: {rate} fps is less than the {own} fps of the source: about {dropped:.0%} of its
  frames are left out.
long-gap: The picture at {begin:.1f} s lasts {seconds:.1f} s, and others mostly {usual:.2f} s:
  unless a cut follows, new frames spread the change to the next picture over the whole time. To
  keep still pictures of a screen recording still, repeat them first: ffmpeg -i IN -vf fps={rate}
  OUT.
few-frames-kept: At {rate} fps only one of {one_of} source frames is kept, and new frames replace
  the others{half:?; * fps keeps every second one}{whole:?; * fps keeps all source frames}.
cadence-kept: The video repeats frames: {cadence}. {--duplicates=refill} makes the motion even.
cadence: {repeats} of every {length} frames {repeats:repeats|repeat} the one before ({material} fps
  material in a {file} fps file)
finer-scale: In a trial on source frames {model} was {gain:.1f} dB better at scale 2, which takes
  about four times as long: {--scale=2} uses that scale.
preview-failed: The preview {path} could not be written: {why}.
adapting-failed: Adapting to the video failed: {error}
kept-aside: {error}
refused: A run would fail: {error}
adapting-gained-little: Adapting to the video gained too little ({gain:+.2f} dB on {frames}
  held-back {frames:frame|frames}, {least} dB are needed): the model is used as it is.
adapting-not-judged: The gain of adapting to the video cannot be measured: {error}
not-adapted: The model is not adapted to the video but used as it is.
clip-changed: {path} was changed while it was trained on: train again.
nothing-learnt: {path} was not written: there are no adapted weights.
output-locked: {path} cannot be replaced and is left as it is (is it open in another program?); the
  new output is {other}.
output-taken: Another program made {path} during the run: that file is left as it is, and the new
  output is {other}.

# Warnings of compare
held-back-only: Only held-back frames are scored: the model was adapted to the others.
frames-not-made: {method} could not make {count} {count:frame|frames}: their scores are null.
horizon-not-reached: No scene of the clip is long enough for {asked} frames ahead: the scores end at
  {reached}.

# Warnings of extrapolate and dream
context-short: {model} uses {needed} frames, and there are {found} in the video: the first one is
  repeated for those that are missing.
context-short-after-cut: {model} uses {needed} frames, and there are {found} since a cut: the first
  one is repeated for those that are missing.
last-scene: Only the last scene, from {start:g} s on, is used for the dream: {count}
  {count:frame|frames}.
loop-of-another-scene: The video begins with another scene, so the end cannot lead into it: leave
  the source out with {--only_new} for a loop of the dream alone.
forecast-did-not-hold: From new frame {first} on, things that move probably look torn, soft or out
  of place: in a trial on the last {tried} {tried:frame|frames} of the clip, which are known, the
  forecast of {model} held for {held}.
runs-backwards: Too few jumps between the frames of this clip go unseen, so many of the new
  frames play backwards, and a viewer will see the motion reverse.
dream-dies: From about frame {frame} on the dream no longer looks like the clip ({failed}):
  {advice}.

# Warnings of train
clips-left-out: Some of the {given} clips are left out: {unfit:3}.
clip-too-short: {clip} has at most {frames} frames in a row, and {needed} are needed
clip-too-small: {clip} is {width}x{height}, smaller than the crop of {crop}
clip-without-motion: {clip} hardly moves in that sequence
clip-ends: {clip} ends too soon, or repeats too many frames
clip-has-cut: {clip} has a cut in that sequence

# Parts of other messages
adapted: adapted to the video in {minutes:.1f} min: {gain:+.2f} dB on {frames} held-back
  {frames:frame|frames}
interrupted: interrupted; {kept: and }; the same command carries on.
interrupted-without-work: interrupted; this run has left no unfinished file
interrupted-with-files: interrupted; {left: and } could not be removed
task-drop: keeping one of every {kept}
task-horizon: a forecast from {context} of them
inputs-finished: {count} of {inputs} inputs are finished
work-kept: {folder} keeps {frames:?* finished frames}{both:? and }{weights:?adapted weights}
earlier-work-kept: {folder} keeps the work of an earlier run
checkpoint-kept: {path} keeps the training so far
error-with-work: {error} {kept}{helps:?; the same command carries on}.

# Errors
no-video: {path} holds no video, only {found}: give a file with a video stream.
no-stream: {path} holds no video, and no other stream: give a file with a video stream.
damaged-mp4: {path} is a damaged, incomplete or encrypted MP4 file (its index cannot be read): copy
  or record it again, or repair it first.
not-a-video: {path} is damaged, or is not a video: give a video that FFmpeg can read.
data-damaged: No frame of {path} can be decoded: its {codec} data is damaged, incomplete or
  encrypted ({packets} {packets:packet|packets} tried). Give a complete file that players show.
vmaf-failed: {program} could not measure VMAF ({why}): leave vmaf out of {--metrics}.
vmaf-failed-silently: {program} could not measure VMAF (it gave no reason): leave vmaf out of
  {--metrics}.
not-a-part: {text!r} is no part of a clip: give fractions of its length from 0 to 1, such as 0:0.75,
  or several, such as 0:0.3,0.5:1.
factor-fps-or-slowmo: Give exactly one of {--factor}, {--fps} and {--slowmo}, or {--slowmo} with
  {--fps}; got {given}.
no-factor: Give exactly one of {--factor}, {--fps} and {--slowmo}, or {--slowmo} with {--fps}; got
  none of them.
frame-fills-memory: {device} ran out of memory on a {width}x{height} frame{free:? with * free}:
  close other programs, or use another {--device} or a smaller copy of the video.
whole-frame-fills-memory: {device} ran out of memory on a {width}x{height} frame{free:? with *
  free}: allow tiles with {--tile=auto}, close other programs, or use another {--device} or a
  smaller copy of the video.
quiet-and-verbose: {--quiet} and {--verbose} contradict each other: give one of them.

# Errors of settings
unknown-metric: There is no metric called {name!r}: choose from {known}.
quality-and-model: {--quality} chooses a model, and so does {--model}: give one of them.
nothing-to-overwrite: {--overwrite} replaces the files of {--report} and {--save_model}: give one of
  these, or leave {--overwrite} out.
drop-and-horizon: {--drop} scores interpolation and {--horizon} scores forecasts: give one of them.
not-for-forecasts: {--scale}, {--batch}, {--tile}, {--fallback} and {--adapt} are for interpolation:
  leave them out with {--horizon}.
frames-below-horizon: {--frames} is {frames}, less than one forecast over a horizon of {horizon}:
  give more {--frames}, or a smaller {--horizon}.
every-without-horizon: {--every} chooses where forecasts begin: give {--horizon} too.
metric-not-for-forecasts: {name} needs every frame in order, which forecasts do not give: leave it
  out.
device-without-check: {--device} names the device that {--check} tests: give both.
frames-and-seconds: Give exactly one of {--frames} and {--seconds}; got both.
frames-or-seconds: Give exactly one of {--frames} and {--seconds}; got neither.
not-positive: {option} must be above 0, got {value:g}.
end-before-start: {--end} ({end:g} s) must come after {--start}.
workers-with-all-gpus: {--device=cuda:all} already means one worker for each GPU: leave {--workers}
  out.
device-of-cluster: A cluster gives each worker its own GPU: give {--device=cuda}, not {device}.
uhd-and-scale: {--UHD} means a {--scale} of 0.5, which contradicts {scale:g}: give one of them.
save-without-adapt: {--save_model} saves the weights that {--adapt} makes: give {--adapt} too.
factor-out-of-range: {option} must be above {least} and at most {most}, got {value:g}.
audio-without-slowmo: {option} is for slow motion: give {--slowmo} too.
copy-with-slowmo: In slow motion audio is dropped or stretched, never copied: leave {--audio=copy}
  out.
deinterlace-with-nvdec: {--deinterlace} works on frames that the CPU decodes: leave {--hwaccel} out.
preview-with-workers: {--preview} shows only frames that this process makes: leave {--workers} out.
not-accepted: {option} must be {accepted:or}, got {value}{near:? (did you mean *?)}.
number-above: {number} above {above}{most:? and at most *}
number-from: {number} of {least} or more
number-within: {number} from {least} to {most}
whole-number: a whole number
number: a number
not-text: {option} must be text or a path, got {value}.
not-a-switch: {option} must be True or False, got {value!r}.
number-too-long: {option} has too many digits: give a shorter number.
bad-value: {option}: {error}
steps-and-minutes: {--steps} and {--minutes} both limit the training: give one of them.
no-clips: There is nothing to train on: name clips, or give a {--recipe}.
unknown-option: There is no option {name}{near:? (did you mean *?)}: see --help.
no-model: There is no model to train: give {--model}, {--init} or {--recipe}.
not-a-pair: {value!r} is not of the form key=value.
not-safetensors: Weights are written as .safetensors: {path} needs that ending.
not-jpeg: {path} must have a name that ends in .jpg.
unknown-workers: There are no workers called {value!r}: use local, local:N (1 to {most} processes on
  this machine), ray or ray:ADDRESS.
not-a-wind: {value!r} is not of the form dx,dy: two numbers from -{most} to {most}, in pixels per
  frame.
not-an-interval: {value!r} is not a whole number from 1 to 1000, or a range of these such as 1-3.
not-a-rate: {value!r} is not a frame rate: give one such as 60, 59.94 or 60000/1001.
not-a-factor: {value!r} is not a factor: give one such as 2, 4 or 2.5.
not-a-time: {value!r} is not a time: give seconds (12.5), units (1m30s) or hours:minutes:seconds
  (1:02:03).

# Errors of the command line
no-working-folder: The working directory cannot be used ({why}): change to an existing directory.
for-one-input: {option} is for a single input: leave {--out_dir} out.
several-inputs: Several inputs need {--out_dir}, the folder for their outputs.
output-twice: The output is given twice, as OUT and with {--output}: give one.
json-and-video: With {--json} the result goes to stdout, so the video cannot: name an output file.
json-and-closed: The standard output is closed, so {--json} has no place for its result: open it, or
  leave {--json} out.
stdout-closed: The standard output is closed: name an output file, or send the video into a pipe.
stdout-is-terminal: The standard output is a terminal: name an output file, or send the video into a
  pipe.
not-a-text: {option} has a NUL or a character that cannot be stored, got {value!r}: type it again.
name-too-long: The name {name} is too long for a file: give a shorter one.
out-of-host-memory: there is not enough memory ({why}): close other programs, or raise the limit on
  memory (ulimit -v)
host-memory-full: there is not enough memory (none was left): close other programs, or raise the
  limit on memory (ulimit -v)
bug: unexpected, please report it as a bug ({what})
bug-without-details: unexpected, please report it as a bug ({what}); run again with {--verbose} for
  the details

# Errors of files
output-is-input: The output {path} is the input itself{input:? (*)}: give it another name or folder.
output-in-use: Another cloudconv is writing {path}: wait for it, or name another output.

# Errors of media
sound-not-copied: {container} cannot hold {stream} as it is: leave {--audio=copy} out, or write an
  .mkv.
minterpolate-too-small: minterpolate needs at least {least} pixels a side, and these pictures are
  {width}x{height}: leave it out of {--against}.
no-filter: This build of FFmpeg ({version}) has no filter {name}: leave {name} out, or install
  PyAV's own wheel, which has the filter.
not-deinterlaced: Pictures of {width}x{height} cannot be deinterlaced: leave {--deinterlace} out.
unknown-codec: {path} holds video in a codec that this FFmpeg cannot decode: convert it first.
bad-environment: The environment variable {name} must be a whole number above 0, got {value!r}.
too-many-pixels: {path} is {width}x{height}, and pictures of more than {most} pixels are refused,
  because they may fill the memory: set {variable} to allow more.
too-large-for-memory: {path} is {width}x{height}, which needs about {needed:.1f} GB of memory, and
  {free:.1f} GB are free: close other programs, use a smaller copy, or set {variable} to try it
  anyway.
empty-file: {path} is empty (0 bytes): give a complete video file.
no-file: There is no file {path}: check the name.
no-permission: {path} cannot be read: permission denied. Change its permissions.
ends-before-frame: {path} ends before its first frame: give a complete file.
unreadable-video: {path} cannot be read as a video ({why}): give a video that FFmpeg can read.
playlist-folder: The playlist {path} is in a folder with # or ? in its path, where FFmpeg would read
  other files than those named: rename the folder {folder}.
playlist-unsafe-name: The playlist {path} names {name}, which FFmpeg refuses: give a name relative
  to the folder of the playlist, of letters, digits, _, - and . alone.
playlist-is-live: The playlist {path} has no line #EXT-X-ENDLIST, so more files may follow: when the
  recording is complete, add that line at the end.
playlist-names-pipe: The playlist {path} names {name}, which is a pipe or a device: name files
  alone.
playlist-part-missing: The playlist {path} names {name}, and there is no such file.
playlist-too-long: The playlist {path} has more than {megabytes} MiB: split the list.
input-changed: {path} was changed while it was read, so the parts of the output do not belong
  together: run the command again.
read-error: {path} cannot be read to its end ({why}): check the disk or the connection, and run the
  command again.
unreadable: {path} cannot be read ({why}): check its name and permissions.
pattern-of-both: The pattern {path} matches videos and pictures, such as {video} and {picture}: give
  the pictures alone as {pattern}, or put them into separate folders.
folder-of-videos: The folder {path} holds videos: give one of them, or give all of them to interp
  with {--out_dir}.
pattern-of-videos: The pattern {path} matches videos: give one of them, or give all of them to
  interp with {--out_dir}.
no-picture-matches: No picture matches {path}: check the pattern and the folder.
folder-without-pictures: The folder {path} holds no pictures and no videos: give a video file, or a
  folder of PNG, JPEG, TIFF … files.
no-folder: There is no folder {folder}: check the name.
is-an-address: {address} is an address, and only files on this machine are read: download it first.
is-a-pipe: {path} is a named pipe: give a file, or send the video to standard input (named -).
nothing-arrived: Nothing came through standard input: send a video file into it.
copy-not-kept: The data from standard input cannot be stored in {folder} ({why}): free some space
  there.
rate-of-video: {path} has times of its own, and {--input_fps} is for pictures only: leave it out.
unusable-pixel-format: The pixel format {name}{path:? of *} has samples that do not fit whole
  numbers of at most 16 bits: convert to a format such as yuv420p or yuv444p10le.
picture-changes: {path} changes from {before} to {after} at {at:.3f} s: cut it there, or convert it
  to one size and pixel format first.
no-frame-decoded: No frame of {path} can be decoded: the file is damaged. Give a complete file.
part-without-frame: {path} lasts {seconds:.3f} s and has no frame in the part that was given: choose
  another part.
rate-changes: The frame rate changes at {at:.3f} s, and an input that is read while it arrives
  cannot be checked for that first: write the input to a file.
no-vmaf: VMAF needs an FFmpeg with libvmaf: run pip install "cloudconv[vmaf]".
no-format: The output {path} has the ending {suffix}, which names no format: use one of {endings: },
  or {pattern} for pictures.
no-ending: The output {path} has no ending, which names no format: use one of {endings: }, or
  {pattern} for pictures.
one-picture: {path} names one picture: for a sequence give {pattern}.
encoder-not-started: {encoder} did not start with {pix_fmt} and {options} ({lines}): give other
  options, or another {--encoder}.
no-options: no options
encoder-refuses-option: {encoder} does not accept the value of {key} ({line}): give another value.
no-crf: {encoder} has no {--crf}: set its quality with {--encoder_option}, or use libx264.
crf-out-of-range: {option} is out of range: {encoder} takes 0 to {most:g}.
unknown-preset: {encoder} has no preset {preset!r}: choose one of {known}.
no-presets: {encoder} has no presets: leave {--preset} out.
unknown-encoder-option: {encoder} has no option {key!r}{near:? (did you mean *?)}.
encoder-cannot-write: {encoders: and } in {container} cannot write {pix_fmt} at {width}x{height}:
  choose one of {taken}.
no-nvenc: No encoder of NVIDIA GPUs can be used here in {container}: use another container (.mp4 and
  .mkv hold all), or another encoder.
fixed-encoder: {container} is always written by {encoder}, so {given!r} cannot be used: leave
  {--encoder} out.
not-for-video: {encoder!r} encodes {kind}, not video: choose an encoder of video.
encoder-not-in-container: {container} cannot hold what {encoder} writes: use {takes}, or another
  container (.mkv holds most).
encoder-size: {encoders: and } cannot encode pictures of {width}x{height}: choose another encoder or
  output.
unknown-encoder: There is no encoder "{name}" here: choose one, such as {known}.
unknown-pix-fmt: There is no pixel format "{name}" that can be written: choose one such as yuv420p
  or yuv444p10le.
segment-encoded-otherwise: The finished segment {path} was encoded with other parameters than this
  output: start again with {--resume=no}.
segment-damaged: The finished segment {path} was damaged on the disk and is deleted: run the command
  again.
frame-too-long: The frame at {time:.3f} s lasts {lasts:.0f} s, and a frame in {container} lasts at
  most {most:.0f} s with these times: write an .mkv instead, or choose a part without the gap.
gap-too-long: The frames around {time:.3f} s last {lasts:.0f} s, and {container} stores at most
  {most:.0f} s there: write an .mkv instead, or choose a part without the gap.
no-frames: There are no frames to write, so {path} was not made: choose another part.
output-incomplete: {path} is incomplete: it holds {found} of {written} frames. Is the disk full?
last-frame-misplaced: {path} is wrong: its last frame is at {found:.3f} s instead of {expected:.3f}
  s. Please report this.
rate-beyond-files: A rate of {rate:g} frames a second is more than files can store: choose another;
  interp does so with {--fps}.
rate-too-low: At {rate} frames a second each frame lasts {lasts:.0f} s, and a frame in {container}
  lasts at most {most:.0f} s: write an .mkv instead, or choose a higher rate; interp does so with
  {--fps}.
rate-beyond-container: A {container} plays at most {most} frames a second, not {rate}: write an .mp4
  instead.
frames-too-close: A {container} plays at most {most} frames a second, and some of these frames are
  closer: write an .mp4 instead.
output-is-folder: The output {path} is a folder: give the name of a file.
output-among-input: The output folder {folder} holds the input pictures: use another folder.
pictures-exist: Pictures named {path} exist already: replace them with {--overwrite=yes}.
disk-full: The disk is full, so {path} could not be finished: free some space, or name an output on
  another disk.
file-too-large: {path} grew beyond the largest file allowed here: write it to another disk.
not-writable: {path} is not writable: choose another folder, or change its permissions.
appeared: Another program made {path} during the run, and that file is left as it is: name another
  output.
folder-missing: The folder of {path} does not exist: make it first.
reader-ended: The program that reads standard output ended before the output was complete.
not-written: {path} could not be written ({why}): choose another folder.
plan-damaged: The plan of the unfinished work in {folder} is not one of cloudconv: start again with
  {--resume=no}.
lock-taken: {path} cannot be locked: {lock} is not a lock that cloudconv made. Delete it, or move it
  away.
output-exists: The output {path} exists already: replace it with {--overwrite=yes}.
second-name-exists: The output {path} exists already: replace it with {--overwrite=yes}. If it is an
  input too, give {--out_dir}.

# Errors of models
not-finite: The model made a picture{seconds:? at * s} with values that are not finite, so nothing
  is written: try {--precision=fp32}, or other weights.
no-scale-option: The model {model} has no scale option, and scale {scale:g} was given: leave
  {--scale} at 1, or choose another model.
unknown-scale: The scale {scale} is not one of {known}: choose one of these.
bad-timestep: A timestep must be from 0 to 1, got {timestep!s:.60}.
two-batches: A model takes two batches (B, 3, H, W) of one shape, got {first!s} and {second!s}.
timestep-for-each: A model takes one timestep for each of {count} pictures, got {shape!s}.
bad-context: A floating-point tensor (B, T, 3, H, W) with T of at least {frames} is needed, got
  {got}.
tensor-without-samples: A tensor must have at least one picture, with all samples in memory: empty,
  sparse, nested and quantized tensors, and tensors on the device meta, are not accepted.
picture-reused: Picture {number} is in the memory of an earlier picture, which has not been returned
  yet: give a copy of each picture.
picture-not-finite: A picture has samples that are not finite (NaN or infinity): replace these
  first.
picture-range: Floating-point pictures have samples from 0 to 1, got {least:.4g} to {most:.4g}:
  divide samples from 0 to 255 by 255, or clip them.
outer-pictures-shape: The frames before and after a pair must have the shape of the pair, (B, 3, H,
  W).
picture-shape: Pictures are (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, uint8, uint16 or
  floating point from 0 to 1, got {shape!s} {dtype}.
several-pictures: Several pictures are needed, and this is one: give a list, or one array or tensor
  (B, H, W, C) or (B, C, H, W).
batch-lengths: The batches have {first} and {second} pictures: give batches of one length.
pictures-of-one-kind: The pictures are of different kinds: give two pictures, or two batches, of one
  kind.
picture-type: Pictures are NumPy arrays, PyTorch tensors or PIL images, got {type}.
picture-differs: Picture {number} is not like the first: {shape!s} {dtype} is needed, got {found}.
image-mode: PIL images may be {known}, got {mode}: convert it with convert('RGB').
unknown-model: There is no model "{name}"{near:? (did you mean *?)}: choose one of {known}.
model-of-other-task: {name} is a model to {task}, and one to {needed} is needed: choose one of
  {known}.
network-unknown: {path} holds no network that cloudconv knows (its first tensors: {first:3}): give a
  file that 'cloudconv train' wrote, or one of {known:or}.
network-differs: {path} looks like {family} {version}, and some of its tensors differ ({unfit:3}):
  give the file of a version that the authors published.
network-not-run: {path} holds {family}, which cloudconv does not run ({reason}): give a file of
  {known:or}.
only-middle: The model {model} makes only the middle of two frames, so the factor must be a power of
  two: give 2, 4 or 8, or use a model for any time: {known:3}.

# Errors of added models
bad-model-name: "{name}" cannot be the name of a model: use up to 32 lower-case letters, digits,
  dots, dashes and underscores, and begin with a letter or digit.
shipped-model-name: {name} is a model of cloudconv itself: choose another name.
shipped-model-stays: {name} is a model of cloudconv itself: only added ones can be removed.
add-needs-file: {name} is not a file of weights: give a file whose name ends in {known:or}.
add-needs-name: A model is added under a name: give one with {--name}.
name-without-add: {option} is for a model that is added: give its file with {--add}.
one-of-models: {options: and } cannot be given together: give one of them.
model-exists: There is a model {name} already: replace it with {--overwrite=yes}.
no-added-model: You have added no model {name!r}{near:? (did you mean *?)}{known:?; there are: *}.
added-weights-bad: The weights of {model} are {state}: add the model again with 'cloudconv models
  --add'.
weights-do-not-fit: The weights {weights} do not fit the model {model}: they belong to another model
  or version. Use the ones that come with this cloudconv.

# Errors of devices and memory
unknown-precision: There is no precision called {name!r}: use auto, {known}.
precision-absent: this device does not compute in {precision}
fp16-on-cpu: fp16 is for GPUs: on the CPU use {--precision=bf16} or fp32.
no-bf16: This GPU has no bf16: use {--precision=fp16} or fp32.
no-device: {device} was given, but this machine has no working {kind}, or this PyTorch was built
  without it: use {--device=cpu}, or install a build of PyTorch that has it.
gpu-number: {device} was given, but the GPUs here are numbered 0 to {last}.
not-one-device: There is no device "{name}": choose auto, cpu, cuda, cuda:N or mps.
unknown-device: There is no device "{name}": choose auto, cpu, cuda, cuda:N, cuda:all or mps.
device-fails: {device} does not work with this PyTorch ({why}): use {--device=cpu}.
bad-batch: A batch of {batch} was given: use auto, or 1 or more.
tile-too-small: Tiles of {tile} pixels were given, and the model {model} needs {least} or more: use
  such a size, or auto.

# Errors of weights
weights-bad: The weights of {model} are {state}: reinstall cloudconv.
not-in-manifest: The weights manifest has no entry {name}: reinstall cloudconv.
weights-changed: The weights file {path} is damaged (its SHA-256 is not the manifest's): reinstall
  cloudconv.
weights-not-a-file: The weights {path} are not a file: name a file of weights.
weights-empty: {path} is empty: copy or download the file again.
weights-of-no-format: {path} is neither a PyTorch file nor a safetensors file: give a network's
  weights, such as flownet.pkl.
weights-with-code: {path} contains more than weights ({name}), and cloudconv runs no code of a file:
  give a file with the state_dict alone.
weights-script: {path} is a TorchScript program, and cloudconv runs no code of a file: give a file
  with the state_dict alone.
weights-too-large: {path} is larger than any known network, or reading takes more than 2 GiB or
  20 s: give a file with the state_dict alone.
weights-without-names: {path} contains no tensors by name: give a file with the state_dict of a
  network.
metadata-damaged: The metadata of {path} is damaged: make the file again.
weights-cut-off: {path} is cut off or damaged: make the file again, or copy or download it again.
weights-missing: The weights file {path} is missing: check the path, or reinstall cloudconv.
not-weights: {path} is damaged: {name} holds values that are not finite floating-point numbers. Make
  the file again.
manifest-damaged: The weights manifest {path} is damaged: reinstall cloudconv.

# Errors of unfinished work
frame-gone: {path} has no frame at {time:.3f} s any more: the file has changed, or it is damaged and
  each reading gives other frames. Repair the file, or convert a copy of it, and start again; interp
  needs {--resume=no} then.
other-plan: The finished work in {folder} belongs to another plan of this video, with other frames
  or times: start again with {--resume=no}.
folder-taken: {folder} is needed for unfinished work, and cloudconv has not made it: move it away,
  or name another output.
work-folder-deleted: {folder} was deleted while the output was being made: run the command again.
segment-incomplete: {path} is incomplete: it has {size} of {bytes} bytes. Is the disk full?
no-room-to-join: Joining the finished frames needs {takes} more on the disk, and {free} are free:
  free some space.
work-of-other-settings: {folder} holds {frames} finished frames of a run that differs in {changed}:
  finish that work first, name another output, or delete that work with {--resume=no}.
weights-of-other-settings: {folder} holds weights that were adapted by a run that differs in
  {changed}: finish that work first, name another output, or delete that work with {--resume=no}.

# Errors of jobs
not-settings: {name} is not the settings class of a command{estimate:? with an estimate}: give one
  such as InterpSettings.
no-frame-scored: No frame of {path} could be scored, because of its cuts: choose another part, or
  give {--scene_cut=off}.
no-forecast-scored: No forecast on {path} could be scored, because of its cuts: choose another part,
  or give {--scene_cut=off}.
too-few-to-score: {path} has {frames} {frames:frame|frames}{part:? in that part}; {task} needs at
  least {least}.
scale-for-none: None of the models {models} has {--scale}: leave it at 1.
no-such-mode: No mode uses both {options: and }: leave one of them out.
too-short-for-mode: {path} has {count} {count:frame|frames} to continue from, and the mode {mode}
  needs {least}: use the mode {instead}.
too-short-after-cut: {path} has {count} {count:frame|frames} after its last cut, and the mode {mode}
  needs {least}: use the mode {instead}.
option-of-other-mode: The mode {mode} does not use {option}: leave {option} out, or choose the mode
  {takers: or }.
at-after-end: {path} lasts {seconds:g} s, so it has no frame at {at:g} s: choose an earlier time.
one-frame-to-forecast: {path} has a single frame to forecast from, and {model} needs two or more:
  forecast from another time with {--at}, or give a longer video.
one-frame-after-cut: {path} has a single frame after a cut at {cut} s, and {model} needs two or
  more: forecast from another time with {--at}, or give a longer video.
no-frame-before: {path} has no frame before {seconds:g} s: choose a later time.
not-a-folder: {folder} is not a folder, so nothing can be written there: name another folder.
same-output-name: {names: and } have the same output name in {folder}: rename one of them, or
  write them to separate folders.
adapted-weights-differ: The adapted weights in {folder} are not the weights that made the finished
  frames: start again with {--resume=no}.
factor-on-variable-rate: {path} has a variable frame rate, for which a factor of {factor:g} gives no
  definite times: give a whole number, or a fixed rate with {--fps}.
too-many-frames: {path} shows frames for very long: its {frames} frames last {seconds:.0f} s, which
  is {count} frames at {rate} fps, and only {usual} at {usual_rate}. Give a whole {--factor} to
  divide each gap, or {--many_frames=yes} to make all frames.
too-many-frames-arrive: {path} shows a frame for very long: its first {frames} frames last
  {seconds:.0f} s, which is {count} frames at {rate} fps, and only {usual} at {usual_rate}. Save
  the input as a file first, which a whole {--factor} divides gap by gap, or give
  {--many_frames=yes} to make all frames.
usual-rate: their usual rate
slowest-rate: one frame a minute
single-frame: {path} has a single frame, and interpolation needs two or more: give a longer video or
  part.
no-frame: {path} has no frame, and interpolation needs two or more: give a longer video or part.
not-joinable: {path} has a format that cannot be joined from segments: leave {--workers} and
  {--device=cuda:all} out, or write an .mp4 or .mkv.
preview-among-files: The preview {path} would be in a folder of pictures of the input or output:
  choose another folder.
stdin-without-name: stdin has no file name from which to name the output: name the output, or an
  input file.
bad-threshold: The scene-cut threshold {threshold} is out of range: give auto, off, or a number from
  0 (cut everywhere) to 1 (never).

# Errors of training
no-window: In {tries} tries no usable sequence of {frames} frames was found; the last try: {why}.
  Give other clips, or for train a smaller {--interval} or {--min_motion}.
folder-without-clips: The folder {path} holds no video and no pictures: give a folder of clips, or
  files.
no-usable-clip: No clip can be used: {unfit:3}. Give longer or larger clips, or for train a smaller
  {--crop} or {--interval}, or fewer frames at once.
nothing-to-validate: No frames to validate on could be read; the last try: {why}. Give other clips;
  train takes them with {--val}.
save-over-model: {--save_model} would replace {model}, which is adapted: name another file.
checkpoint-damaged: The checkpoint {path} is damaged: delete it, or start again with {--resume=no}.
sample-fills-memory: {device} ran out of memory on a single sample: close other programs, or make
  the samples of train smaller with {--crop}.
loss-not-finite: The loss is not a number any more at step {step}: use {--precision=fp32}, or for
  train a lower {--learning_rate}. The best weights so far are kept.
adversarial-alone: The loss {name} alone judges only whether a picture looks real, not whether it is
  the right one: add another loss, such as l2:1,gdl:1,adversarial:0.05.
unknown-loss: There is no loss {name!r}: choose from {known}.
bad-loss-weight: The weight {number!r} of the loss {name} is not a number above 0: give one, such as
  {name}:0.5.
loss-twice: The loss {name} is given twice in {text!r}: name each loss once.
unknown-training-setting: The recipe {recipe} has {name!r}, which is not a training setting: correct
  that name.
in-recipe: The recipe {recipe}: {error}
recipe-not-toml: The recipe {path} is not TOML ({why}): correct that line.
nothing-to-train: {model} has no weights, so there is nothing to train: choose a network.
gap-without-middle: {model} makes only the frame in the middle of two, and a {--gap} of {gap} has no
  middle frame: give an even number.
checkpoint-foreign: The checkpoint {path} is damaged, of another version, or another program's file:
  move it away, or name another output.
nothing-fits: No tensor of the weights {init} ({other}) has the name and shape of one of {model}:
  start from other weights, or without {--init}.
all-frozen: Every tensor is frozen, which leaves nothing to train: freeze fewer tensors.
no-discriminators: {model} has no discriminators, so the adversarial loss cannot train it: leave
  that loss out, or choose multiscale-gan.
checkpoint-of-other-clips: {path} belongs to a run with other content of {names:3}: give the same
  files, or start again with {--resume=no}.
weights-appeared: Another program made {path} during the training, and that file is left as it is.
  The training so far is kept in {checkpoint}: move the file away and run the command again.
checkpoint-of-other-settings: {path} belongs to a run with other settings ({option} was {before},
  now {now}): give the same settings, or start again with {--resume=no}.
unknown-tensor: No tensor of {model} begins with {beginning!r}, so none can be frozen: the tensors
  are {first}, … {last}.
nothing-held-back: The whole clips are used for training, which leaves nothing to validate on: give
  {--val}, {--val_part}, or a smaller {--train_part}.

# Errors of workers
workers-died: Worker processes ended {tries} times on the same frames (exit code {code}), most
  likely for lack of memory: use fewer workers.
no-machine: No machine of the cluster has {cores} cores{gpu:? and a GPU}: give fewer cores with
  {--threads}.
no-gpu-in-cluster: {--device} names a GPU, but no machine of the cluster has one: use
  {--device=cpu}, or start Ray on a machine with a GPU.
no-cluster: There is no Ray cluster at {address}: start one with 'ray start --head', which prints
  its address, or leave the address out.
cluster-refuses: The Ray cluster cannot be joined ({why}): install the versions of Python and Ray
  that the cluster has.
no-ray: A cluster needs Ray, which is not installed: run pip install "cloudconv[cluster]".
frames-lost-by-cluster: The cluster lost the same frames {tries} times ({why}): 'ray status' shows
  its machines.
not-a-single-file: {path} is not a single file, and a cluster can share only a file: make a video of
  it first.
"""

TEXTS = dict(re.findall(r"^([\w-]+): (.*)$", CATALOGUE.replace("\n  ", " "), re.MULTILINE))
