"""The routes by noun, declared with FastAPI; `helmr_runtime.http.route` tells what happens around each."""
