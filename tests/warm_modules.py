"""What a forked `helmr` finds imported. `multiprocessing` imports this in the process that it forks."""

import encodings.idna
import gc

import uvicorn.lifespan.off

import helmr.cli.main
import helmr.cli.next
import helmr.cli.up
import helmr.steps
import helmr_console.app
import helmr_runtime.launchers.deploy_cluster
import helmr_runtime.launchers.foreground
import helmr_runtime.launchers.in_process
import helmr_runtime.launchers.supervisor

__all__ = ["encodings", "helmr", "helmr_console", "helmr_runtime", "uvicorn"]

# A collection would copy the pages of all that is loaded into each child.
gc.collect()
gc.freeze()
