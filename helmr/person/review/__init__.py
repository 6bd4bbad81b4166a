"""Pure state machines and plain words for a person who answers waits.

Keys and events go in, what is to be shown and done comes out. The console, `helmr next` and the other commands that
answer draw it and do the reading and sending; nothing in here knows a terminal, a loop or the gateway.

- `words`: time, people and waits as a person reads them.
- `agreement`: who may answer, who agrees with whom, and what the next one's form starts with.
- `queue`: which wait comes next, who has claimed it, and how a list keeps its order while it is read.
- `sending`: one answer on its way: filled, reviewed, pending with undo, sent.
- `outcome`: what became of it, and how another's answer differs.
- `batch`: many waits with one answer.
- `personal`: what a person keeps on their machine: drafts, snoozes, last answers.
"""
