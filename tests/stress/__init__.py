"""The fault hunt: random pipelines, random faults at random moments, and a check of every promise after each.

- `plan`: what a pipeline is made of; `draw`: one seed and a number give one plan.
- `tasks`: what runs in the workers; `cargo`: payloads, good and bad; `journal`: who was executed how often.
- `play`: plays a plan.  `readers` read, `mischief` shoots (`scoreboard` aims), `endings` shuts down; `record`: what was
  seen of all that.
- `programs`: plays a plan in a program of its own, and kills that program.
- `checks`, `outcomes`: what must be true of a record.  Pure: their own tests give them records that are wrong.
- `watchdog`: when something stands still: stacks of all processes, the seed and the plan.
- `table`: which faults were injected, and survived.
"""
