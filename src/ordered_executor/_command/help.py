"""The page that `--help` shows: one screen."""

PAGE = """\
Usage: ordered-executor [OPTIONS] MODULE:FUNCTION [FILE ...]
       ordered-executor [OPTIONS] [FILE ...] -- PROGRAM [ARGUMENT ...]

Runs a Python function, or a program, for each line; in parallel, with the
output in the order of the input.  - and no FILE: the standard input.

  ordered-executor logs:parse access.log >parsed     logs.py is in this folder
  ordered-executor --json shop:price <in >out        a JSON value in, one out
  ordered-executor --csv --dead-letter bad shop:row orders.csv
  ls *.wav | ordered-executor --progress -- ffmpeg -i {} -y {.}.mp3
  ordered-executor --block 4M --pipe big.log -- grep -c ERROR

What a record is
  --bytes           bytes, not text    --csv, --tsv  columns, as arguments
  --json            a JSON value       -0, --null    records end with NUL
  --lines N         N lines, a list    --block SIZE  a block of whole lines
Programs            {} {.} {/} {//} {/.} {#} {%} {1} … as in GNU parallel
  --pipe            its standard input is the record: a block (1M), or N lines
  --shell           the words after -- are a script for the shell
Failures            are reported as FILE:LINE: Error: message
  --dead-letter F   write records that fail to a file
  --retries N       run a record that fails again    --timeout SECONDS  end it
  --halt WHEN       soon or now, [,fail=N|N%]        --stop  now,fail=1
Long runs
  --joblog F        a row for each record, in GNU parallel's columns
  --resume          go on where the job log ends; the output is cut to fit
  --resume-failed   the same, and run again what failed
  --progress        a bar              --trace F     who ran what, when
Output
  -o, --output F    write to a file    --tag         put the record in front
  --results FOLDER  files for each     --dry-run     say what would be run
Size
  -j, --workers N   processes          --window-bytes SIZE  held in memory
  --version   --help   --completion bash|zsh|fish
"""
