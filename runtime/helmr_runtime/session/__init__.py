"""One live session: its mailbox, its log, the code of its run, and the times that it waits for."""
